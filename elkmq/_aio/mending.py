"""What happens when the asyncio driver's connection breaks: connect anew, send again what may be repeated, in time or not at all."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from elkmq._aio.ending import hang_up
from elkmq._aio.line import Line, hook_of
from elkmq._core.recovery import hopeless
from elkmq._core.sending import Sending, closed, loaded, log, surrender
from elkmq.errors import EventQueueError


class Mending(Line):
    """A line that mends itself. Its methods belong to the loop's thread."""

    def _broken(self, error: BaseException) -> None:
        """Hang up; what has no answer is to be sent again, or has an unknown outcome for good."""
        raw, self._raw = self._raw, None
        if raw is None:
            return
        # At once: the transport closes it in the loop's next turn, and what another connection sends in this one would come first.
        hang_up(self._fileno)
        self._transport.abort()
        raw._reader = raw._writer = None  # what redis-py's disconnect() does, which cannot be awaited here
        self._error = error if isinstance(error, Exception) else None
        self._stale = self._load_refused = None
        self._missing.clear()
        self._not_before = asyncio.get_running_loop().time() + self._backoff.delay()
        sent, self._sent = self._sent, deque()
        for sending in sent:
            sending.maybe_ran = True
            if sending.done is loaded or sending.unwanted:
                continue
            if sending.call.retry and not self._gated:
                self._again.append(sending)
            else:
                self._settle(sending, self._surrender(sending))
        if self._again or self._queue:
            self._begin_to_mend()

    def _hang_up(self) -> list[asyncio.Task[None] | None]:
        """For good; returns the tasks that are at work for it."""
        tasks = [self._reader, self._mender]
        self._broken(closed())
        return tasks

    def _begin_to_mend(self) -> None:
        if self._mender is None and not (self._closed or self._ending.over):
            self._mender = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        """Connect and send what waits, until that works or nothing waits any more."""
        loop = asyncio.get_running_loop()
        try:
            while self._raw is None and self._retire(loop.time()):
                pause = self._not_before - loop.time()
                if pause > 0:
                    waiting = (*self._again, *self._queue)
                    soonest = min(s.give_up_at for s in waiting if s.give_up_at is not None)
                    await asyncio.sleep(min(pause, max(0.0, soonest - loop.time())))
                    continue
                try:
                    await self._connect()
                except Exception as error:  # noqa: BLE001 - judged
                    self._broken(error)
                    self._error = error
                    self._not_before = loop.time() + self._backoff.delay()
                    if hopeless(error):
                        self._give_up(error)
                    else:
                        self._say(error)
        except asyncio.CancelledError:
            self._mender = None
            if not self._closed and self._ending.goes_on():
                self._begin_to_mend()
            raise
        self._mender = None
        if self._raw is not None:
            self._send_again()
            self._flush()

    async def _connect(self) -> None:
        raw = await self.endpoint.aconnect(self._slot_key)
        if self._closed:
            await raw.disconnect(nowait=True)
            return
        await self._ending.watch()
        self._raw = raw
        self._transport = raw._writer.transport
        self._fileno = self._transport.get_extra_info("socket").fileno()
        self._not_before = 0.0
        self._reader = asyncio.get_running_loop().create_task(self._read(raw))
        first, self._was_connected = not self._was_connected, True
        if first or self.on_reconnect is None:
            return
        held, self._again = self._again, deque()
        self._gated = True
        token = hook_of.set(self)
        try:
            coming = self.on_reconnect(self)
            if inspect.isawaitable(coming):
                await coming
        except Exception:  # noqa: BLE001 - a user's code
            if self._raw is raw:
                log.exception("on_reconnect failed; the calls that wait are sent all the same")
        finally:
            hook_of.reset(token)
            self._gated = False
            self._again = held + self._again
        if self._raw is not raw:
            raise RedisConnectionError("the connection broke again") from self._error

    def give_up_after(self, seconds: float) -> None:
        """Repeat no call for longer than so many seconds from now, not even those under way, for the channel's last ones."""
        self._retry_for = min(self._retry_for, seconds)
        self._timeout = min(self._timeout, max(seconds, 0.1))
        self.endpoint = self.endpoint.hurried(self._timeout)
        if self._loop is None:
            return
        until = self._loop.time() + seconds
        for sending in (*self._sent, *self._again, *self._queue):
            if sending.give_up_at is not None:
                sending.give_up_at = min(sending.give_up_at, until)
        if self._watch is not None and self._sent:
            self._watch.cancel()
            self._watch = self._loop.call_later(self._timeout, self._look_at_the_clock)

    def _retire(self, now: float) -> bool:
        """Give up calls whose time to be repeated is over; return whether any is left."""
        for calls in (self._again, self._queue):
            for _ in range(len(calls)):
                sending = calls.popleft()
                if sending.unwanted:
                    continue
                if sending.give_up_at is None:
                    sending.give_up_at = sending.until(now + self._retry_for)
                elif sending.give_up_at <= now:
                    self._settle(sending, self._surrender(sending))
                    continue
                calls.append(sending)
        return bool(self._again or self._queue)

    def _give_up(self, error: Exception) -> None:
        self._error = error
        waiting = [*self._again, *self._queue]
        self._again.clear()
        self._queue.clear()
        for sending in waiting:
            self._settle(sending, self._surrender(sending))

    def _surrender(self, sending: Sending[Any]) -> EventQueueError:
        # What broke it is the closing, then, however it looked to whoever was reading.
        error = closed() if self._closed else self._error or closed()
        return surrender(sending, error, self.endpoint.describe())

    def _forget(self, sendings: Sequence[Sending[Any]]) -> None:
        """Take back what was not written, and what would be sent once more: its caller was cancelled."""
        for sending in sendings:
            sending.abandoned = True
