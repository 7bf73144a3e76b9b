"""``dead``: look at what was given up, send it back to work, or drop it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import click

from elkmq import DeadLetter, EventQueue
from elkmq._core.outgoing import batches
from elkmq.cli.common import Group, Setup, confirm, examples, one_of, pass_setup
from elkmq.cli.output import Progress, moment, shown, table

AT_ONCE = 100
"""Dead letters per round trip."""


@click.group(
    cls=Group,
    epilog=examples(
        "elkmq dead list jobs",
        "elkmq dead show jobs 1669887505996-0",
        "elkmq dead requeue jobs 1669887505996-0",
        "elkmq dead requeue jobs --all",
    ),
)
def dead() -> None:
    """Dead letters: events that were given up.

    An event ends up here when it failed too often, was rejected or cannot be read.
    """


@dead.command("list", epilog=examples("elkmq dead list jobs --json | jq -r .id"))
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="No more than so many."
)
@click.option("--after", metavar="ID", help="Those that follow this one.")
@pass_setup
def list_(setup: Setup, queue: str, limit: int, after: str | None) -> None:
    """List dead letters, the oldest first."""
    with setup.queue(queue) as opened:
        found = opened.dead.list(limit, after=after)
        if setup.json:
            for letter in found:
                setup.output.line("", letter.to_dict())
            return
        if not found:
            setup.output.line("no dead letters")
            return
        rows = [
            (
                letter.id, moment(letter.died), letter.reason, letter.failed,
                "(cannot be read)" if letter.event is None else letter.event.action, letter.error,
            )
            for letter in found
        ]  # fmt: skip
        setup.output.show(table(("ID", "GIVEN UP", "REASON", "FAILED", "ACTION", "ERROR"), rows, numbers=("FAILED",)))
        total = opened.stats().dead
        if total > len(found):
            click.echo(f"{len(found):,} of {total:,}; go on with --after {found[-1].id}", err=True)


@dead.command()
@click.argument("queue")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@pass_setup
def show(setup: Setup, queue: str, ids: tuple[str, ...]) -> None:
    """Show dead letters with everything they hold."""
    with setup.queue(queue) as opened:
        missing = []
        for id_ in ids:
            letter = opened.dead.get(id_)
            if letter is None:
                missing.append(id_)
            elif setup.json:
                setup.output.line("", letter.to_dict())
            else:
                _show(setup, letter)
    _complain(missing)


def _show(setup: Setup, letter: DeadLetter) -> None:
    rows = [
        ("id", letter.id),
        ("enqueued", moment(letter.first)),
        ("given up", moment(letter.died)),
        ("reason", letter.reason),
        ("error", letter.error),
        ("handed out", letter.handed_out),
        ("failed", letter.failed),
    ]
    if letter.event is not None:
        event = letter.event
        rows += [("uuid", str(event.uuid)), ("timeout", f"{event.timeout} s"), ("action", event.action)]
        rows += [("payload", "(none)" if event.payload is None else event.payload)]
    known = {b"event", b"reason", b"error", b"handed_out", b"failed", b"first", b"died", b"v"}
    if letter.event is None:
        known.discard(b"event")
    for name, value in letter.raw.items():
        if name not in known:
            rows.append((f"field {name.decode(errors='replace')}", value.decode(errors="backslashreplace")))
    setup.output.show(table(("", ""), rows), "")


@dead.command(epilog=examples("elkmq dead requeue jobs --all"))
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that are there now.")
@pass_setup
def requeue(setup: Setup, queue: str, ids: tuple[str, ...], every: bool) -> None:
    """Send dead letters back to work, with their counts at zero."""
    one_of(ids, every)
    with setup.queue(queue) as opened:
        moved = _move(opened, ids, every, drop=False)
    setup.output.document({"requeued": moved}, f"sent {moved:,} back to work")
    if not every and moved < len(set(ids)):
        raise click.ClickException(f"{len(set(ids)) - moved} of these are no dead letters of {queue} (any more).")


@dead.command(epilog=examples("elkmq dead drop jobs 1669887505996-0", "elkmq dead drop jobs --all --yes"))
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that are there now.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_setup
def drop(setup: Setup, queue: str, ids: tuple[str, ...], every: bool, yes: bool) -> None:
    """Drop dead letters for good."""
    one_of(ids, every)
    with setup.queue(queue) as opened:
        if every:
            confirm(f"Drop {opened.stats().dead:,} dead letters of {opened.name} for good?", yes)
        moved = _move(opened, ids, every, drop=True)
    setup.output.document({"dropped": moved}, f"dropped {moved:,}")
    if not every and moved < len(set(ids)):
        raise click.ClickException(f"{len(set(ids)) - moved} of these are no dead letters of {queue} (any more).")


def _move(queue: EventQueue, ids: tuple[str, ...], every: bool, *, drop: bool) -> int:
    """Requeue or drop, a round trip at a time; returns how many there were."""
    dead = queue.dead
    # What fails again while this goes on comes in at the end, and is not taken a second time.
    total = queue.stats().dead if every else len(set(ids))
    wanted: Iterator[str] = islice((letter.id for letter in dead), total) if every else iter(dict.fromkeys(ids))
    moved = 0
    with Progress("dropping" if drop else "sending back to work", total) as progress:
        for batch in batches(wanted, AT_ONCE):
            moved += dead.drop(batch) if drop else dead.requeue(batch)
            progress.advance(len(batch))
    return moved


def _complain(missing: list[str]) -> None:
    if missing:
        raise click.ClickException(f"no dead letter has the id {' or '.join(map(shown, missing))}.")
