# Generated from elkmq/_aio/dequeuing.py by tools/async_to_sync.py; edit that.
"""The simple form: an event is handed out once and gone from the queue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from elkmq._core.call import command
from elkmq._core.clock import now
from elkmq._core.consumer import consumer_name
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import Verbs, beat
from elkmq._sync.link import Waiter
from elkmq._sync.session import Session
from elkmq.errors import EmptyQueue, EventQueueError, JSONParseError, LeaseLost, ServerConnectionError
from elkmq.event import ServiceEvent, TimestampedEvent, put_back

log = logging.getLogger("elkmq")

LONGEST_WAIT = 10.0
"""Seconds of one blocking read at most, as in `elkmq._sync.consumer`."""


class Dequeuing:
    """`EventQueue.dequeue` and `dequeue_blocking`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._idle: list[Waiter] = []
        self._busy: set[Waiter] = set()
        self._closed = False

    def now(self) -> TimestampedEvent:
        """The next event; raises EmptyQueue."""
        pool, verbs = self._session.open()
        while True:
            reply = pool.run(verbs.dequeue())
            if reply.state == "more":
                continue
            if not reply.entries:
                raise self._nothing(reply)
            found = self._event(verbs, reply.entries[0])
            if found is not None:
                return found

    def soon(self, span: float) -> TimestampedEvent:
        """The next event within so many seconds; raises EmptyQueue.

        While it waits it is a consumer whose lease covers its wait, so that what the blocking read hands it is not lost on
        the way; it is then completed like any delivery.
        """
        pool, verbs = self._session.open()
        deadline = now() + span
        waiter = self._idle.pop() if self._idle else self._session.waiter()
        self._busy.add(waiter)
        if self._closed:
            waiter.close()
        place = _Place()
        try:
            while True:
                if place.waited:
                    # The connection may have broken meanwhile; what follows cannot be repeated, so that is found out, and
                    # mended, with a call that can.
                    pool.run(verbs.join())
                reply = pool.run(verbs.dequeue(place.name, self._lease))
                if reply.entries:
                    found = self._event(verbs, reply.entries[0])
                    if found is not None:
                        return found
                    continue
                if reply.state == "more":
                    continue
                left = min(LONGEST_WAIT, deadline - now())
                if left <= 0:
                    raise self._nothing(reply)
                if reply.state:
                    self._until_served(waiter, verbs, left)
                    continue
                place.waited = True
                left = min(left, self._next_event(verbs))
                found = self._first(waiter, verbs, place, reply, left)
                if found is not None:
                    return found
        finally:
            self._busy.discard(waiter)
            self._idle.append(waiter)
            if place.waited:
                self._leave(verbs, place)

    def close(self) -> None:
        """Hang up; who waits is told."""
        self._closed = True
        waiters, self._idle = [*self._idle, *self._busy], []
        for waiter in waiters:
            waiter.close()

    @property
    def _lease(self) -> int:
        return round((LONGEST_WAIT + float(self._session.options.lease)) * 1000)

    def _until_served(self, waiter: Waiter, verbs: Verbs, left: float) -> None:
        """Wait until a paused queue goes on."""
        pool, _ = self._session.open()
        after = pool.run(command("XREVRANGE", verbs.keys.of("signals"), "+", "-", "COUNT", 1, parse=_last_id))
        if (pool.run(verbs.check_settings({}))).get("paused") != "1":
            return  # it went on before the signal was looked at
        try:
            waiter.wait(verbs.wait_for_signal(max(1, round(left * 1000)), after))
        except ServerConnectionError:
            return  # the dequeue that follows reconnects, with the patience of every call

    def _next_event(self, verbs: Verbs) -> float:
        """Do what is due, since there may be no consumer to do it; seconds until there is more to do."""
        pool, _ = self._session.open()
        tended = pool.run(verbs.tend("", 0, chores=False))
        if tended.more or tended.taken_over:
            return 0.0
        return LONGEST_WAIT if tended.next_event < 0 else tended.next_event / 1000

    def _first(self, waiter: Waiter, verbs: Verbs, place: _Place, reply: Taken, left: float) -> TimestampedEvent | None:
        call = verbs.wait_for_entries(place.name, 1, reply.lanes, max(1, round(left * 1000)))
        before, place.unsure_until = place.unsure_until, now() + left + 1.0
        try:
            entries = waiter.wait(call)
            if entries is not None:
                place.unsure_until = before
        except ServerConnectionError:
            pool, _ = self._session.open()
            try:
                entries = pool.run(verbs.recover(place.name, [], 1))
            except LeaseLost:
                place.name, entries = consumer_name(), None
        except EventQueueError as error:
            if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                raise
            entries = None  # the queue was deleted; the dequeue that follows makes it again
        for entry in entries or ():
            found = self._take(verbs, place, entry)
            if found is not None:
                return found
        return None

    def _leave(self, verbs: Verbs, place: _Place) -> None:
        """Hand back what came besides; where a blocking read was broken off, the server may give to it for a while yet."""
        try:
            pool, _ = self._session.open()
            unsure = place.unsure_until - now()
            if unsure <= 0:
                pool.run(verbs.leave(place.name))
                return
            left = pool.run(verbs.recover(place.name, [], 100))
            if left:
                keys = [(entry.lane, entry.id) for entry in left]
                pool.run(verbs.requeue(place.name, keys, failed=False, seen=False))
            pool.run(beat([(verbs, place.name, round(unsure * 1000))]))
        except LeaseLost:
            return
        except EventQueueError as error:
            if not self._closed:
                log.warning("what %s was handed comes back when its lease is over: %s", self._session.describe(), error)

    def _take(self, verbs: Verbs, place: _Place, entry: Entry) -> TimestampedEvent | None:
        if entry.lane == b"w":
            return None  # The dequeue that follows passes the wake token on.
        pool, _ = self._session.open()
        key = (entry.lane, entry.id)
        if b"response" in entry.fields and b"event" not in entry.fields:
            pool.run_many(verbs.keep_response(entry))
            return None
        try:
            found = _read(entry)
        except JSONParseError as error:
            log.error(
                "an entry of %s cannot be read: it is among the dead letters: %s", self._session.describe(), error
            )
            pool.run(verbs.reject(place.name, [key], "unreadable", str(error)))
            return None
        if pool.run(verbs.settle(place.name, [key])):
            place.name = consumer_name()  # its lease was over, and a name is not used again
            return None
        return found

    def _event(self, verbs: Verbs, entry: Entry) -> TimestampedEvent | None:
        try:
            return _read(entry)
        except JSONParseError as error:
            log.error(
                "an entry of %s cannot be read: it is among the dead letters: %s", self._session.describe(), error
            )
            pool, _ = self._session.open()
            pool.run(verbs.bury(entry, "unreadable", str(error)))
            return None

    def _nothing(self, reply: Taken) -> EmptyQueue:
        if reply.state == "paused":
            return EmptyQueue(f"the queue {self._session.name!r} is paused and hands out nothing.")
        return EmptyQueue(f"the queue {self._session.name!r} has nothing to hand out now.")


class _Place:
    """One caller's place among the consumers."""

    def __init__(self) -> None:
        self.name = consumer_name()
        self.waited = False
        """Whether it is registered."""
        self.unsure_until = 0.0
        """Until when the server may hand it something that nobody reads, by `elkmq._core.clock`."""


def _last_id(reply: Sequence[Any]) -> bytes:
    return bytes(reply[0][0]) if reply else b"0-0"


def _read(entry: Entry) -> TimestampedEvent:
    return TimestampedEvent(entry.timestamp, put_back(ServiceEvent.from_json(entry.fields.get(b"event", b""))))
