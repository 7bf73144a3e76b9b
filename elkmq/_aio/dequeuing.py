"""The simple form: an event is handed out once and gone from the queue.

A reply that is lost, and a caller that is torn away before it has its event, would lose the event. So each dequeue has a
client's name and a turn: asked again for the same turn the server gives the same answer, and a turn that nobody wants any more
is undone. What remains is a process that dies between the server's step and the caller's: that event is gone, which is
what `EventQueue.receive` is for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from elkmq._aio.holder import LONGEST_WAIT
from elkmq._aio.link import Waiter
from elkmq._aio.session import Session
from elkmq._core.call import command
from elkmq._core.clock import now
from elkmq._core.consumer import consumer_name
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import Verbs, all_heard, beat
from elkmq.errors import EmptyQueue, EventQueueError, JSONParseError, LeaseLost, ServerConnectionError
from elkmq.event import ServiceEvent, TimestampedEvent, put_back

log = logging.getLogger("elkmq")

REMEMBERED = 120.0
"""Seconds, on top of ``retry_for``, for which the server remembers what a client's last dequeue was handed."""


class Dequeuing:
    """`EventQueue.dequeue` and `dequeue_blocking`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clients: list[_Client] = []
        self._idle: list[Waiter] = []
        self._busy: set[Waiter] = set()
        self._closed = False

    async def now(self) -> TimestampedEvent:
        """The next event; raises EmptyQueue."""
        while True:
            found, reply = await self._ask()
            if found is not None:
                return found
            if not reply.entries and reply.state != "more":
                raise self._nothing(reply)

    async def soon(self, span: float) -> TimestampedEvent:
        """The next event within so many seconds; raises EmptyQueue.

        While it waits it is a consumer whose lease covers its wait, so that what the blocking read hands it is not lost on
        the way; the dequeue that follows the read then makes it the caller's.
        """
        _, verbs = await self._session.open()
        deadline = now() + span
        place = _Place()
        waiter: Waiter | None = None
        try:
            while True:
                found, reply = await self._ask(place)
                if found is not None:
                    return found
                if reply.entries or reply.state == "more":
                    continue
                left = min(LONGEST_WAIT, deadline - now())
                if left <= 0:
                    raise self._nothing(reply)
                if waiter is None:
                    waiter = await self._waiter()
                if reply.state:
                    await self._until_served(waiter, verbs, left)
                else:
                    left = min(left, await self._next_event(verbs))
                    await self._until_there_is_one(waiter, verbs, place, reply, left)
        finally:
            if waiter is not None:
                self._busy.discard(waiter)
                self._idle.append(waiter)
            if place.registered:
                await self._leave(verbs, place)

    async def close(self) -> None:
        """Hang up; who waits is told."""
        self._closed = True
        waiters, self._idle = [*self._idle, *self._busy], []
        for waiter in waiters:
            await waiter.close()

    async def _ask(self, place: _Place | None = None) -> tuple[TimestampedEvent | None, Taken]:
        """One dequeue: the event, None where there was none or it could not be read; and what the server said."""
        pool, verbs = await self._session.open()
        keep = round((float(self._session.endpoint.options.retry_for) + REMEMBERED) * 1000)
        try:
            client = self._clients.pop()
        except IndexError:
            client = _Client()
        while True:
            again, client.unanswered = client.unanswered, False
            client.turn += not again
            try:
                reply = await pool.run(
                    verbs.dequeue(
                        place.name if place else "",
                        self._lease,
                        client=client.name,
                        turn=client.turn,
                        keep=keep,
                        beside_originals=self._session.options.compete_with_originals,
                    )
                )
                if place is not None and not reply.entries and not reply.state:
                    place.registered = True
                found = await self._event(verbs, reply.entries[0]) if reply.entries else None
            except ServerConnectionError:
                # Whoever dequeues here next asks for the same turn, and so gets what may have been handed out.
                client.unanswered = True
                self._clients.append(client)
                raise
            except EventQueueError:
                self._clients.append(client)
                raise
            except BaseException:
                if place is not None:
                    place.registered = True  # perhaps
                pool.leave(verbs.undo_dequeue(client.name, client.turn, keep))
                raise
            if not again or reply.entries:
                self._clients.append(client)
                return found, reply

    @property
    def _lease(self) -> int:
        return round((LONGEST_WAIT + float(self._session.options.lease)) * 1000)

    async def _waiter(self) -> Waiter:
        try:
            waiter = self._idle.pop()
        except IndexError:
            waiter = self._session.waiter()
        self._busy.add(waiter)
        if self._closed:
            await waiter.close()
        return waiter

    async def _until_served(self, waiter: Waiter, verbs: Verbs, left: float) -> None:
        """Wait until a paused queue goes on."""
        pool, _ = await self._session.open()
        after = await pool.run(command("XREVRANGE", verbs.keys.of("signals"), "+", "-", "COUNT", 1, parse=_last_id))
        if (await pool.run(verbs.check_settings({}))).get("paused") != "1":
            return  # it went on before the signal was looked at
        try:
            await waiter.wait(verbs.wait_for_signal(max(1, round(left * 1000)), after))
        except ServerConnectionError:
            return  # the dequeue that follows reconnects, with the patience of every call

    async def _next_event(self, verbs: Verbs) -> float:
        """Do what is due, since there may be no consumer to do it; seconds until there is more to do."""
        pool, _ = await self._session.open()
        tended = await pool.run(verbs.tend("", 0, chores=False))
        if tended.more or tended.taken_over:
            return 0.0
        return LONGEST_WAIT if tended.next_event < 0 else tended.next_event / 1000

    async def _until_there_is_one(self, waiter: Waiter, verbs: Verbs, place: _Place, reply: Taken, left: float) -> None:
        """Have the server hand something to this place; the dequeue that follows finds it there."""
        call = verbs.wait_for_entries(place.name, 1, reply.lanes, max(1, round(left * 1000)))
        before, place.unsure_until = place.unsure_until, now() + left + 1.0
        try:
            if await waiter.wait(call) is not None:
                place.unsure_until = before
        except ServerConnectionError:
            return
        except EventQueueError as error:
            if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                raise
            # The queue was deleted; the dequeue that follows makes it again.

    async def _leave(self, verbs: Verbs, place: _Place) -> None:
        """Hand back what came besides; where a blocking read was broken off, the server may give to it for a while yet."""
        try:
            pool, _ = await self._session.open()
            unsure = place.unsure_until - now()
            if unsure <= 0:
                await pool.run(verbs.leave(place.name))
                return
            await pool.run(all_heard())
            left = await pool.run(verbs.recover(place.name, [], 100))
            if left:
                keys = [(entry.lane, entry.id) for entry in left]
                await pool.run(verbs.requeue(place.name, keys, failed=False, seen=False))
            await pool.run(beat([(verbs, place.name, round(unsure * 1000))]))
        except LeaseLost:
            return
        except EventQueueError as error:
            if not self._closed:
                log.warning("what %s was handed comes back when its lease is over: %s", self._session.describe(), error)

    async def _event(self, verbs: Verbs, entry: Entry) -> TimestampedEvent | None:
        try:
            return _read(entry)
        except JSONParseError as error:
            log.error(
                "an entry of %s cannot be read: it is among the dead letters: %s", self._session.describe(), error
            )
            pool, _ = await self._session.open()
            await pool.run(verbs.bury(entry, "unreadable", str(error)))
            return None

    def _nothing(self, reply: Taken) -> EmptyQueue:
        if reply.state == "paused":
            return EmptyQueue(f"the queue {self._session.name!r} is paused and hands out nothing.")
        return EmptyQueue(f"the queue {self._session.name!r} has nothing to hand out now.")


class _Client:
    """Who asks, and for the how many-eth time. One caller's at a time."""

    def __init__(self) -> None:
        self.name = consumer_name()
        self.turn = 0
        self.unanswered = False
        """Whether the answer to this turn was lost for good."""


class _Place:
    """One caller's place among the consumers."""

    def __init__(self) -> None:
        self.name = consumer_name()
        self.registered = False
        self.unsure_until = 0.0
        """Until when the server may hand it something that nobody reads, by `elkmq._core.clock`."""


def _last_id(reply: Sequence[Any]) -> bytes:
    return bytes(reply[0][0]) if reply else b"0-0"


def _read(entry: Entry) -> TimestampedEvent:
    return TimestampedEvent(entry.timestamp, put_back(ServiceEvent.from_json(entry.fields.get(b"event", b""))))
