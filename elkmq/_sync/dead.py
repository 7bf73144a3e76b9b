# Generated from elkmq/_aio/dead.py by tools/async_to_sync.py; edit that.
"""Dead letters: events that were given up, with the reason, to look at, send back or drop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elkmq._core.entry import Entry, number, unknown_format
from elkmq._core.ids import following, is_id
from elkmq._core.outgoing import batches, each
from elkmq.errors import InvalidOption, JSONParseError
from elkmq.event import ServiceEvent
from elkmq.options import shown, whole

if TYPE_CHECKING:
    from elkmq._sync.session import Session


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up. ``event`` is None where the entry cannot be read; ``raw`` has all its fields."""

    id: str
    event: ServiceEvent | None
    reason: str
    """``rejected``, ``delivery_limit``, ``expired``, ``unreadable``, ``format``, ``maxlen`` or the reason given to `reject`."""
    error: str
    """What went wrong last, if anybody said."""
    handed_out: int
    failed: int
    first: int
    """Server milliseconds when it was first enqueued."""
    died: int
    """Server milliseconds when it was given up."""
    raw: dict[bytes, bytes]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; bytes that are no UTF-8 are replaced."""
        return {
            "id": self.id,
            "event": self.event.to_dict() if self.event else None,
            "reason": self.reason,
            "error": self.error,
            "handed_out": self.handed_out,
            "failed": self.failed,
            "first": self.first,
            "died": self.died,
            "raw": {k.decode(errors="replace"): v.decode(errors="replace") for k, v in self.raw.items()},
        }


class DeadLetters:
    """The dead letters of one queue: ``queue.dead``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, limit: int = 100, *, after: str | None = None) -> list[DeadLetter]:
        """The oldest ``limit`` dead letters, or those that follow the one with the id ``after``. One round trip."""
        whole("limit", limit, 1, 100_000)
        start = "-" if after is None else following(_checked(after))
        pool, verbs = self._session.open(look=True)
        return [_read(entry) for entry in pool.run(verbs.dead_letters(start, limit))]

    def get(self, id_: str) -> DeadLetter | None:
        """The dead letter with this id; None: there is none (any more). One round trip."""
        pool, verbs = self._session.open(look=True)
        found = pool.run(verbs.dead_letters(_checked(id_), 1))
        return _read(found[0]) if found and found[0].id.decode() == id_ else None

    def __iter__(self) -> Iterator[DeadLetter]:
        last: str | None = None
        while found := self.list(after=last):
            for letter in found:
                last = letter.id
                yield letter

    def requeue(self, ids: Iterable[str]) -> int:
        """Send dead letters back to work, as new entries with their counts at zero; returns how many there were."""
        wanted = [_checked(id_) for id_ in each(ids)]
        pool, verbs = self._session.open()
        revived = 0
        for batch in batches(wanted, 100):
            revived += sum(1 for id_ in pool.run(verbs.revive(batch)) if id_)
        return revived

    def drop(self, ids: Iterable[str]) -> int:
        """Drop dead letters for good; returns how many there were."""
        wanted = [_checked(id_) for id_ in each(ids)]
        pool, verbs = self._session.open()
        return sum([pool.run(verbs.drop_dead(batch)) for batch in batches(wanted, 500)])


def _checked(id_: str) -> str:
    if not is_id(id_):
        raise InvalidOption(
            f"{shown(id_)} is no id of a dead letter, such as 1669887505996-0; nothing changed; correct it."
        )
    return id_


def _read(entry: Entry) -> DeadLetter:
    fields = entry.fields
    try:
        event = None if unknown_format(entry) else ServiceEvent.from_json(fields[b"event"])
    except (KeyError, JSONParseError):
        event = None
    return DeadLetter(
        id=entry.id.decode(),
        event=event,
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        error=fields.get(b"error", b"").decode(errors="replace"),
        handed_out=number(fields.get(b"handed_out"), 0),
        failed=number(fields.get(b"failed"), 0),
        first=number(fields.get(b"first"), 0),
        died=number(fields.get(b"died"), 0),
        raw=fields,
    )
