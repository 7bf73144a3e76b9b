# Generated from elkmq/_aio/dequeuing.py by tools/async_to_sync.py; edit that.
"""The simple form: an event is handed out once and gone from the queue."""

from __future__ import annotations

import logging

from elkmq._core.clock import now
from elkmq._core.consumer import consumer_name
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import Verbs
from elkmq._sync.link import Waiter
from elkmq._sync.session import Session
from elkmq.errors import EmptyQueue, JSONParseError, ServerConnectionError
from elkmq.event import ServiceEvent, TimestampedEvent, put_back

log = logging.getLogger("elkmq")

LONGEST_WAIT = 10.0
"""Seconds of one blocking read at most, as in `elkmq._sync.consumer`."""


class Dequeuing:
    """`EventQueue.dequeue` and `dequeue_blocking`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiters: list[Waiter] = []

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
        name = consumer_name()
        lease = round((LONGEST_WAIT + float(self._session.options.lease)) * 1000)
        waiter = self._waiters.pop() if self._waiters else self._session.waiter()
        waited = False
        try:
            while True:
                reply = pool.run(verbs.dequeue(name, lease))
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
                waited = True
                block = max(1, round(left * 1000))
                if reply.state:
                    self._wait(waiter, verbs, block)
                    continue
                for entry in self._entries(waiter, verbs, name, reply, block):
                    found = self._take(verbs, name, entry)
                    if found is not None:
                        return found
        finally:
            self._waiters.append(waiter)
            if waited:
                pool.run(verbs.leave(name))

    def close(self) -> None:
        """Hang up."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.close()

    def _wait(self, waiter: Waiter, verbs: Verbs, block: int) -> None:
        try:
            waiter.wait(verbs.wait_for_signal(block))
        except ServerConnectionError:
            pass  # The dequeue that follows reconnects, with the patience of every call.

    def _entries(self, waiter: Waiter, verbs: Verbs, name: str, reply: Taken, block: int) -> list[Entry]:
        try:
            return waiter.wait(verbs.wait_for_entries(name, 1, reply.lanes, block)) or []
        except ServerConnectionError:
            pool, _ = self._session.open()
            return pool.run(verbs.recover(name, [], 1))

    def _take(self, verbs: Verbs, name: str, entry: Entry) -> TimestampedEvent | None:
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
            pool.run(verbs.reject(name, [key], "unreadable", str(error)))
            return None
        refused = pool.run(verbs.settle(name, [key]))
        return None if refused else found

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


def _read(entry: Entry) -> TimestampedEvent:
    return TimestampedEvent(entry.timestamp, put_back(ServiceEvent.from_json(entry.fields.get(b"event", b""))))
