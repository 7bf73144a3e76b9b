"""What both flavours of a client's inbox share: which response is whose, and what was read and can go."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Protocol

from elkmq.errors import EnqueueError, EventQueueError, JSONParseError, QueueClosed
from elkmq.event import ServiceEvent, TimestampedEvent

READ_WAIT = 10_000
"""Milliseconds of one blocking read at most."""

FORGET_AT = 100
"""Responses read before they are removed from the inbox, in one command."""


class Awaited(Protocol):
    """Who awaits a response."""

    def keep(self, value: TimestampedEvent, /) -> None:
        """Here it is."""

    def fail(self, error: BaseException, /) -> None:
        """It will not come."""


class Responses:
    """The requests under way, by uuid, and the place in the inbox."""

    def __init__(self) -> None:
        self.inbox = secrets.token_hex(8)
        self.last = b"0-0"
        self.waiting: dict[bytes, Awaited] = {}
        self._read: list[bytes] = []

    def expect(self, uuid: bytes, awaited: Awaited) -> None:
        """A request is about to be sent. Raises: EnqueueError: it is awaited already."""
        if self.waiting.setdefault(uuid, awaited) is not awaited:
            raise EnqueueError(
                f"the response to {uuid.decode()} is awaited already; nothing was sent; make a new event."
            )

    def came(self, found: Iterable[tuple[bytes, bytes, bytes]]) -> None:
        """Hand responses (id, uuid, JSON) to who awaits them.

        Each counts as read when it was handed over, and not before: who is torn away in between by a signal handler's
        exception leaves it to be read again.
        """
        for id_, uuid, json in found:
            awaited = self.waiting.get(uuid)
            if awaited is not None:
                try:
                    awaited.keep(TimestampedEvent(int(id_.partition(b"-")[0]), ServiceEvent.from_json(json)))
                except JSONParseError as error:
                    awaited.fail(error)
                self.waiting.pop(uuid, None)
            self.last = id_
            self._read.append(id_)

    @property
    def many_read(self) -> bool:
        """Whether it is time to remove what was read."""
        return len(self._read) >= FORGET_AT

    def to_forget(self, *, idle: bool) -> list[bytes]:
        """Ids that were read and are to be removed now, in one command; ``idle``: however few."""
        if not self._read or not (self.many_read or idle):
            return []
        read, self._read = self._read, []
        return read

    def fail(self, error: EventQueueError) -> None:
        """None of them will come; each that waits is told so by an error of its own."""
        for awaited in list(self.waiting.values()):
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            awaited.fail(own)

    def closed(self) -> None:
        """The queue was closed."""
        self.fail(QueueClosed("the queue was closed while the response was awaited; the request may still be handled."))
