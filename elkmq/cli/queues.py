"""``purge``, ``pause``, ``resume``, ``settings`` and ``log``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import click

from elkmq import QueueSettings
from elkmq.cli.common import Command, Setup, confirm, examples, pass_setup
from elkmq.cli.output import Progress, moment, shown, table


@click.command(cls=Command, epilog=examples("elkmq purge jobs", "elkmq purge jobs --delayed --yes"))
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="Also what is not due yet.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_setup
def purge(setup: Setup, queue: str, delayed: bool, yes: bool) -> None:
    """Remove the events that are ready. What is in flight stays."""
    with setup.queue(queue) as opened:
        now = opened.stats()
        total = now.ready + (now.delayed if delayed else 0)
        confirm(f"Remove {total:,} events of {opened.name} for good?", yes)
        # The library's purge, a round trip at a time.
        pool, verbs = opened._session.open()
        with Progress("purging", total) as progress:
            more = True
            while more:
                removed, more = pool.run(verbs.purge(delayed=delayed))
                progress.advance(removed)
    setup.output.document({"purged": progress.done}, f"removed {progress.done:,} events")


@click.command(cls=Command)
@click.argument("queue")
@pass_setup
def pause(setup: Setup, queue: str) -> None:
    """Hand out nothing, to nobody. Events still come in; what is in flight can be finished."""
    with setup.queue(queue) as opened:
        opened.pause()
        setup.output.document({"queue": opened.name, "paused": True}, f"{opened.name} is paused")


@click.command(cls=Command)
@click.argument("queue")
@pass_setup
def resume(setup: Setup, queue: str) -> None:
    """Hand out again."""
    with setup.queue(queue) as opened:
        opened.resume()
        setup.output.document({"queue": opened.name, "paused": False}, f"{opened.name} hands out events")


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq settings jobs",
        "elkmq settings jobs max_length=100000 overflow=drop_oldest",
        "elkmq settings jobs max_length=                   back to its default",
    ),
)
@click.argument("queue")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@pass_setup
def settings(setup: Setup, queue: str, changes: Sequence[str]) -> None:
    """Show what a queue is set to, or change it, for all of its clients at once.

    Times are in seconds, switches are yes or no. The settings: max_length, overflow (reject, drop_oldest), ttl,
    delivery_limit, retention_count, retention, dead_letter_max, dead_letter_expired, single_active, serve_elkmq01, paused.
    """
    wanted = dict(_change(text) for text in changes)
    with setup.queue(queue) as opened:
        found = asdict(opened.configure(**wanted) if wanted else opened.settings())
    if setup.json:
        setup.output.document(found, "")
        return
    rows = [(name, "default" if value is None else _worded(value)) for name, value in found.items()]
    setup.output.show(table(("SETTING", "VALUE"), rows))


_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def _change(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    known = [f.name for f in fields(QueueSettings)]
    if not separator or name not in known:
        raise click.UsageError(f"{shown(text)[:60]!r} is not NAME=VALUE with one of {', '.join(known)}")
    if not value:
        return name, None
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _worded(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq settings jobs retention=86400     keep what was completed for a day", "elkmq log jobs --limit 20"
    ),
)
@click.argument("queue")
@click.option("--start", metavar="PLACE", help="From here on: an id of the log, or milliseconds since 1970.")
@click.option("--end", metavar="PLACE", help="Up to here, included.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="No more than so many, the oldest first.")
@pass_setup
def log(setup: Setup, queue: str, start: str | None, end: str | None, limit: int | None) -> None:
    """Print the completed events of a queue that keeps them."""
    output = setup.output
    with setup.queue(queue) as opened:
        for number, entry in enumerate(opened.log(start, end), 1):
            event = entry.event
            what = "(cannot be read)" if event is None else f"{shown(event.action)}  {shown(event.payload)}"
            output.line(
                f"{entry.id}  {moment(entry.completed)}  {what}".rstrip(),
                {
                    "id": entry.id,
                    "completed": entry.completed,
                    "enqueued": entry.enqueued,
                    "failed": entry.failed,
                    "event": event.to_dict() if event else None,
                },
            )
            if number == limit:
                return
