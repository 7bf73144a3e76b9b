"""Requests of one client and their responses: any number awaited at once over one blocking connection, without polling.

A request carries the client's inbox and its time to live. Whoever completes it writes the response to the inbox, if
somebody can still be waiting; one reader blocks on the inbox and hands each response to who awaits it. The inbox goes
with its last deadline, so a client that dies leaves nothing behind.
"""

from __future__ import annotations

import logging
import secrets

from elkmq._aio._concurrency import Background, Lock, Promise
from elkmq._aio.link import Waiter
from elkmq._aio.session import Session
from elkmq._core.entry import Outgoing
from elkmq.errors import EnqueueError, EventQueueError, JSONParseError, QueueClosed, TimeoutExpired
from elkmq.event import ServiceEvent, TimestampedEvent

log = logging.getLogger("elkmq")

READ_WAIT = 10_000
"""Milliseconds of one blocking read; with nobody waiting the reader ends after one of them."""

FORGET_AT = 100
"""Responses read before they are removed from the inbox, in one command."""


class Requests:
    """The requests that one client has under way at one queue."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inbox = secrets.token_hex(8)
        self._waiting: dict[bytes, Promise[TimestampedEvent]] = {}
        self._starting = Lock()
        self._reader: Background | None = None
        self._waiter: Waiter | None = None
        self._reading = False
        self._closed = False
        self._last = b"0-0"
        self._read: list[bytes] = []

    async def ask(self, event: ServiceEvent, outgoing: Outgoing, timeout: float) -> TimestampedEvent:
        """Enqueue a request and await its response for ``timeout`` seconds.

        Raises:
            TimeoutExpired: No response came in time; the request is not handed out any more.
            EnqueueError: The event was enqueued before, by somebody else or without being awaited.
        """
        pool, verbs = await self._session.open()
        key = str(event.uuid).encode()
        if key in self._waiting:
            raise EnqueueError(f"the response to {event.uuid} is awaited already; nothing was sent; make a new event.")
        promise: Promise[TimestampedEvent] = Promise()
        self._waiting[key] = promise
        fields = ("ttl", max(1, round(timeout * 1000)), "reply_to", self._inbox, *outgoing.fields)
        try:
            await self._start_reading()
            request = Outgoing(outgoing.json, outgoing.unique, outgoing.delay, outgoing.priority, self._inbox, fields)
            if (await pool.run(verbs.enqueue([request])))[0].duplicate:
                raise EnqueueError(
                    f"the event {event.uuid} was enqueued before, without anybody here awaiting it; nothing was added, "
                    "and its response would not come here; make a new event."
                )
            return await promise.wait(timeout)
        except TimeoutError:
            raise TimeoutExpired(
                f"no response to {event.action!r} came within {timeout:g} s; the request is not handed out any more, a "
                "handler that already has it may still be at work; send a new one, or allow more time."
            ) from None
        finally:
            self._waiting.pop(key, None)

    async def close(self) -> None:
        """End the reading; requests under way fail."""
        self._closed = True
        if self._waiter is not None:
            await self._waiter.close()
        if self._reader is not None:
            await self._reader.stop()
        self._fail(QueueClosed("the queue was closed while the response was awaited; the request may still be handled."))

    async def _start_reading(self) -> None:
        if self._reading:
            return
        async with self._starting:
            if not self._reading and not self._closed:
                if self._waiter is None:
                    self._waiter = self._session.waiter()
                self._reading = True
                self._reader = Background(self._run, "elkmq-responses")

    async def _run(self) -> None:
        try:
            pool, verbs = await self._session.open()
            assert self._waiter is not None
            while True:
                found = await self._waiter.wait(verbs.wait_for_responses(self._inbox, self._last, READ_WAIT))
                for id_, uuid, json in found or ():
                    self._last = id_
                    self._read.append(id_)
                    promise = self._waiting.pop(uuid, None)
                    if promise is not None:
                        _keep(promise, id_, json)
                if len(self._read) >= FORGET_AT or (self._read and not found):
                    read, self._read = self._read, []
                    await pool.run(verbs.forget_responses(self._inbox, read))
                if not found:
                    async with self._starting:
                        if not self._waiting:
                            self._reading = False
                            return
        except EventQueueError as error:
            self._reading = False
            if not self._closed:
                log.error("responses of %s cannot be read: %s", self._session.describe(), error)
                self._fail(error)

    def _fail(self, error: EventQueueError) -> None:
        for promise in list(self._waiting.values()):
            promise.fail(error)


def _keep(promise: Promise[TimestampedEvent], id_: bytes, json: bytes) -> None:
    try:
        promise.keep(TimestampedEvent(int(id_.partition(b"-")[0]), ServiceEvent.from_json(json)))
    except JSONParseError as error:
        promise.fail(error)
