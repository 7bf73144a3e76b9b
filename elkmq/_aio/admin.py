"""Looking after a queue: what is in it, what it is set to, and what is done to it as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from elkmq._aio.dead import DeadLetters
from elkmq._aio.effects import Once
from elkmq._aio.session import Session
from elkmq._core.entry import Entry, number, unknown_format
from elkmq._core.ids import following, is_place
from elkmq.errors import InvalidOption, JSONParseError
from elkmq.event import ServiceEvent
from elkmq.options import QueueSettings, Seconds, flag, shown
from elkmq.stats import QueueStats, read_stats

PAGE = 500
"""Completed events read per round trip."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A completed event in the event log."""

    id: str
    """Its place in the log: ``MS-N``, by the time of its completion."""
    completed: int
    """Server milliseconds of its completion."""
    enqueued: int
    """Server milliseconds when it was first enqueued."""
    event: ServiceEvent | None
    """None where it cannot be read."""
    failed: int
    """Times it failed before it was completed."""


class Administration:
    """The part of `EventQueue` that is about the queue, not about its events."""

    _session: Session

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._session.name

    @property
    def dead(self) -> DeadLetters:
        """The dead letters."""
        return DeadLetters(self._session)

    def once(self, key: str, *, hold: Seconds = 300.0, keep: Seconds = 86_400.0) -> Once:
        """The effect named by ``key``, to be done once: see `Once`.

        ``hold``: seconds a claim lasts that nobody finishes, longer than the effect can take. ``keep``: seconds the result
        is remembered, longer than the event can come back.
        """
        if not isinstance(key, str) or not 0 < len(key) <= 1024 or not key.isprintable():
            raise InvalidOption(
                f"key is {shown(key)}; nothing was claimed; give printable text of 1 to 1024 characters."
            )
        return Once(self._session, key, hold, keep)

    async def stats(self) -> QueueStats:
        """Everything to be seen of the queue. One round trip; its cost grows with lanes and consumers, not with depth."""
        pool, verbs = await self._session.open(look=True)
        return read_stats(await pool.run(verbs.stats()))

    async def settings(self) -> QueueSettings:
        """What the queue is set to.

        Raises:
            ServerError: Somebody wrote a setting there, without ElkMQ, that makes no sense.
        """
        pool, verbs = await self._session.open(look=True)
        return QueueSettings.read(await pool.run(verbs.check_settings({})))

    async def configure(self, **changes: Any) -> QueueSettings:
        """Change settings (the fields of `QueueSettings`); None takes one back to its default. For all clients, at once.

        Raises:
            InvalidOption: There is no such setting, or its value makes no sense; nothing was changed.
        """
        known = [f.name for f in fields(QueueSettings)]
        for name in changes:
            if name not in known:
                raise InvalidOption(
                    f"there is no setting {shown(name)}; nothing was changed; the settings are {', '.join(known)}."
                )
        pool, verbs = await self._session.open()
        wanted = QueueSettings.read(await pool.run(verbs.check_settings({})), changes).changes()
        settings = QueueSettings.read(
            await pool.run(verbs.configure({n: v for n, v in wanted.items() if _field(n) in changes}))
        )
        if settings.serve_elkmq01:
            self._session.attend()
        return settings

    async def pause(self) -> None:
        """Hand out nothing, to nobody, until `resume`. Events still come in; what is in flight can be settled.

        Consumers that wait just then hear of it one after the other, within milliseconds.
        """
        await self.configure(paused=True)

    async def resume(self) -> None:
        """Hand out again."""
        await self.configure(paused=None)

    async def purge(self, *, delayed: bool = False) -> int:
        """Remove the events that are ready, and with ``delayed`` those that are not due yet; returns how many there were.

        What is in flight stays. 10,000 a round trip.
        """
        flag("delayed", delayed)
        pool, verbs = await self._session.open()
        removed, more = 0, True
        while more:
            n, more = await pool.run(verbs.purge(delayed=delayed))
            removed += n
        return removed

    async def delete(self, *, if_unused: bool = False, if_empty: bool = False) -> bool:
        """Delete the queue with all it holds; consumers lose their leases. False where a condition kept it."""
        flag("if_unused", if_unused)
        flag("if_empty", if_empty)
        pool, verbs = await self._session.open()
        return await pool.run(verbs.drop(if_unused=if_unused, if_empty=if_empty)) >= 0

    async def log(
        self, start: str | int | datetime | None = None, end: str | int | datetime | None = None
    ) -> AsyncIterator[LogEntry]:
        """Completed events, oldest first, where the queue keeps them (settings ``retention``, ``retention_count``).

        ``start`` and ``end``, both inclusive: an id of the log, server milliseconds, or an aware `datetime`.
        """
        position, last = _position(start, "-"), _position(end, "+")
        pool, verbs = await self._session.open(look=True)
        while True:
            page = await pool.run(verbs.event_log(position, last, PAGE))
            for entry in page:
                yield _completed(entry)
            if len(page) < PAGE:
                return
            position = following(page[-1].id.decode())


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _field(name: str) -> str:
    return "retention" if name == "retention_ms" else name


def _position(value: str | int | datetime | None, default: str) -> str:
    if value is None:
        return default
    place: object = value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidOption("a datetime of the log has no time zone; nothing was read; give an aware one.")
        place = str(max(0, (value - _EPOCH) // timedelta(milliseconds=1)))
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        place = str(value)
    if is_place(place):
        return str(place)
    raise InvalidOption(
        f"{shown(value)} is no place in the log; nothing was read; give an id, milliseconds or a datetime."
    )


def _completed(entry: Entry) -> LogEntry:
    try:
        event = None if unknown_format(entry) else ServiceEvent.from_json(entry.fields[b"event"])
    except (KeyError, JSONParseError):
        event = None
    id_ = entry.id.decode()
    failed = number(entry.fields.get(b"failed"), 0)
    return LogEntry(id_, int(id_.partition("-")[0]), number(entry.fields.get(b"first"), 0), event, failed)
