# Generated from elkmq/_aio/consumer.py by tools/async_to_sync.py; edit that.
"""A consumer: it takes deliveries ahead, keeps its lease, comes back after a broken connection.

What to do next is decided by `elkmq._core.consumer.ConsumerState`; this shell does it. What is held already is
`elkmq._sync.holder`'s.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from elkmq._core import actions as core
from elkmq._core.call import Call
from elkmq._core.clock import now
from elkmq._core.entry import OURS, Entry, unknown_format
from elkmq._core.verbs import Delivered, Verbs
from elkmq._sync._concurrency import Background, Turn
from elkmq._sync.delivery import Delivery
from elkmq._sync.holder import Holder
from elkmq._sync.link import Waiter
from elkmq._sync.session import Session
from elkmq.errors import EventQueueError, JSONParseError, LeaseLost, QueueClosed, ServerConnectionError
from elkmq.event import ServiceEvent, plainly_an_event, put_back
from elkmq.options import Seconds, seconds, whole

log = logging.getLogger("elkmq")

T = TypeVar("T")

WAITS = (core.Block, core.Signal, core.Full)


class Consumer(Holder):
    """Deliveries of one queue, under one lease. Made by `EventQueue.consumer`.

    As a context manager it hands back at its end what was not started; iterating gives deliveries without end. Any number
    of threads or tasks may work on its deliveries; one at a time asks for the next.
    """

    def __init__(
        self, session: Session, verbs: Verbs, *, prefetch: int, lease: float, on_lost: Callable[[], None] | None = None
    ) -> None:
        super().__init__(session, verbs, prefetch=prefetch, lease=lease, on_lost=on_lost)
        self._fetching = Turn()
        self._resting: float | None = None  # since when nobody is going to ask for deliveries
        self._stopping = False

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

    def get_many(self, n: int, timeout: Seconds | None = None) -> list[Delivery]:
        """The next deliveries, ``n`` at most, in one round trip where they are there; waits as `get` for the first."""
        whole("n", n, 1, sys.maxsize)
        span = None if timeout is None else seconds("timeout", timeout)
        self._refuse_to_work()
        try:
            self._fetching.take(None)
            self.state.batch = n
            self._resting = None
            first = self._next(None if span is None else now() + span)
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
            self._caller.later(
                self._begin_to_tidy
            )  # starting a thread is nothing for a caller whom a signal may tear away

    def _next(self, deadline: float | None) -> Delivery | None:
        if self.state.handing is not None:
            self._pick_up()
        first = deadline is not None and deadline > now()
        if deadline is not None and not first:
            self.state.asked_anew()
        while True:
            if self._closed or self.foreign:
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
            waits = isinstance(action, WAITS)
            if waits and left <= 0 and not first:
                return None
            first = first and not waits
            self._perform(action, max(left, 0.001))

    def _pick_up(self) -> None:
        """What somebody torn away was about to be given is asked for anew."""
        if (key := self.state.handing) is not None:
            self.state.handing = None
            self.forget(key)

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
                found = self._wait(
                    verbs.wait_for_entries(state.name, action.n, state.lanes, max(1, round(left * 1000)))
                )
                state.was_read(found or [])
                if not found and left >= self._longest:
                    state.look_again()
            elif isinstance(action, core.Read):
                state.was_read(self._look(verbs.read_entries(state.name, action.n, state.lanes)) or [])
            elif isinstance(action, core.Full):
                self._crowded = True
                if self.state.full:  # looked at after the flag is up: what is settled from now on raises it
                    self._room.wait(left)
                self._crowded = False
            elif isinstance(action, core.Open):
                self._open(sent)
            else:
                self._see_to(action, sent, left)
        except LeaseLost:
            self.gone(state.name)
        except BaseException:
            # Whoever is thrown out here may leave a reply unread, with entries in it.
            self.unsure()
            raise

    def _open(self, sent: float) -> None:
        compete = self._session.options.compete_with_originals
        call = self.verbs.open(self.state.name, round(self.lease * 1000), _info(), beside_originals=compete)
        server_ms, self._settings, _ = self._channel.run(call)
        self._refuse_to_work()
        self.state.opened(server_ms, sent, now())
        self._heart.add(self)

    def _see_to(self, action: core.Action, sent: float, left: float) -> None:
        """What is seldom asked for."""
        state, verbs = self.state, self.verbs
        if isinstance(action, core.GiveBack):
            keys = [(entry.lane, entry.id) for entry in action.entries]
            self._channel.run(verbs.requeue(state.name, keys, failed=False, seen=False))
        elif isinstance(action, core.Signal):
            self._wait(verbs.wait_for_signal(max(1, round(left * 1000)), action.after))
            state.look_again()
        elif isinstance(action, core.Recover):
            self._be_heard()
            state.recovered(self._channel.run(verbs.recover(state.name, state.known(), 1000)))
        elif isinstance(action, core.Tend):
            tended = self._channel.run(verbs.tend(state.name, round(self.lease * 1000), chores=False))
            state.tended(sent)
            self._learn(tended)
        elif isinstance(action, core.Expired):
            entry = action.entry
            self._channel.run(verbs.reject(state.name, [(entry.lane, entry.id)], "expired"))

    def _wait(self, call: Call[T]) -> T | None:
        try:
            # First this, then the look at what was posted: whoever posts does it the other way round.
            self._blocked = True
            if self._channel.outstanding:
                self._channel.flush()  # nobody would see a refusal, or that the server lost a script
            found = self._look(call, self._waiter)
        finally:
            self._blocked = False
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
            delivery = self._sort_out(entry, key)
        except BaseException:
            self.state.handing = None
            self.forget(key)
            raise
        self.state.handing = None
        return delivery

    def _sort_out(self, entry: Entry, key: Delivered) -> Delivery | None:
        if entry.fields.get(b"v") != OURS and (newer := unknown_format(entry)):
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
                if b"response" in entry.fields and entry.lane == b"0":
                    self.state.settled(key)
                    self._session.met(self._channel.run_many(self.verbs.keep_response(entry)))
                    return None
                raise JSONParseError("the entry has no event field; correct its producer.")
            delivery = Delivery(self, entry, plainly_an_event(data) or put_back(ServiceEvent.from_json(data)))
        except JSONParseError as error:
            log.error("an entry of %s cannot be read and goes to the dead letters: %s", self._session.describe(), error)
            self.state.settled(key)
            self._channel.run(self.verbs.reject(self.state.name, [key], "unreadable", str(error)))
            return None
        if entry.fields.get(b"failed"):
            self._channel.post(self.verbs.start(self.state.name, key), _ignore)
        return delivery

    # -- while nobody asks for deliveries

    def _tidy(self) -> None:
        if not self._closed and (self._tidying is None or not self._tidying.running):
            self._tidying = Background(self._tidy_up, "elkmq-tidy")

    def _begin_to_tidy(self) -> None:
        self._tidy()

    def _tidy_up(self) -> None:
        """Hand back what nobody was given; where nothing is held at all, go."""
        try:
            if not self._fetching.take(0.0):
                return
            state = self.state
            if self._closed or self._resting is None or not state.registered:
                return
            self._pick_up()
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

    def heard(self, sent: float) -> None:
        """A heartbeat was answered; and a consumer that rests may have something to do."""
        super().heard(sent)
        resting, state = self._resting, self.state
        if resting is not None and (state.unseen or (not state.holding and now() - resting > self.lease)):
            self._caller.call(self._tidy)


def _info() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": int(time.time() * 1000)}


def _ignore(reply: object) -> None:
    """A start mark that did not arrive makes a later crash count for one entry less."""
