# Generated from elkmq/_aio/holder.py by tools/async_to_sync.py; edit that.
"""What a consumer is to its deliveries and to the heart: who holds them, under which lease, over which connection."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from elkmq._core.call import Call
from elkmq._core.clock import now
from elkmq._core.consumer import ConsumerState
from elkmq._core.entry import Entry, Tended
from elkmq._core.fork import forget_in_child
from elkmq._core.sending import LAST_PATIENCE
from elkmq._core.verbs import Delivered, Verbs, all_heard
from elkmq._heart import Heart, heart
from elkmq._sync._concurrency import Background, Caller, Flag
from elkmq._sync.link import Channel, Waiter
from elkmq._sync.relay import Relay
from elkmq._sync.session import Session
from elkmq.errors import EventQueueError, QueueClosed, ServerOutOfMemory, ServerReadOnly, WrongKeyType
from elkmq.keys import QueueKeys

log = logging.getLogger("elkmq")

T = TypeVar("T")

PASSING = (ServerOutOfMemory, ServerReadOnly, WrongKeyType)
"""Refusals after which the same call can be accepted later."""

LONGEST_WAIT = 10.0
"""Seconds of one blocking read at most: after that the server's state is looked at again. Under a Redis `timeout` setting
that hangs up idle clients nothing is lost, it only costs a reconnect."""


class Holder:
    """One registration after another at a queue, and the deliveries held under it. `Consumer` adds how they are fetched."""

    def __init__(
        self, session: Session, verbs: Verbs, *, prefetch: int, lease: float, on_lost: Callable[[], None] | None = None
    ) -> None:
        self.verbs = verbs
        self.lease = lease
        # A read that a vanished peer never answers is given up well before the lease is over.
        self._longest = min(LONGEST_WAIT, lease / 3)
        self.state = ConsumerState(prefetch=prefetch, lease=lease)
        self._on_lost = on_lost
        self._session = session
        self._channel: Channel = session.channel()
        self._waiter: Waiter = session.waiter()
        self._channel.on_reconnect = self._reconnected
        self._caller = Caller()
        self._room = Flag()
        self._refused: deque[tuple[Call[frozenset[int]], Delivered]] = deque()
        """Acknowledgements that the server refused, for what can pass."""
        self._crowded = False
        self._blocked = False  # whoever fetches waits at the server
        self.foreign = False
        """Whether it is another process's: this one was forked since."""
        forget_in_child(self)
        self._heart: Heart = heart(session.endpoint, session.slot_key)
        self._relay = Relay(session, verbs)
        self._settings: bytes | None = None
        self._hung_up = False  # since the server was last asked whether it has heard all
        self._tidying: Background | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def forget_parent(self) -> None:
        """Belong to the parent, in a forked child."""
        self.foreign = True

    # -- for deliveries

    def run(self, call: Call[T]) -> T:
        """Send a delivery's verb and wait for its answer."""
        if self._closed or self.foreign:
            raise self._refusal()
        return self._channel.run(call)

    def _refusal(self) -> QueueClosed:
        if self.foreign:
            return QueueClosed("this delivery belongs to the parent process; nothing changed; settle it there.")
        return QueueClosed(
            "the queue or consumer of this delivery was closed, which handed it back; nothing changed; settle before closing."
        )

    def post(self, call: Call[frozenset[int]], key: Delivered) -> None:
        """Send the acknowledgement of a delivery; a refusal is reported when it comes."""
        if self._closed or self.foreign:
            raise self._refusal()
        self.state.settling.add(key)
        try:
            self._channel.post(call, partial(self._acknowledged, call, key))
        except BaseException:
            self.state.settling.discard(key)
            raise
        if self._blocked and not self._channel.READS_BY_ITSELF:
            # Whoever fetches waits for entries, and would not see that the server lost the script.
            self._channel.flush()

    def _acknowledged(
        self, call: Call[frozenset[int]], key: Delivered, reply: frozenset[int] | EventQueueError
    ) -> None:
        if isinstance(reply, PASSING) and not self._closed:
            # What was done is known here, and nowhere else: it is not done again because its server has no room for an answer.
            log.error("an acknowledgement is sent again with the next heartbeat, until it is accepted: %s", reply)
            self._refused.append((call, key))
            return
        self.state.settling.discard(key)
        if isinstance(reply, EventQueueError):
            log.error("an acknowledgement may not have arrived; if so its event is handed out again: %s", reply)
            self.unsure()
        elif reply:
            log.warning("an acknowledgement on %s was refused: the lease was lost", self._session.describe())
            self.gone(self.state.name)

    def _settle_again(self) -> None:
        """Send again what the server refused for the time being."""
        for _ in range(len(self._refused)):
            try:
                call, key = self._refused.popleft()
            except IndexError:  # the end of the lease came in between
                return
            self._channel.post(call, partial(self._acknowledged, call, key))

    def forget(self, key: Delivered) -> None:
        """A delivery that could not be settled: if it is this consumer's still, it is handed out once more."""
        self.unsure()
        self.settled(key)

    def dropped(self, name: str, entry: Entry) -> None:
        """A delivery was forgotten unsettled. Called by the garbage collector, anywhere."""
        if self._closed or self.foreign or self.state.lost(name):
            return
        self._caller.later(self._send_back, name, entry)  # first of all: a signal handler may raise here
        what = f"{entry.lane.decode()}/{entry.id.decode()} of {self._session.describe()}"
        warnings.warn(f"the delivery {what} was dropped unsettled and is sent back", ResourceWarning, stacklevel=3)

    def _send_back(self, name: str, entry: Entry) -> None:
        if self._closed or self.state.lost(name):
            return
        key = (entry.lane, entry.id)
        what = f"{entry.lane.decode()}/{entry.id.decode()} of {self._session.describe()}"
        log.warning("the delivery %s was dropped unsettled and is sent back; acknowledge, reject or requeue it", what)
        call = self.verbs.requeue(name, [key], failed=True, error="it was dropped unsettled")
        try:
            self._channel.run(call)
            self.settled(key)
        except EventQueueError as error:
            log.warning("the delivery %s comes back when the lease is over: %s", what, error)

    def settled(self, key: Delivered) -> None:
        """A delivery is off this consumer's hands."""
        self.state.settled(key)
        if self._crowded:
            self._room.raise_()

    def target(self, queue: str | None) -> QueueKeys | None:
        """Where an event for a queue goes in the same step; None: by the outbox, since it is in another slot."""
        keys = self._session.keys(queue) if queue else self.verbs.keys
        return None if self._session.endpoint.cluster and keys.base != self.verbs.keys.base else keys

    def server_time(self) -> float:
        """The server's clock in ms, not ahead of it."""
        return self.state.server_time(now())

    def log_failure(self, doing: str, delivery: str, error: EventQueueError) -> None:
        """Say that something failed while another error was on its way to the user."""
        log.warning("could not %s %s of %s: %s", doing, delivery, self._session.describe(), error)

    def _reconnected(self, _: Channel) -> None:
        self.unsure()

    def unsure(self) -> None:
        """The server may have handed something out, or may yet, on a connection that nobody reads any more."""
        self._hung_up = True
        self.state.reconnected(now() + self._longest + 1.0)

    def _be_heard(self) -> None:
        """Before anything is sent back: a blocking read of this consumer that goes on at the server would be handed it."""
        if self._hung_up:
            self._hung_up = False
            self._channel.run(all_heard())

    # -- for the heart, on its thread

    quiet = False
    """Chores are done once a lease, whatever happens."""

    @property
    def settings(self) -> bytes | None:
        """The text of the queue's settings."""
        return self._settings

    @property
    def consumer(self) -> str | None:
        """Its name at the server."""
        return self.state.name if self.state.registered else None

    def heard(self, sent: float) -> None:
        """A heartbeat was answered."""
        self.state.heard(sent)
        if self._refused:
            self._caller.later(self._settle_again)

    def tended(self, reply: Tended) -> None:
        """The queue's chores were done."""
        self._caller.call(self._learn, reply)

    def gone(self, consumer: str) -> None:
        """The lease is over."""
        if self._closed or not self.state.gone(consumer):
            return
        self._refused.clear()
        log.warning(
            "the lease of consumer %s on %s is over; its deliveries are others' now", consumer, self._session.describe()
        )
        if self._on_lost is not None:
            try:
                self._on_lost()
            except Exception:
                log.exception("the function failed that is told of a lost lease")
        self._room.raise_()
        self._caller.call(self._waiter.cancel)

    def _learn(self, reply: Tended) -> None:
        if reply.settings != self._settings:
            # Lanes, a pause, whose turn it is: whoever is blocked has to look again.
            self._settings = reply.settings
            self.state.look_again()
            self._waiter.cancel()
        if reply.outbox:
            self._relay.start()

    # -- the end

    def close(self) -> None:
        """Hand back what was not started and what is not settled, end the registration, hang up."""
        if self._closed:
            return
        self._closed = True
        if self.foreign:
            return  # a forked child, which has nothing to do with it
        try:
            self._heart.remove(self)
            self._room.raise_()
            self._waiter.cancel()
            self._hung_up = True
            self._settle_again()
            if self.state.registered:
                self._leave(self.state.name, self._session.closing_until or now() + LAST_PATIENCE)
        finally:
            self._relay.close()
            self._waiter.close()
            self._channel.close()
            if self._tidying is not None:
                self._tidying.stop()

    def _leave(self, name: str, until: float | None = None) -> None:
        """Hand back what is held and unregister; with ``until``, for the last time, and with patience until then."""
        channel = self._channel
        patience, channel._retry_for = channel._retry_for, LAST_PATIENCE
        try:
            if until is not None:
                channel.give_up_after(max(0.0, until - now()))
            self._be_heard()
            more = 1
            while more:
                if until is not None:
                    channel.give_up_after(max(0.0, until - now()))
                channel.flush()
                more = channel.run(self.verbs.leave(name))
        except EventQueueError as error:
            log.warning(
                "could not sign off from %s; what is still held there comes back when the lease is over: %s",
                self._session.describe(),
                error,
            )
        finally:
            channel._retry_for = patience
