"""What both flavours of a client's inbox share: which response is whose, and what was read and can go."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Protocol

from elkmq.errors import EnqueueError, EventQueueError, JSONParseError, QueueClosed
from elkmq.event import ServiceEvent, TimestampedEvent

READ_WAIT = 10_000
"""Milliseconds of one blocking read at most."""

NOTHING_READ = b"0-0"
"""The place in an inbox before its first response."""

FORGET_AT = 100
"""Responses read before they are removed from the inbox, in one command."""

FORGET_BYTES = 1024 * 1024
"""Bytes of JSON read before they are."""


LATE = 1.0
"""Seconds past its own timeout that a request is awaited at most, where the server accepted it late."""


def patience(until: float, timeout: float) -> float:
    """Seconds to wait for a response from now on, when the server accepted the request and began to count; ``until`` is when its
    requester's own time is over.
    """
    return max(0.0, min(timeout, until + LATE - time.monotonic()))


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
        self.last = NOTHING_READ
        self.waiting: dict[bytes, Awaited] = {}
        self._read: list[bytes] = []
        self._bytes = 0
        """What they take at the server, about."""

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
            self._bytes += len(json)

    @property
    def many_read(self) -> bool:
        """Whether it is time to remove what was read."""
        return len(self._read) >= FORGET_AT or self._bytes >= FORGET_BYTES

    def to_forget(self, *, idle: bool) -> list[bytes]:
        """Ids that were read and are to be removed now, in one command; ``idle``: however few."""
        if not self._read or not (self.many_read or idle):
            return []
        read, self._read, self._bytes = self._read, [], 0
        return read

    def not_forgotten(self, ids: list[bytes]) -> None:
        """They could not be removed now."""
        self._read += ids

    def fail(self, error: EventQueueError) -> None:
        """None of them will come; each that waits is told so by an error of its own."""
        for awaited in list(self.waiting.values()):
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            awaited.fail(own)

    def closed(self) -> None:
        """The queue was closed."""
        self.fail(QueueClosed("the queue was closed while the response was awaited; the request may still be handled."))
