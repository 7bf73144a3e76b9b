"""What is to be seen of a queue, read from the reply of ``stats.lua``; and rates from two looks, or from one.

Every accepted event is in one place, and each look adds up::

    enqueued + revived = ready + in_flight + delayed + completed + expired + dead_lettered + dropped + purged

where ``dead_lettered`` counts all that ever became dead letters and ``dead`` is how many of them are there now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from elkmq._core import entry as read
from elkmq.errors import ServerError
from elkmq.options import QueueSettings

MINUTE = 60.0
SHORTEST_SPAN = 1.0
"""Seconds; a sample that was just taken tells nothing yet."""

OLDEST_SAMPLE = 600.0
"""Seconds; rates over a longer time say nothing about now."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Events per second between two looks at a queue."""

    enqueued: float
    completed: float
    span: float
    """Seconds between the two looks."""


@dataclass(frozen=True, slots=True)
class LaneInfo:
    """One lane of a queue, in the order in which they are read."""

    name: str
    """``redelivered``, or the priority: ``0`` is where most events are."""
    ready: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer that is registered with the queue."""

    name: str
    alive: bool
    """Whether its lease still runs. If not, others take its deliveries over in a moment."""
    lease_left: float
    """Seconds; 0.0 where it is over."""
    in_flight: int
    """Deliveries it holds."""
    kind: str
    """``consumer``, or ``dequeue`` for a client that waits in a blocking dequeue."""
    host: str | None
    pid: int | None
    started: int | None
    """Milliseconds since 1970, by the clock of its own machine."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One look at a queue; all of it from the same instant."""

    server_time: int
    """The server's clock, in milliseconds since 1970."""
    ready: int
    """Events that can be handed out now."""
    in_flight: int
    """Events handed out and not settled."""
    delayed: int
    """Events that are not due yet."""
    dead: int
    """Dead letters that are there now."""
    outbox: int
    """Events and dead letters on their way to another slot or to an exchange."""
    log: int
    """Completed events that are kept."""
    oldest_age: float | None
    """Seconds since the event that is next in its lane was enqueued, the longest of all lanes; None: nothing is ready."""
    next_due: float | None
    """Seconds until the next delayed event is due (0.0: it is); None: there is none."""
    enqueued: int
    """Events accepted since the queue is there."""
    completed: int
    expired: int
    """Events whose time to live was over, and that did not become dead letters."""
    dead_lettered: int
    dropped: int
    """Events that went because the queue was full, or that were given up where it keeps no dead letters."""
    purged: int
    requeued: int
    """Times an event was sent back: by its consumer, or because that was gone."""
    revived: int
    """Dead letters that were sent back to work."""
    responses: int
    """Responses between clients of elk-mq 0.1 that are kept for now."""
    rates: Rates | None
    """Over the last minute, or as near to that as samples are there (a consumer takes one with its chores); None: there
    is none younger than ten minutes."""
    consumers: tuple[ConsumerInfo, ...]
    lanes: tuple[LaneInfo, ...]
    settings: QueueSettings = field(default_factory=QueueSettings)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON. Of the settings only those that are set."""
        values = asdict(self)
        values["settings"] = {name: value for name, value in values["settings"].items() if value is not None}
        return values


def rates(before: QueueStats, after: QueueStats) -> Rates | None:
    """Events per second between two looks; None where the second is not later or the queue was made anew in between."""
    return _rates(_totals(before), _totals(after))


_Totals = tuple[int, int, int]
"""Server milliseconds, enqueued, completed."""


def _totals(stats: QueueStats) -> _Totals:
    return stats.server_time, stats.enqueued, stats.completed


def _rates(before: _Totals, after: _Totals) -> Rates | None:
    span = (after[0] - before[0]) / 1000
    if span <= 0 or after[1] < before[1] or after[2] < before[2]:
        return None
    return Rates((after[1] - before[1]) / span, (after[2] - before[2]) / span, span)


def _rates_of_samples(samples: Iterable[bytes], now: _Totals) -> Rates | None:
    best: Rates | None = None
    for sample in samples:  # newest first
        time, enqueued, completed = map(int, sample.split())
        if now[0] - time < SHORTEST_SPAN * 1000:
            continue
        found = _rates((time, enqueued, completed), now)
        if found is None or found.span > (OLDEST_SAMPLE if best is None else MINUTE):
            break
        best = found
        if found.span >= MINUTE:
            break
    return best


def read_stats(raw: Sequence[Any]) -> QueueStats:
    """Read the reply of stats.lua."""
    (
        now, text, lanes, ready, accepted, completed, delayed, due, dead, outbox, log, counters, leases, infos, held, oldest,
        responses, samples,
    ) = raw  # fmt: skip
    counts = {name.decode(): int(value) for name, value in _pairs(counters)}
    holds: dict[bytes, int] = {}
    for _, name, pending in held:
        holds[name] = holds.get(name, 0) + pending
    info = dict(_pairs(infos))
    not_work = responses + counts.get("history", 0)
    return QueueStats(
        server_time=now,
        ready=ready,
        in_flight=sum(pending for _, _, pending in lanes),
        delayed=delayed,
        dead=dead,
        outbox=outbox,
        log=log,
        oldest_age=None if oldest < 0 else max(0.0, (now - oldest) / 1000),
        next_due=None if due < 0 else max(0.0, (due - now) / 1000),
        enqueued=accepted,
        completed=completed,
        expired=counts.get("expired", 0),
        dead_lettered=counts.get("dead", 0),
        dropped=counts.get("dropped", 0),
        purged=counts.get("purged", 0),
        requeued=counts.get("requeued", 0),
        revived=counts.get("revived", 0),
        responses=responses,
        rates=_rates_of_samples(samples, (now, accepted, completed)),
        consumers=tuple(
            _consumer(name, float(ends) - now, holds.get(name, 0), info.get(name, b"")) for name, ends in _pairs(leases)
        ),
        lanes=tuple(_lane(name, length, pending, not_work) for name, length, pending in lanes),
        settings=_settings(read.settings(text)),
    )


def _settings(found: dict[str, str]) -> QueueSettings:
    """A look must not fail for settings that another program made, or another release."""
    try:
        return QueueSettings.read(found)
    except ServerError:
        return QueueSettings()


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _lane(name: bytes, length: int, pending: int, not_work: int) -> LaneInfo:
    ready = length - pending - (not_work if name == b"0" else 0)
    return LaneInfo("redelivered" if name == b"r" else name.decode(), ready, pending)


def _consumer(name: bytes, left: float, in_flight: int, info: bytes) -> ConsumerInfo:
    try:
        found = json.loads(info)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {}
    return ConsumerInfo(
        name=name.decode(errors="replace"),
        alive=left > 0,
        lease_left=max(0.0, left / 1000),
        in_flight=in_flight,
        kind=str(found.get("kind", "consumer")),
        host=_of(str, found.get("host")),
        pid=_of(int, found.get("pid")),
        started=_of(int, found.get("started")),
    )


def _of(kind: type[Any], value: Any) -> Any:
    return value if isinstance(value, kind) else None
