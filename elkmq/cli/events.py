"""``enqueue``, ``listen`` and ``request``."""

from __future__ import annotations

from typing import Any

import click

from elkmq import Delivery, JSONParseError, Send
from elkmq._core.outgoing import outgoing
from elkmq._sync._concurrency import stop_signals
from elkmq.cli import feed
from elkmq.cli.common import Command, Setup, examples, pass_setup
from elkmq.cli.output import Output, Progress, moment, shown
from elkmq.cli.running import Runner

PREFETCH = 10
"""Events that `listen` takes ahead."""


def _headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    pairs = [value.partition("=") for value in values]
    if not all(name and separator for name, separator, _ in pairs):
        raise click.BadParameter("give NAME=VALUE")
    return {name: value for name, _, value in pairs} or None


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq enqueue jobs resize cat.png --delay 60",
        "elkmq enqueue jobs resize - < picture.json        the payload from standard input",
        "elkmq enqueue jobs resize --lines < names.txt     an event per line",
        "elkmq enqueue jobs --jsonl < events.jsonl         lines such as",
        '    {"action": "resize", "payload": "cat.png", "priority": 5}',
    ),
)
@click.argument("queue")
@click.argument("action", required=False)
@click.argument("payload", required=False)
@click.option("--lines", is_flag=True, help="Each line of standard input is the payload of an event.")
@click.option("--jsonl", is_flag=True, help="Each line of standard input is an event, as a JSON object.")
@click.option(
    "--timeout",
    type=int,
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="The event's own: how long anybody waits for a response, 1 to 65535.",
)
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="Hand it out no sooner.")
@click.option("--priority", type=int, default=0, metavar="N", help="0 (default) to 255, higher is more urgent.")
@click.option("--ttl", type=float, metavar="SECONDS", help="Time to live; default: the queue's.")
@click.option("--header", "headers", multiple=True, callback=_headers, metavar="NAME=VALUE", help="May be repeated.")
@click.option(
    "--dedupe-id",
    metavar="TEXT",
    help="Enqueue nothing if an event of this id came lately; with lines, the "
    "line's number follows it, so that a file sent again after a failure adds only what is missing.",
)
@pass_setup
def enqueue(
    setup: Setup, /, *, queue: str, action: str | None, payload: str | None, lines: bool, jsonl: bool, **how: Any
) -> None:  # fmt: skip
    """Put events on a queue.

    ACTION says what is asked for or what happened, PAYLOAD is any text; `-` reads it from standard input.
    """
    if ((lines or jsonl) and payload is not None) or (lines and jsonl):
        raise click.UsageError("PAYLOAD, --lines and --jsonl exclude each other")
    if action is None and not jsonl:
        raise click.UsageError("missing argument ACTION")
    defaults = feed.Defaults(action, **how)
    outgoing(defaults.send(None))  # what is wrong with all of them is a usage error, not one of the first line
    output = setup.output
    with setup.queue(queue) as opened:
        if lines or jsonl:
            with Progress("enqueueing") as progress:

                def accept(sends: list[Send]) -> None:
                    opened.enqueue_many(sends)
                    progress.advance(len(sends))

                feed.feed((feed.json_line if jsonl else feed.text_line)(defaults), accept)
            output.document({"enqueued": progress.done}, f"enqueued {progress.done:,} events")
            return
        send = defaults.send(feed.whole_input() if payload == "-" else payload)
        [timestamp] = opened.enqueue_many([send])
        uuid = str(send.event.uuid)
        output.document({"uuid": uuid, "timestamp": timestamp}, f"enqueued {uuid} at {moment(timestamp)}")


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq listen jobs",
        "elkmq listen jobs --json --count 10 | jq .payload",
        "elkmq listen jobs --run './resize --quiet'",
        "elkmq listen echo --run cat                       answers every request with its payload",
    ),
)
@click.argument("queue")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="End when none came for so long; 0: end when there is none.",
)
@click.option(
    "--lease",
    type=float,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="After so long without a sign of this process its events go to others.",
)
@click.option(
    "--run",
    "program",
    metavar="COMMAND",
    help="Run it for each event, without a shell: payload on its "
    "standard input, ELKMQ_ACTION, ELKMQ_UUID and ELKMQ_FAILED in its environment. Status 0 acknowledges (and "
    "what it printed is the response, where one is awaited); any other sends the event back, to be tried again.",
)
@pass_setup
def listen(
    setup: Setup, /, *, queue: str, count: int | None, timeout: float | None, lease: float, program: str | None
) -> None:  # fmt: skip
    """Take events from a queue and print them, until Ctrl-C.

    Each is acknowledged once it is printed; what was taken ahead is handed back at the end. A request that is only printed
    gets no response: see --run.
    """
    output, runner = setup.output, Runner(program) if program else None
    with (
        setup.queue(queue, lease=lease) as opened,
        opened.consumer(prefetch=min(count or PREFETCH, PREFETCH) if runner is None else 1) as consumer,
        stop_signals(consumer.stop, True),
    ):
        done = 0
        while done != count:
            delivery = consumer.get(timeout)
            if delivery is None:
                break  # Ctrl-C, or none in time
            if runner is not None:
                runner.handle(delivery)
            else:
                _print(output, delivery)
            done += 1


def _print(output: Output, delivery: Delivery) -> None:
    event = delivery.event
    text = f"{moment(delivery.timestamp)}  {shown(event.action)}"
    try:
        output.line(text if event.payload is None else f"{text}  {shown(event.payload)}", _as_dict(delivery))
    except BaseException:
        delivery.requeue(failed=False)  # nobody has seen it
        raise
    delivery.ack(wait=False)


def _as_dict(delivery: Delivery) -> dict[str, Any]:
    try:
        headers = delivery.headers
    except JSONParseError:
        headers = {}
    return {
        "id": delivery.id,
        "unique_id": delivery.unique_id,
        "timestamp": delivery.timestamp,
        **delivery.event.to_dict(),
        "headers": headers,
        "priority": delivery.priority,
        "handed_out": delivery.handed_out,
        "failed": delivery.failed,
        "awaited": delivery.awaited,
    }


@click.command(
    cls=Command,
    epilog=examples("elkmq request jobs greet Ada", "elkmq request jobs greet - --timeout 2.5 < names.json"),
)
@click.argument("queue")
@click.argument("action")
@click.argument("payload", required=False)
@click.option(
    "--timeout",
    type=float,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for the response no longer; then the request is not handed out any more.",
)
@pass_setup
def request(setup: Setup, queue: str, action: str, payload: str | None, timeout: float) -> None:  # fmt: skip
    """Send a request and print its response.

    The status is 1 where none came in time, or the handler failed.
    """
    if payload == "-":
        payload = feed.whole_input()
    with setup.queue(queue) as opened:
        answer = opened.call(action, payload, timeout=timeout)
    setup.output.document({"action": action, "payload": answer}, shown(answer, lines=True))
