"""Messages that this process publishes to a queue of its own are handed to the reader there, and not sent to the server.

That is for readers' own queues whose messages live for seconds and are settled by being delivered, such as Celery's events: what
reaches the reader never comes back, and what does not is gone with the queue or over before anybody else could have it. The server
is asked one thing, with the copies for other queues where there are any: whether the route is still right. Every other message goes
through the server. See docs/decisions/handing-over.md.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from elkmq._core import clock
from elkmq._core.entry import Entry
from elkmq._core.entry import Outgoing as Event
from kombu_elkmq import message as messages

if TYPE_CHECKING:
    from kombu_elkmq import codec
    from kombu_elkmq.reader import Reader, Subscription
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")
T = TypeVar("T", bound="Sequence[bytes] | None")

HERE = b""
"""The lane of what was handed over: it was never at the server, and nobody is told there what becomes of it."""

SETTINGS = frozenset({"format", "declared", "auto_delete", "auto_delete_after", "exclusive", "expires", "ttl"})
"""What a queue may be set to where messages need not pass it: none of this is about what passes, but ``ttl``, which is kept."""

_places: dict[object, WeakValueDictionary[str, Reader]] = {}
"""Server and key prefix -> the readers that this process has there, by their queues."""

os.register_at_fork(after_in_child=_places.clear)


def register(reader: Reader) -> None:
    """It reads its queue from now on. Of two that read the same, neither is handed anything: a heartbeat finds the other."""
    _at(reader.session)[reader.queue] = reader


def _at(session: Session) -> WeakValueDictionary[str, Reader]:
    return _places.setdefault(session.place, WeakValueDictionary())


class Unread:
    """What this process sends to one queue through the server, until the reader has it: nothing may overtake it.

    Of what was sent before the queue was known to be the reader's own nothing is known: the first message goes through the server.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._under_way = 0
        self._unknown = True
        self._last = (0, 0)
        self.read = b"0-0"
        """Id of the last entry of the main lane that the reader has read."""

    def begin(self) -> None:
        """Something is about to be sent."""
        with self._lock:
            self._under_way += 1

    def end(self, receipts: Iterable[bytes] | None) -> None:
        """It was, and is there by these ids; None: it failed, so it may be there or not, but never behind what is sent next."""
        with self._lock:
            self._under_way -= 1
            if receipts is None:
                self._unknown = True
            elif ids := [_position(receipt) for receipt in receipts]:
                self._unknown, self._last = False, max(self._last, *ids)

    def __bool__(self) -> bool:
        return self._under_way > 0 or self._unknown or self._last > _position(self.read)


def _position(receipt: bytes) -> tuple[int, int]:
    ms, _, sequence = receipt.lstrip(b"!=+").partition(b"-")
    return (int(ms), int(sequence)) if sequence else (0, 0)  # "~": the queue is gone, and nothing there


class Handover:
    """What a session's publisher needs for it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._readers = _at(session)

    def takers(
        self, message: codec.Outgoing, exchange: str, queues: Sequence[str], events: Iterable[tuple[int, Event]]
    ) -> dict[int, Reader]:
        """The readers that may be handed a message, by the index of their queues, if its route is still right."""
        session = self._session
        found: dict[int, Reader] = {}
        if not self._readers or not exchange or session.endpoint.cluster:
            return found
        if "task" in message.headers or message.properties.get("message_id") is not None:
            return found
        since = session.routes.known_since(exchange)
        for index, event in events:
            queue = queues[index]
            reader = self._readers.get(queue)
            # Where the unroutable go is no part of the route.
            if reader is None or queue == session.options.unroutable_queue:
                continue
            if _may_pass(event) and _may_take(reader, since):
                found[index] = reader
        return found

    def sending(self, queues: Sequence[str], of: Iterable[int], send: Callable[[], T]) -> T:
        """Publish through the server, and note what comes to be in queues that are read here.

        :param of: for each message, the index of its queue
        """
        readers = self._reading(queues) if self._readers else None
        if not readers:
            return send()
        for reader in readers.values():
            reader.unread.begin()
        receipts: dict[int, list[bytes]] | None = None
        try:
            sent = send()
            receipts = {}
            for index, receipt in zip(of, sent, strict=True) if sent is not None else ():
                receipts.setdefault(index, []).append(receipt)
        finally:
            for index, reader in readers.items():
                reader.unread.end(None if receipts is None else receipts.get(index, ()))
        return sent

    def _reading(self, queues: Sequence[str]) -> dict[int, Reader]:
        found = {}
        for index, queue in enumerate(queues):
            reader = self._readers.get(queue)
            if reader is not None and reader.own:
                found[index] = reader
        return found


def _may_pass(event: Event) -> bool:
    """Whether there is nothing about it that the server would have to see to."""
    return event.delay == 0 and event.priority == 0 and "ttl" not in event.fields


def _may_take(reader: Reader, since: float) -> bool:
    """Whether a reader is the only one of its queue for certain, has read what came before, and has room.

    :param since: when the route was loaded. Who was registered after that still is, while the route holds: a queue that is deleted
        takes its bindings along.
    """
    session, subscriptions = reader.session, list(reader.subscriptions)
    if not (reader.own and reader.registered and subscriptions and all(each.no_ack for each in subscriptions)):
        return False
    if reader.lost or not session.connected or session.readers.get(reader.queue) is not reader:
        return False
    if reader.hungry or reader.taking or reader.state or reader.unread:
        return False
    if clock.now() - reader.confirmed >= reader.lease * 2 / 3:
        return False
    waiting = len(reader.buffer) + len(session.deliveries.handed)
    return waiting < min(each.channel.room() for each in subscriptions) and session.alone(reader) >= since


class Handed:
    """The other end: what was handed to the readers of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._entries: deque[tuple[Reader, Entry]] = deque()
        """What is in no reader's buffer yet."""
        self._lock = threading.RLock()
        """Held to take it in, so that it keeps its order."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, reader: Reader, event: Event) -> None:
        """Deliver a message, as the entry that the server would have made of it. From any thread."""
        found = {b"event": event.json}
        for name, value in zip(event.fields[::2], event.fields[1::2], strict=True):
            found[_as_bytes(name)] = _as_bytes(value)
        id_ = b"%d-0" % (clock.now() * 1000 + reader.server_ahead)
        self._entries.append((reader, Entry(HERE, id_, found)))
        self._session.wake()

    def take_in(self) -> None:
        """Put it into the readers' buffers."""
        if self._entries:
            with self._lock:
                while self._entries:
                    reader, entry = self._entries.popleft()
                    reader.hold(entry)

    def deliver(self, reader: Reader, subscription: Subscription, entry: Entry) -> None:
        """Hand it to a consumer that acknowledges nothing. With that it is done: the server does not know of it."""
        found = subscription if subscription.no_ack else next((s for s in reader.subscriptions if s.no_ack), None)
        if found is None or reader.expired(entry):
            return
        try:
            message = messages.message_of(reader, entry, found.channel, found.channel.next_tag(), found.tag)
        except messages.UNREADABLE as error:
            log.warning("a message to %s cannot be read and was dropped: %s", reader.queue, error)
            return
        self._session.pump.top_up(reader, clock.now())
        found.callback(message)


def _as_bytes(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
