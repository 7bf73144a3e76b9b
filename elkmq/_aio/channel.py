"""One connection that all tasks of a loop share, pipelined, and that mends itself; ``elkmq._aio.line`` tells how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from elkmq._aio.line import Interrupted, resolve
from elkmq._aio.mending import Mending
from elkmq._core.call import Call
from elkmq._core.sending import Done, Sending, checked, closed, ignore, load, loaded
from elkmq._endpoint import Endpoint
from elkmq.errors import EventQueueError

T = TypeVar("T")


class Channel(Mending):
    """A connection of the asyncio driver, for any number of tasks of one event loop at once.

    :param slot_key: on a cluster, a key of the queue, whose owner to talk to
    :param retry_for: seconds a call is repeated for while the connection is broken; None: the endpoint's option (30)
    :param on_reconnect: called after each *re*connect, with the channel, and awaited if it is a coroutine function,
        before unanswered calls are sent again; it may run calls on the channel
    :param max_outstanding: unanswered calls from which on `post` waits before it writes
    """

    READS_BY_ITSELF = True
    """Whether replies to posted calls are read with nobody asking for it."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        slot_key: bytes | None = None,
        retry_for: float | None = None,
        on_reconnect: Callable[[Channel], Awaitable[None] | None] | None = None,
        max_outstanding: int = 512,
    ) -> None:
        super().__init__(endpoint, slot_key, retry_for)
        self.on_reconnect = on_reconnect
        self._max_outstanding = max_outstanding

    # -- for callers

    async def run(self, call: Call[T]) -> T:
        """Send a call and return what it makes of the reply.

        :raises EventQueueError: the server refused it, or could not be reached for ``retry_for`` seconds
        """
        sending = Sending(call)
        future = sending.future = self._here().create_future()
        self._submit(sending)
        return await future  # type: ignore[no-any-return]

    async def run_many(self, calls: Iterable[Call[T]]) -> list[T | EventQueueError]:
        """Send calls in one piece and return their outcomes in order, errors among them (see `raise_first`)."""
        finished = self._here().create_future()

        left = 0

        def one_done(_: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                resolve(finished, None)

        sendings = [Sending(call, one_done) for call in calls]
        left = len(sendings)
        if not left:
            return []
        self._submit(*sendings)
        try:
            await finished
        except asyncio.CancelledError:
            self._forget(sendings)
            raise
        return checked([sending.outcome for sending in sendings])

    async def post(self, call: Call[T], done: Done | None = None) -> None:
        """Write a call to the socket and return; its reply is read later, by the reader task.

        While the connection is broken it waits until the call was written. A task cancelled in that wait takes the call
        back.

        :param done: called with the outcome (an `EventQueueError` if it failed); None: an error is logged
        """
        self._here()
        while len(self._sent) >= self._max_outstanding and not self._closed:
            await self._change()
        sending = Sending(call, done or ignore)
        self._submit(sending)
        self._flush()
        try:
            while not (sending.written or sending.answered):
                await self._change()
        except asyncio.CancelledError:
            self._forget([sending])
            raise

    def leave(self, call: Call[Any]) -> None:
        """Send a call that nobody waits for, and return at once, whatever the state of the connection."""
        self._here()

        def done(outcome: Any) -> None:
            self._left.discard(sending)
            ignore(outcome)

        sending: Sending[Any] = Sending(call, done)
        self._left.add(sending)
        # With its script: the loop may end before anybody reads that the server has not got it.
        first = (Sending(load(call.script), loaded),) if call.script else ()
        self._submit(*first, sending)
        self._flush()

    async def finish_left(self, patience: float) -> None:
        """Wait up to so many seconds for the calls that `leave` sent."""
        if self._loop is not asyncio.get_running_loop():
            return

        def give_up() -> None:
            self._left.clear()
            self._changed()

        timer = self._loop.call_later(patience, give_up)
        try:
            while self._left:
                await self._change()
        finally:
            timer.cancel()

    async def drain(self) -> int:
        """Let the reader take the replies that are there and return how many calls are still outstanding."""
        self._here()
        await asyncio.sleep(0)
        return self.outstanding

    async def flush(self) -> None:
        """Wait for the replies of all posted calls."""
        self._here()
        while self.outstanding:
            await self._change()

    @property
    def outstanding(self) -> int:
        """Calls that have no outcome yet."""
        return len(self._sent) + len(self._again) + len(self._queue)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as anybody noticed."""
        return self._raw is not None

    async def close(self) -> None:
        """Hang up; whatever is outstanding ends with `QueueClosed`. Call `flush` before."""
        self._closed = True
        if self._loop is None or self._loop.is_closed():
            return
        tasks = [task for task in (self._reader, self._mender) if task is not None]
        if self._mender is not None:
            self._mender.cancel()
        self._broken(closed())
        self._give_up(closed())
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ending.come()

    def drop(self) -> None:
        """Hang up; calls without an answer, and the next one, make the channel connect anew."""
        self._broken(RedisConnectionError("hung up"))

    def interrupt(self) -> None:
        """End all calls that are under way with `Interrupted`, by hanging up."""
        interrupted = Interrupted()
        waiting = [*self._sent, *self._again, *self._queue]
        for calls in (self._sent, self._again, self._queue):
            calls.clear()
        self._broken(interrupted)
        for sending in waiting:
            self._settle(sending, interrupted)
