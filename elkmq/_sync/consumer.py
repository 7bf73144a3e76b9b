# Generated from elkmq/_aio/consumer.py by tools/async_to_sync.py; edit that.
"""A consumer: it takes deliveries ahead, keeps its lease, comes back after a broken connection.

What to do next is decided by `elkmq._core.consumer.ConsumerState`; this shell does it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from elkmq._core import actions as core
from elkmq._core.call import Call
from elkmq._core.clock import now
from elkmq._core.consumer import ConsumerState
from elkmq._core.entry import Entry, Tended, unknown_format
from elkmq._core.sending import LAST_PATIENCE
from elkmq._core.verbs import Delivered, Verbs
from elkmq._heart import Heart, heart
from elkmq._sync._concurrency import Background, Caller, Flag, Turn
from elkmq._sync.delivery import Delivery
from elkmq._sync.link import Channel, Waiter
from elkmq._sync.relay import Relay
from elkmq._sync.session import Session
from elkmq.errors import EventQueueError, JSONParseError, LeaseLost, QueueClosed, ServerConnectionError
from elkmq.event import ServiceEvent, plainly_an_event, put_back
from elkmq.keys import QueueKeys
from elkmq.options import Seconds, seconds

log = logging.getLogger("elkmq")

T = TypeVar("T")

LONGEST_WAIT = 10.0
"""Seconds of one blocking read at most: after that the server's state is looked at again. Under a Redis `timeout` setting
that hangs up idle clients nothing is lost, it only costs a reconnect."""


class Consumer:
    """Deliveries of one queue, under one lease. Made by `EventQueue.consumer`.

    As a context manager it hands back at its end what was not started; iterating gives deliveries without end. Any number
    of threads or tasks may work on its deliveries; one at a time asks for the next.
    """

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
        self._fetching = Turn()
        self._room = Flag()
        self._crowded = False
        self._pid = os.getpid()
        self._heart: Heart = heart(session.endpoint, session.slot_key)
        self._relay = Relay(session, verbs)
        self._settings: bytes | None = None
        self._resting: float | None = None  # since when nobody is going to ask for deliveries
        self._tidying: Background | None = None
        self._stopping = False
        self._closed = False

    # -- for callers

    def get(self, timeout: Seconds | None = None) -> Delivery | None:
        """The next delivery; None after ``timeout`` seconds (None: wait for ever; 0: only what is there).

        Raises:
            ServerConnectionError: The server could not be reached for longer than ``retry_for``. Deliveries held stay this
                consumer's until the lease is over.
            QueueClosed: The consumer was closed.
        """
        timeout = None if timeout is None else seconds("timeout", timeout)
        deadline = None if timeout is None else now() + timeout
        self._refuse_to_work()
        try:
            return self._next(deadline) if self._fetching.take(timeout) else None
        finally:
            self._fetching.give()

    def get_many(self, n: int, timeout: float | None = None) -> list[Delivery]:
        """The next deliveries, ``n`` at most, in one round trip where they are there; waits as `get` for the first."""
        self._refuse_to_work()
        try:
            self._fetching.take(None)
            self.state.batch = n
            self._resting = None
            first = self._next(None if timeout is None else now() + timeout)
            if first is None:
                return []
            found = [first]
            try:
                for entry in self.state.at_hand(n - 1, now()):
                    delivery = self._deliver(entry)
                    if delivery is not None:
                        found.append(delivery)
            except BaseException:
                for delivery in found:
                    delivery.forget()
                raise
            return found
        finally:
            self._fetching.give()

    def rest(self) -> None:
        """Nobody is going to ask for deliveries for now; so what was taken and not handed over goes back."""
        self._resting = now()
        if self.state.unseen and not self._closed:
            self._tidy()

    def _next(self, deadline: float | None) -> Delivery | None:
        first = deadline is not None and deadline > now()
        if deadline is not None and not first:
            self.state.asked_anew()
        while True:
            self._refuse_to_work()
            if self._stopping:
                return None
            at = now()
            action = self.state.next_action(at, patient=deadline is None or deadline > at)
            if isinstance(action, core.Deliver):
                delivery = self._deliver(action.entry)
                if delivery is not None:
                    return delivery
                continue
            left = self._longest if deadline is None else min(self._longest, deadline - at)
            waits = isinstance(action, core.Block | core.Signal | core.Full)
            if waits and left <= 0 and not first:
                return None
            first = first and not waits
            self._perform(action, max(left, 0.001))

    def _refuse_to_work(self) -> None:
        if self._closed or self.foreign:
            raise QueueClosed("this consumer was closed, or belongs to the parent process; make a new one.")

    def stop(self) -> None:
        """Make `get` return None, now and from now on; from any thread."""
        self._stopping = True
        self._room.raise_()
        self._caller.call(self._waiter.cancel)

    def __iter__(self) -> Iterator[Delivery]:
        while not self._stopping:
            delivery = self.get()
            if delivery is not None:
                yield delivery

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
            more = 1
            while more:
                if until is not None:
                    channel.give_up_after(max(0.0, until - now()))
                channel.flush()
                more = channel.run(self.verbs.leave(name))
        except EventQueueError as error:
            log.warning(
                "could not hand back deliveries of %s; they come back when the lease is over: %s",
                self._session.describe(),
                error,
            )
        finally:
            channel._retry_for = patience

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what the state asks for

    def _perform(self, action: core.Action, left: float) -> None:
        state, verbs = self.state, self.verbs
        sent = now()
        try:
            if isinstance(action, core.Take):
                taken = self._channel.run(verbs.take(state.name, action.n, action.token))
                state.taken(taken, now())
                if taken.next_event > 0:
                    self._heart.sooner(self, taken.next_event / 1000)
            elif isinstance(action, core.Block):
                self._settle_down()
                found = self._wait(
                    verbs.wait_for_entries(state.name, action.n, state.lanes, max(1, round(left * 1000)))
                )
                state.was_read(found or [])
                if not found and left >= self._longest:
                    state.look_again()
            elif isinstance(action, core.Read):
                state.was_read(self._look(verbs.read_entries(state.name, action.n, state.lanes)) or [])
            elif isinstance(action, core.GiveBack):
                keys = [(entry.lane, entry.id) for entry in action.entries]
                self._channel.run(verbs.requeue(state.name, keys, failed=False, seen=False))
            elif isinstance(action, core.Signal):
                self._settle_down()
                self._wait(verbs.wait_for_signal(max(1, round(left * 1000)), action.after))
                state.look_again()
            elif isinstance(action, core.Full):
                self._crowded = True
                if self.state.full:  # looked at after the flag is up: what is settled from now on raises it
                    self._room.wait(left)
                self._crowded = False
            elif isinstance(action, core.Open):
                call = verbs.open(
                    state.name,
                    round(self.lease * 1000),
                    _info(),
                    beside_originals=self._session.options.compete_with_originals,
                )
                server_ms, self._settings = self._channel.run(call)
                self._refuse_to_work()
                state.opened(server_ms, sent, now())
                self._heart.add(self)
            elif isinstance(action, core.Recover):
                state.recovered(self._channel.run(verbs.recover(state.name, state.known(), 1000)))
            elif isinstance(action, core.Tend):
                tended = self._channel.run(verbs.tend(state.name, round(self.lease * 1000), chores=False))
                state.tended(sent)
                self._learn(tended)
            elif isinstance(action, core.Expired):
                entry = action.entry
                self._channel.run(verbs.reject(state.name, [(entry.lane, entry.id)], "expired"))
        except LeaseLost:
            self.gone(state.name)
        except BaseException:
            # Whoever is thrown out here may leave a reply unread, with entries in it.
            self.unsure()
            raise

    def _settle_down(self) -> None:
        """Before a wait: what was posted has to be answered, since nobody would look whether it was."""
        if self._channel.outstanding:
            self._channel.flush()

    def _wait(self, call: Call[T]) -> T | None:
        if self._channel.outstanding:
            # What was posted is answered before the long silence: a refusal, or a script that the server lost, is seen now.
            self._channel.flush()
        found = self._look(call, self._waiter)
        if found is None:  # it was cancelled, by hanging up
            self.unsure()
        return found

    def _look(self, call: Call[T], waiter: Waiter | None = None) -> T | None:
        try:
            return self._channel.run(call) if waiter is None else waiter.wait(call)
        except ServerConnectionError:
            # What the broken connection may have been handed is asked for next, with the patience of every call.
            self.unsure()
            return None
        except EventQueueError as error:
            if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                raise
            log.warning(
                "the queue %s was deleted or its server is an empty replica; it is made again", self._session.describe()
            )
            self.state.look_again()
            return None

    def _deliver(self, entry: Entry) -> Delivery | None:
        """Hand an entry over; None where it is no event, and is put where it belongs."""
        key = (entry.lane, entry.id)
        try:
            return self._sort_out(entry, key)
        except BaseException:
            self.forget(key)
            raise

    def _sort_out(self, entry: Entry, key: Delivered) -> Delivery | None:
        if newer := unknown_format(entry):
            log.error(
                "an entry of %s has format %s: it waits among the dead letters for a newer release",
                self._session.describe(), newer,
            )  # fmt: skip
            self.state.settled(key)
            self._channel.run(self.verbs.reject(self.state.name, [key], "format"))
            return None
        data = entry.fields.get(b"event")
        try:
            if data is None:
                if b"response" in entry.fields:
                    self.state.settled(key)
                    self._session.met(self._channel.run_many(self.verbs.keep_response(entry)))
                    return None
                raise JSONParseError("the entry has no event field; correct its producer.")
            delivery = Delivery(self, entry, None if plainly_an_event(data) else put_back(ServiceEvent.from_json(data)))
        except JSONParseError as error:
            log.error("an entry of %s cannot be read and goes to the dead letters: %s", self._session.describe(), error)
            self.state.settled(key)
            self._channel.run(self.verbs.reject(self.state.name, [key], "unreadable", str(error)))
            return None
        if entry.fields.get(b"failed"):
            self._channel.post(self.verbs.start(self.state.name, key), _ignore)
        return delivery

    def _reconnected(self, _: Channel) -> None:
        self.unsure()

    def unsure(self) -> None:
        """The server may have handed something out, or may yet, on a connection that nobody reads any more."""
        self.state.reconnected(now() + self._longest + 1.0)

    # -- while nobody asks for deliveries

    def _tidy(self) -> None:
        if self._tidying is None or not self._tidying.running:
            self._tidying = Background(self._tidy_up, "elkmq-tidy")

    def _tidy_up(self) -> None:
        """Hand back what nobody was given; where nothing is held at all, go."""
        try:
            if not self._fetching.take(0.0):
                return
            state = self.state
            if self._closed or self._resting is None or not state.registered:
                return
            if not state.holding:
                self._heart.remove(self)
                self._leave(state.leave())
                return
            while state.unseen:
                state.give_back()
                action = state.next_action(now())
                if not isinstance(action, core.Recover | core.GiveBack):
                    return
                self._perform(action, 0.001)
        except EventQueueError as error:
            log.warning("events of %s wait for the next heartbeat to go back: %s", self._session.describe(), error)
        finally:
            self._fetching.give()

    # -- for deliveries

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def foreign(self) -> bool:
        """Whether it is another process's: this one was forked since."""
        return os.getpid() != self._pid

    def run(self, call: Call[T]) -> T:
        """Send a delivery's verb and wait for its answer."""
        if self.foreign:
            raise QueueClosed("this delivery belongs to the parent process; nothing changed; settle it there.")
        return self._channel.run(call)

    def post(self, call: Call[frozenset[int]]) -> None:
        """Send an acknowledgement; a refusal is reported when it comes."""

        def done(reply: frozenset[int] | EventQueueError) -> None:
            if isinstance(reply, EventQueueError):
                log.error("an acknowledgement may not have arrived; if so its event is handed out again: %s", reply)
                self.unsure()
            elif reply:
                log.warning("an acknowledgement on %s was refused: the lease was lost", self._session.describe())
                self.gone(self.state.name)

        if self.foreign:
            raise QueueClosed("this delivery belongs to the parent process; nothing changed; settle it there.")
        self._channel.post(call, done)

    def forget(self, key: Delivered) -> None:
        """A delivery that could not be settled: if it is this consumer's still, it is handed out once more."""
        self.unsure()
        self.settled(key)

    def dropped(self, name: str, entry: Entry) -> None:
        """A delivery was forgotten unsettled. Called by the garbage collector, anywhere."""
        if self._closed or self.foreign or self.state.lost(name):
            return
        what = f"{entry.lane.decode()}/{entry.id.decode()} of {self._session.describe()}"
        warnings.warn(f"the delivery {what} was dropped unsettled and is sent back", ResourceWarning, stacklevel=3)
        self._caller.later(self._send_back, name, (entry.lane, entry.id), what)

    def _send_back(self, name: str, key: Delivered, what: str) -> None:
        if self._closed or self.state.lost(name):
            return
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

    # -- for the heart, on its thread

    @property
    def consumer(self) -> str | None:
        """Its name at the server."""
        return self.state.name if self.state.registered else None

    def heard(self, sent: float) -> None:
        """A heartbeat was answered."""
        self.state.heard(sent)
        resting, state = self._resting, self.state
        if resting is not None and (state.unseen or (not state.holding and now() - resting > self.lease)):
            self._caller.call(self._tidy)

    def tended(self, reply: Tended) -> None:
        """The queue's chores were done."""
        self._caller.call(self._learn, reply)

    def gone(self, consumer: str) -> None:
        """The lease is over."""
        if self._closed or not self.state.gone(consumer):
            return
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


def _info() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": int(time.time() * 1000)}


def _ignore(reply: object) -> None:
    """A start mark that did not arrive makes a later crash count for one entry less."""
