"""``stats``: one queue in full, several in a table, once or again and again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from elkmq import EventQueue
from elkmq.cli.common import Command, Setup, examples, pass_setup
from elkmq.cli.listing import queue_names
from elkmq.cli.output import console, shown, span, table
from elkmq.stats import QueueStats

if TYPE_CHECKING:
    from rich.console import RenderableType

Look = tuple[str, QueueStats]


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq stats                        all queues",
        "elkmq stats jobs --watch           again every 2 s, until Ctrl-C",
        "elkmq stats jobs --json | jq .ready",
    ),
)
@click.argument("names", nargs=-1, metavar="[QUEUE]...")
@click.option("--watch", is_flag=True, help="Look again and again; with --json, a document a line.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="SECONDS", help="... so often."
)
@pass_setup
def stats(setup: Setup, names: tuple[str, ...], watch: bool, every: float) -> None:  # fmt: skip
    """Show what is in queues, who works on them and how fast.

    Without QUEUE: all queues of the server.
    """
    with ExitStack() as stack:
        queues = [stack.enter_context(setup.queue(name)) for name in names or queue_names(setup)]
        if not watch:
            _show(setup, _look(queues), one=len(names) == 1)
            return
        try:
            _watch(setup, queues, every)
        except KeyboardInterrupt:
            return  # how a watch ends


def _look(queues: Sequence[EventQueue]) -> list[Look]:
    return [(queue.name, queue.stats()) for queue in queues]


def _document(look: Look) -> dict[str, Any]:
    return {"queue": look[0], **look[1].to_dict()}


def _show(setup: Setup, looks: Sequence[Look], *, one: bool) -> None:
    if setup.json:
        found = [_document(look) for look in looks]
        setup.output.document(found[0] if one else found, "")
    else:
        setup.output.show(*_drawn(looks))


def _watch(setup: Setup, queues: Sequence[EventQueue], every: float) -> None:
    screen = console()
    if setup.json or not screen.is_terminal:
        while True:
            for look in _look(queues):
                setup.output.line(_summary(look), _document(look))
            time.sleep(every)
    from rich.console import Group
    from rich.live import Live

    with Live(console=screen, auto_refresh=False, transient=False) as live:
        while True:
            live.update(Group(*_drawn(_look(queues))), refresh=True)
            time.sleep(every)


def _summary(look: Look) -> str:
    name, now = look
    return (
        f"{name}: {now.ready} ready, {now.in_flight} in flight, {now.delayed} delayed, {now.dead} dead, "
        f"{now.enqueued} enqueued, {now.completed} completed, {len(now.consumers)} consumers"
    )


def _drawn(looks: Sequence[Look]) -> list[RenderableType]:
    if len(looks) == 1:
        return _one(*looks[0])
    if not looks:
        return ["no queues"]
    columns = ("QUEUE", "READY", "IN FLIGHT", "DELAYED", "DEAD", "OLDEST", "IN /S", "OUT /S", "CONSUMERS")
    rows = [
        (
            name + (" (paused)" if now.settings.paused else ""), now.ready, now.in_flight, now.delayed, now.dead,
            span(now.oldest_age), *_rates(now), len(now.consumers),
        )
        for name, now in looks
    ]  # fmt: skip
    return [table(columns, rows, numbers=columns[1:])]


def _rates(now: QueueStats) -> tuple[str, str]:
    if now.rates is None:
        return "-", "-"
    return f"{now.rates.enqueued:,.1f}", f"{now.rates.completed:,.1f}"


def _one(name: str, now: QueueStats) -> list[RenderableType]:
    coming, going = _rates(now)
    due = "" if now.next_due is None else f"the next is due in {span(now.next_due)}"
    age = "" if now.oldest_age is None else f"the oldest waits for {span(now.oldest_age)}"
    rows: list[tuple[str, Any, str]] = [
        ("ready", now.ready, "paused" if now.settings.paused else age),
        ("in flight", now.in_flight, ""),
        ("delayed", now.delayed, due),
        ("dead letters", now.dead, ""),
        ("outbox", now.outbox, ""),
        ("kept in the log", now.log, ""),
        ("", "", ""),
        ("enqueued", now.enqueued, "" if now.rates is None else f"{coming}/s over {span(now.rates.span)}"),
        ("completed", now.completed, "" if now.rates is None else f"{going}/s"),
        ("expired", now.expired, ""),
        ("dead-lettered", now.dead_lettered, f"{now.revived:,} sent back to work" if now.revived else ""),
        ("dropped", now.dropped, ""),
        ("purged", now.purged, ""),
        ("requeued", now.requeued, ""),
    ]
    # What is always there, and of the rest what is not 0.
    always = ("ready", "in flight", "delayed", "dead letters", "", "enqueued", "completed")
    figures = [(what, f"{n:,}" if n != "" else "", more) for what, n, more in rows if n or what in always]
    drawn: list[RenderableType] = [shown(name), table(("", "", ""), figures, numbers=(1,))]
    if now.consumers:
        columns = ("CONSUMER", "LEASE", "IN FLIGHT", "HOST", "PID")
        drawn += ["", table(
            columns,
            [
                (c.name, f"{span(c.lease_left)} left" if c.alive else "over", c.in_flight, c.host, c.pid)
                for c in now.consumers
            ],
            numbers=("IN FLIGHT", "PID"),
        )]  # fmt: skip
    return drawn
