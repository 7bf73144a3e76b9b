"""From the buffer to the application and back: deliveries, acknowledgements, rejects.

An acknowledgement is written to the socket at once, before the next message's callback starts, and nobody waits for its
reply. On an event loop those of one pass go together, before the loop waits for anything again; a callback that takes
long ends its pass.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.call import Call
from elkmq._core.entry import Entry, unknown_format
from elkmq._core.verbs import Delivered
from elkmq.errors import EventQueueError, ServerConnectionError
from elkmq.event import ServiceEvent
from kombu_elkmq import message as messages
from kombu_elkmq import responses
from kombu_elkmq.handover import HERE, Handed
from kombu_elkmq.reader import Reader, Subscription

if TYPE_CHECKING:
    from kombu_elkmq.channel import Channel
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

PER_SETTLE = 500
"""Bounds how long one script runs."""

SPENT = 100
"""Messages that nobody acknowledges, and that live for seconds only, that may wait for a common acknowledgement."""


@dataclass(slots=True)
class Held:
    """A delivery that the application has."""

    reader: Reader
    delivered: Delivered
    message: weakref.ref[Any] | None = field(default=None)


class Deliveries:
    """The part of a `Session` that hands out and takes back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loaded: deque[Reader] = deque()
        """Those whose buffers hold something, in the order of their turns."""
        self.handed = Handed(session)
        self._dirty: deque[Reader] = deque()
        """Those with acknowledgements that were not sent."""
        self._lock = threading.Lock()
        self._spent: dict[Reader, list[Delivered]] = {}
        """Handed to consumers that acknowledge nothing, to be acknowledged together: see `_spend`."""
        self._spent_until = 0.0
        """When that is to be."""
        self._dying: Counter[Reader] = Counter()
        """How many of each may be on their way to a dead letter exchange: the server did not say yet."""

    # -- out

    def deliver_one(self) -> bool:
        """Hand one message to its consumer; False where there is none to hand out."""
        found = self._next()
        if found is None:
            return False
        reader, subscription, entry = found
        now = clock.now()
        if now - reader.confirmed >= reader.lease * 2 / 3:
            # This process was stopped, or the server away: nothing is started before the server says that it is ours.
            reader.put_back(entry)
            self._session.guard()
            return True
        self._deliver(reader, subscription, entry)
        return True

    def loaded(self, reader: Reader) -> None:
        """A reader's buffer holds something again."""
        self._loaded.append(reader)

    def _next(self) -> tuple[Reader, Subscription, Entry] | None:
        self.handed.take_in()
        in_turn = self._session.options.queue_order_strategy == "round_robin"
        if not self._loaded:
            return None
        readers: Iterable[Reader] = self._loaded if in_turn else self._session.readers.values()
        for reader in list(readers):
            if reader.buffer and (subscription := reader.choose()) is not None:
                entry = reader.buffer.popleft()
                self._next_turn(reader)
                return reader, subscription, entry
            if not reader.buffer:
                self._next_turn(reader)
        return None

    def _next_turn(self, reader: Reader) -> None:
        """Let the others go first, and forget a reader with nothing in its buffer."""
        if reader.loaded:
            if self._loaded[0] is reader:
                self._loaded.popleft()
            else:
                self._loaded.remove(reader)
            if reader.buffer:
                self._loaded.append(reader)
            else:
                reader.loaded = False

    def _deliver(self, reader: Reader, subscription: Subscription, entry: Entry) -> None:
        if entry.lane == HERE:
            self.handed.deliver(reader, subscription, entry)
            return
        delivered = (entry.lane, entry.id)
        if reader.expired(entry):
            self.reject(reader, delivered, "expired")
            return
        if reader.repeated(entry):
            self._spend(reader, delivered)
            return
        if unknown_format(entry):
            self.reject(reader, delivered, "format")  # a newer release brings it back
            return
        channel = subscription.channel
        tag = channel.next_tag()
        try:
            message = messages.message_of(reader, entry, channel, tag, subscription.tag)
        except messages.UNREADABLE as error:
            if entry.lane == b"0" and b"response" in entry.fields and b"event" not in entry.fields:
                reader.settle(delivered)
                for call in reader.verbs.keep_response(entry):
                    self._session.post(call, lambda outcome: _answered(reader, [delivered], outcome))
                return
            log.warning("an entry of %s is no message and went to its dead letters: %s", reader.queue, error)
            self.unreadable(reader, entry, error)
            return
        if subscription.no_ack:
            self._spend(reader, delivered)
        else:
            channel.unacked[tag] = Held(reader, delivered, weakref.ref(message))
            if b"failed" in entry.fields:
                self._session.post(reader.verbs.start(self._session.name, delivered))
        self._session.pump.top_up(reader, clock.now())
        subscription.callback(message)

    def deliverable(self) -> bool:
        """Whether `deliver_one` would."""
        for reader in self._loaded:
            if reader.buffer:
                for each in reader.subscriptions:
                    if each.channel.room() > 0:
                        return True
        return False

    # -- back

    @property
    def untold(self) -> bool:
        """Whether there are acknowledgements to send."""
        return bool(self._dirty)

    def settle(self, reader: Reader, delivered: Delivered) -> None:
        """Acknowledge: at once, or with the others of this pass of the event loop."""
        reader.settle(delivered)
        with self._lock:
            if not reader.settled:
                self._dirty.append(reader)
            reader.settled.append(delivered)
        if self._session.corked_by != threading.get_ident():
            self.flush()

    def _spend(self, reader: Reader, delivered: Delivered) -> None:
        """Acknowledge for a consumer that does not. Where messages live for seconds, as Celery's events do, that can wait for more
        of them: should this process die before, their time is over before its lease is, and nobody is handed them again.
        """
        if not reader.brief:
            self.settle(reader, delivered)
            return
        reader.settle(delivered)
        with self._lock:
            if not self._spent:
                self._spent_until = clock.now() + reader.lease
            together = self._spent.setdefault(reader, [])
            together.append(delivered)
            if len(together) >= SPENT:
                self._spent_until = 0.0  # the next pass sends them

    def _settle_spent(self) -> None:
        with self._lock:
            for reader, together in self._spent.items():
                if not reader.settled:
                    self._dirty.append(reader)
                reader.settled += together
            self._spent.clear()

    def flush(self, *, everything: bool = False) -> None:
        """Send the acknowledgements that were collected.

        :param everything: also those that may wait for others, or for a connection that is being mended: what gives back the
            rest is sent next
        """
        session = self._session
        if self._spent and (everything or clock.now() >= self._spent_until):
            self._settle_spent()
        if session.pump.acks_wait and not everything:
            return
        while self._dirty:
            # Up to where another thread that pushes finds it: what this one took, and did not gather yet, would be in neither
            # place, and the other's next task would start before its acknowledgement left.
            with self._lock:
                if not self._dirty:
                    break
                reader = self._dirty[0]
                part, reader.settled = reader.settled[:PER_SETTLE], reader.settled[PER_SETTLE:]
                if not reader.settled:
                    self._dirty.popleft()
                if len(part) > 1:
                    part.sort(key=_age)  # so the server finds them at one look
                if part and not reader.lost:
                    self._send(reader, part)
        session.push_uncorked()

    def _send(self, reader: Reader, part: list[Delivered]) -> None:
        def done(outcome: Any) -> None:
            if isinstance(outcome, Exception):
                log.log(
                    logging.DEBUG if reader.brief else logging.ERROR,  # what is over in seconds is nobody else's then
                    "%d messages of %s were completed, and the server could not be told: %s",
                    len(part),
                    reader.queue,
                    outcome,
                )
            elif outcome:
                log.error(
                    "%d messages of %s were completed here after their lease was lost; others may have run them too",
                    len(outcome), reader.queue,
                )  # fmt: skip

        self._tell(reader, part, reader.verbs.settle(self._session.name, part, keep=reader.keep), done, hurry=False)

    def _tell(
        self, reader: Reader, delivered: list[Delivered], call: Call[Any], then: Callable[[Any], None], *, hurry: bool = True
    ) -> None:  # fmt: skip
        """Post what settles deliveries, for as long as they are ours.

        A call is given up after a lease in which no connection carried it, but the lease may hold: heartbeats have a
        connection of their own. What the server is never told stays in flight while this process lives, and then runs again.
        """

        def done(outcome: Any) -> None:
            session = self._session
            if isinstance(outcome, ServerConnectionError) and not (reader.lost or session.failed or session.closed):
                session.post(call, done, hurry=hurry, gather=not hurry)
                return
            _answered(reader, delivered, outcome)
            then(outcome)

        self._session.post(call, done, hurry=hurry, gather=not hurry)
        self._session.wake_other()

    def reject(self, reader: Reader, delivered: Delivered, reason: str = "rejected", error: str = "") -> None:
        """Give up: into the dead letters, or on to the dead letter exchange."""
        reader.settle(delivered)
        self._kill(reader, [delivered], reader.verbs.reject(self._session.name, [delivered], reason, error))

    def _kill(self, reader: Reader, delivered: list[Delivered], call: Call[list[str]]) -> None:
        """Post what may make dead letters of deliveries, and see that they go on to their exchange."""
        relays = reader.relays

        def done(outcome: Any) -> None:
            if relays:
                with self._lock:
                    self._dying[reader] -= 1
                    self._dying += Counter()  # leaves out what is 0
                if not isinstance(outcome, Exception) and "dead" in outcome:
                    self._session.relay.look(reader)

        if relays:
            with self._lock:
                self._dying[reader] += 1
        self._tell(reader, delivered, call, done)
        if relays and not self._session.attended:
            self.send_on()

    @property
    def dying(self) -> bool:
        """Whether something may be on its way to a dead letter exchange."""
        return bool(self._dying) or self._session.relay.waiting

    def send_on(self) -> None:
        """Have what died at its exchange before the caller goes on, unless somebody else sees to that: nobody may ever wait
        for messages on this connection.
        """
        session = self._session
        if session.attended or not self.dying:
            return
        try:
            for reader in list(self._dying):
                session.wires_of(reader.queue).await_posted()
        except EventQueueError as error:
            log.warning("what became of dead letters is not known yet, they are sent on later: %s", error)
        session.relay.finish()

    def unreadable(self, reader: Reader, entry: Entry, error: Exception) -> None:
        """Reject what is no message; who sent it as a plain event may await a response, and gets that of a failure."""
        self.reject(reader, (entry.lane, entry.id), "unreadable", str(error))
        if b"event" not in entry.fields or b"kombu" in entry.fields:
            return
        with suppress(EventQueueError):  # no event either
            event = ServiceEvent.from_json(entry.fields[b"event"])
            known = (event.timeout, str(event.uuid))
            responses.refused(self._session, reader.queue, known, error, entry.timestamp)

    def requeue(self, reader: Reader, delivered: list[Delivered], *, failed: bool, seen: bool = True) -> None:
        """Send back, to be handed out again before new work."""
        for each in delivered:
            reader.settle(each)
        reader.hungry = reader.hungry or seen
        reader.plain = False  # a take brings back what came back, and nothing else before it
        call = reader.verbs.requeue(self._session.name, delivered, failed=failed, seen=seen)
        if failed:
            self._kill(reader, delivered, call)
        else:
            self._tell(reader, delivered, call, lambda _: None)

    def forget_buffered(self) -> None:
        """The leases are lost: what was not started is others' now."""
        for reader in self._session.readers.values():
            reader.buffer.clear()

    def hand_back_buffered(self, reader: Reader) -> None:
        """Its last consumer went: what it was handed and nobody saw goes back; what never was at the server goes with it."""
        buffered = [(entry.lane, entry.id) for entry in reader.buffer if entry.lane != HERE]
        reader.buffer.clear()
        if buffered and not reader.lost:
            self._session.hand_back(reader, buffered)

    def of_channel(self, channel: Channel) -> dict[Reader, list[Delivered]]:
        """What a channel's consumers hold, by queue."""
        found: dict[Reader, list[Delivered]] = {}
        for held in channel.unacked.values():
            found.setdefault(held.reader, []).append(held.delivered)
        return found


def _age(delivered: Delivered) -> tuple[bytes, int, int]:
    lane, id_ = delivered
    ms, _, sequence = id_.partition(b"-")
    return lane, int(ms), int(sequence)


def _answered(reader: Reader, delivered: list[Delivered], outcome: Any) -> None:
    """Note what the server said. Where it could not say, they may be pending there still: that is remembered, since what
    was done here is never started again here.
    """
    if not isinstance(outcome, Exception):
        reader.answered(delivered)
