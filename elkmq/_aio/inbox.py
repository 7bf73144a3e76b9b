"""A client's inbox in asyncio: one task blocks on it and hands each response to who awaits it.

The sync one is by hand too: there the threads that wait take turns in reading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from elkmq._aio._concurrency import Promise
from elkmq._aio.link import Waiter
from elkmq._aio.session import Session
from elkmq._core.call import Form
from elkmq._core.entry import Receipt
from elkmq._core.inbox import NOTHING_READ, READ_WAIT, Awaited, Responses, patience
from elkmq.errors import EventQueueError, QueueClosed
from elkmq.event import ServiceEvent, TimestampedEvent, uuid_text

log = logging.getLogger("elkmq")

Accepted = Callable[[ServiceEvent, Receipt], Awaitable[None]]


class Inbox:
    """Responses for one client of one queue."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._responses = Responses()
        self._waiter: Waiter | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """What requests carry."""
        return self._responses.inbox

    @property
    def waiting(self) -> Mapping[bytes, Awaited]:
        """Who awaits a response, by the request's uuid."""
        return self._responses.waiting

    async def response(
        self,
        event: ServiceEvent,
        form: Form[list[Receipt]],
        values: tuple[bytes, ...],
        timeout: float,
        accepted: Accepted,
    ) -> TimestampedEvent:
        """Send a request, ``form`` filled with ``values``, and await its response.

        ``accepted`` is told where the server says more of it than its id.

        Raises: TimeoutError, and what ``accepted`` raises.
        """
        uuid, until = uuid_text(event).encode(), time.monotonic() + timeout
        if self._closed:
            raise QueueClosed("the queue was closed; nothing was sent; make a new EventQueue.")
        promise: Promise[TimestampedEvent] = Promise()
        loop = asyncio.get_running_loop()
        self._responses.expect(uuid, promise)
        try:
            if self._reader is None or self._reader.done():
                self._waiter = self._waiter or self._session.waiter()
                self._reader = loop.create_task(self._read(self._waiter), name="elkmq-responses")
            pool, _ = await self._session.open()
            receipt = (await pool.run(form(*values, until=until)))[0]
            if receipt.served or receipt.duplicate:
                await accepted(event, receipt)
            return await promise.wait(patience(until, timeout))
        finally:
            self._responses.waiting.pop(uuid, None)

    async def close(self) -> None:
        """End the reading; requests under way fail."""
        self._closed = True
        if self._waiter is not None:
            await self._waiter.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        self._responses.closed()
        if self._responses.last != NOTHING_READ:
            pool, verbs = await self._session.open()
            call = verbs.forget_inbox(self.name)
            call.until = self._session.closing_until
            with suppress(EventQueueError):  # then it goes with the last deadline
                await pool.run(call)

    async def _read(self, waiter: Waiter) -> None:
        responses = self._responses
        try:
            pool, verbs = await self._session.open()
            read = verbs.wait_for_responses(self.name)
            while True:
                found = await waiter.wait(read(b"%d" % READ_WAIT, responses.last, block=READ_WAIT / 1000))
                responses.came(found or ())
                if ids := responses.to_forget(idle=not found):
                    try:
                        await pool.run(verbs.forget_responses(self.name, ids))
                    except EventQueueError as error:
                        log.info("responses that were read are removed later: %s", error)
                        responses.not_forgotten(ids)
                if not found and not responses.waiting:
                    # Nothing is awaited between here and the end of the task: the next request makes a new one.
                    return
        except EventQueueError as error:
            if not self._closed:
                log.error("responses of %s cannot be read: %s", self._session.describe(), error)
                responses.fail(error)
        except Exception as error:
            log.exception("responses of %s cannot be read", self._session.describe())
            responses.fail(EventQueueError(f"responses cannot be read ({error}); report this as a bug of ElkMQ."))
