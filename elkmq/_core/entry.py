"""What crosses the wire besides the event: entries as they are handed out, events as they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from elkmq.keys import FORMAT

OURS = str(FORMAT).encode()
"""What our entries have in their field `v`."""


def number(value: bytes | None, otherwise: int) -> int:
    """A field that should be a whole number, whoever wrote it; ``otherwise`` where it is absent or something else."""
    return int(value) if value is not None and len(value) <= 16 and value.isdigit() else otherwise


class Entry(NamedTuple):
    """One entry as the server handed it out. ``lane`` and ``id`` together name the delivery; fields are in lua/README.md."""

    lane: bytes
    id: bytes
    fields: dict[bytes, bytes]

    @property
    def timestamp(self) -> int:
        """Server milliseconds at which the event was first accepted."""
        first = self.fields.get(b"first")
        return (number(first, 0) if first else 0) or int(self.id.partition(b"-")[0])

    @property
    def ready(self) -> int:
        """Server milliseconds from which it could be handed out, as far as it is known: where the queue has a time to live."""
        due = self.fields.get(b"due")
        return (number(due, 0) if due else 0) or self.timestamp

    def deadline(self) -> int | None:
        """Server milliseconds at which its own time to live is over; None: it has none."""
        ttl = self.fields.get(b"ttl")
        if ttl is None or (span := number(ttl, -1)) < 0:
            return None
        return self.timestamp + span


def unknown_format(entry: Entry) -> str:
    """The format of an entry that a newer release wrote; '' where this one knows it."""
    v = entry.fields.get(b"v")
    if v is None or v == OURS or number(v, FORMAT + 1) <= FORMAT:
        return ""
    return v.decode(errors="replace")[:40]


class Taken(NamedTuple):
    """The reply of take.lua and dequeue.lua."""

    now: int
    state: str
    lanes: tuple[bytes, ...]
    next_event: int
    keep: bool
    entries: list[Entry]
    signal: bytes = b"$"
    """After which signal to wait where the state says that the consumer is not served."""
    plain: bool = False
    """Whether the queue has no settings, so that reading its lanes is as good as a take."""
    outbox: bool = False
    """Whether dead letters wait to go on to their exchange."""
    only_set: bool = False
    """Whether nothing but its settings tells the queue from a plain one."""


class Opened(NamedTuple):
    """The reply of open.lua; ``settings`` as text."""

    now: int
    settings: bytes | None
    plain: bool = False
    """Whether a first take would find nothing to do but to read the main lane."""


class Tended(NamedTuple):
    """The reply of tend.lua."""

    now: int
    next_event: int
    more: bool
    taken_over: int
    outbox: int
    settings: bytes | None


class Receipt(NamedTuple):
    """What became of one enqueued event: its id, and whether it had been accepted before.

    ``served``: the queue serves consumers of elk-mq 0.1, so there may be none of ours to do its chores.
    """

    id: bytes
    duplicate: bool
    served: bool = False

    @property
    def timestamp(self) -> int:
        """Server milliseconds at which the event was accepted."""
        return int(self.id.partition(b"-")[0])


class Completed(NamedTuple):
    """The reply of complete.lua: ``outcome`` mine | done | lost, ``response`` sent | late | nobody or empty."""

    outcome: str
    response: str
    receipts: list[Receipt]


class Joined(NamedTuple):
    """The reply of join.lua: whether the queue was new, and whether it serves consumers of elk-mq 0.1."""

    new: bool
    served: bool


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way in. ``unique`` is its unique id ('' switches deduplication off); ``fields`` come after ``event``.

    With an ``inbox`` the unique id is the request's uuid in hex, and ``fields`` say ``reply_to`` and ``ttl`` too.
    """

    json: bytes
    unique: str | bytes
    delay: int = 0
    priority: int = 0
    inbox: str = ""
    fields: tuple[bytes | str | int, ...] = ()

    def arguments(self) -> tuple[bytes | str | int, ...]:
        """The script arguments of this event."""
        n = 4 + len(self.fields)
        return (self.unique, self.delay, self.priority, self.inbox, n, "event", self.json, "v", FORMAT, *self.fields)


def fields(raw: Sequence[bytes]) -> dict[bytes, bytes]:
    """Read field, value, field, value, ..."""
    if len(raw) == 4:  # most have `event` and `v` only
        return {raw[0]: raw[1], raw[2]: raw[3]}
    return dict(zip(raw[::2], raw[1::2], strict=True))


def entry(raw: Sequence[Any]) -> Entry:
    """Read ``{lane, id, fields}`` of a script."""
    lane, id_, row = raw
    return Entry(lane, id_, fields(row))


def entries(raw: Sequence[Sequence[Any]]) -> list[Entry]:
    """Read a list of entries of a script."""
    return [entry(item) for item in raw]


def taken(raw: Sequence[Any]) -> Taken:
    """Read the reply of take.lua."""
    now, state, lanes, next_event, keep, found, signal = raw
    handed = [Entry(lane, id_, fields(row)) for lane, rows in found for id_, row in rows]
    return Taken(
        now,
        state.decode(),
        tuple(lanes),
        next_event,
        bool(keep & 1),
        handed,
        signal or b"$",
        keep == 0,
        bool(keep & 4),
        keep == 2,
    )


def dequeued(raw: Sequence[Any]) -> Taken:
    """Read the reply of dequeue.lua."""
    now, state, lanes, found = raw
    return Taken(now, state.decode(), tuple(lanes), -1, False, [entry(found)] if found else [])


def joined(raw: Sequence[int]) -> Joined:
    """Read the reply of join.lua."""
    new, served = raw
    return Joined(new == 1, served == 1)


def opened(raw: Sequence[Any]) -> Opened:
    """Read the reply of open.lua."""
    now, text, plain = raw
    return Opened(now, text, plain == 1)


def tended(raw: Sequence[Any]) -> Tended:
    """Read the reply of tend.lua."""
    now, next_event, more, taken_over, outbox, settings = raw
    return Tended(now, next_event, more == 1, taken_over, outbox, settings)


def receipts(raw: Sequence[bytes]) -> list[Receipt]:
    """Read the ids that enqueue.lua answers."""
    found = [_receipt(r[1:], served=True) if r[:1] == b"+" else _receipt(r) for r in raw]
    if found and raw[0][:1] == b"!":  # dead letters wait for whoever relays them
        found[0] = _receipt(raw[0][1:])
    return found


def plainly_accepted(raw: Sequence[bytes]) -> bool:
    """Whether enqueue.lua answered for a single event with its id and nothing else."""
    return raw[0][:1].isdigit()


def _receipt(raw: bytes, *, served: bool = False) -> Receipt:
    return Receipt(raw[1:], True, served) if raw[:1] == b"=" else Receipt(raw, False, served)


def completed(raw: Sequence[Any]) -> Completed:
    """Read the reply of complete.lua."""
    outcome, response, ids = raw
    return Completed(outcome.decode(), response.decode(), receipts(ids))


def refused_completion(raw: Sequence[Any]) -> frozenset[int]:
    """Read the reply of complete.lua as `refused` reads settle.lua's."""
    return frozenset((0,)) if raw[0] == b"lost" else frozenset()


def outcomes(raw: Sequence[bytes]) -> list[str]:
    """Read a list of outcomes by name."""
    return [r.decode() for r in raw]


def refused(raw: int | Sequence[int]) -> frozenset[int]:
    """Read settle.lua's reply: the positions, from 0, that were refused."""
    return frozenset() if raw == 0 else frozenset(i - 1 for i in raw)  # type: ignore[union-attr]


def settings(text: bytes | None) -> dict[str, str]:
    """Read a queue's settings: lines NAME=VALUE, with %XX for what would break a line (lua/include/settings.lua)."""
    pairs = (line.partition("=") for line in (text or b"").decode().splitlines() if line)
    return {name: unquote(value) for name, _, value in pairs}
