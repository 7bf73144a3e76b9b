"""The asyncio driver: it sends calls over connections of redis-py. Its sync twin is ``elkmq._sync.link``; both by hand.

`Channel`: one connection for all tasks, pipelined, that mends itself. `Waiter`: one for blocking reads, which can be
cancelled. `Pool`: here the one channel, since it serves any number of tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from elkmq._aio.channel import Channel
from elkmq._aio.line import Interrupted
from elkmq._core.call import Call
from elkmq._core.clock import now
from elkmq._core.sending import LAST_PATIENCE, raise_first
from elkmq._endpoint import Endpoint
from elkmq.errors import EventQueueError

__all__ = ["Channel", "Pool", "Waiter", "raise_first"]

T = TypeVar("T")


class Waiter:
    """A connection for one blocking call at a time, such as ``XREADGROUP ... BLOCK``.

    :param slot_key: as in `Channel`, and so are ``retry_for`` and ``on_reconnect``
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        slot_key: bytes | None = None,
        retry_for: float | None = None,
        on_reconnect: Callable[[Channel], Awaitable[None] | None] | None = None,
    ) -> None:
        self._channel = Channel(endpoint, slot_key=slot_key, retry_for=retry_for, on_reconnect=on_reconnect)
        self._waiting = False
        self._cancelled = False

    async def wait(self, call: Call[T]) -> T | None:
        """Run a blocking call; None when `cancel` ended it. Cancelling the task hangs up, too.

        After a broken connection the call is sent again with its full time, so that one outage can double it.

        :raises EventQueueError: as in `Channel.run`
        """
        if self._cancelled:
            self._cancelled = False
            return None
        self._waiting = True
        try:
            return await self._channel.run(call)
        except Interrupted:
            return None
        except asyncio.CancelledError:
            self._channel.interrupt()
            raise
        finally:
            self._waiting = self._cancelled = False

    def cancel(self) -> None:
        """Make the pending `wait` return None at once; if none is pending, the next one. For the loop's own thread.

        It hangs up, which costs the next `wait` a reconnect. What the server was just handing out stays with the
        consumer, as after any broken connection: it is among its pending entries, for ``on_reconnect`` to read.
        """
        self._cancelled = True
        if self._waiting:
            self._channel.interrupt()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as anybody noticed."""
        return self._channel.connected

    async def close(self) -> None:
        """Hang up; a pending `wait` ends with `QueueClosed`."""
        await self._channel.close()


class Pool:
    """The one channel of an event loop, under the names of the sync driver's pool.

    :param max_connections: without effect here: there is one
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        slot_key: bytes | None = None,
        retry_for: float | None = None,
        max_connections: int | None = None,  # noqa: ARG002
    ) -> None:
        self.endpoint = endpoint
        self._channel = Channel(endpoint, slot_key=slot_key, retry_for=retry_for)

    async def run(self, call: Call[T]) -> T:
        """Run a call on the channel; see `Channel.run`."""
        return await self._channel.run(call)

    async def run_many(self, calls: Iterable[Call[T]]) -> list[T | EventQueueError]:
        """Run calls in one piece on the channel; see `Channel.run_many`."""
        return await self._channel.run_many(calls)

    def leave(self, call: Call[Any]) -> None:
        """Send a call whose caller cannot wait for it, being torn away; a failure is logged, `close` waits a while for it."""
        self._channel.leave(call)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """Lend the channel: ``async with pool.channel() as channel: ...``."""
        yield self._channel

    async def close(self, until: float | None = None) -> None:
        """Hang up; calls under way end with `QueueClosed`.

        :param until: when to wait no longer for what `leave` sent, by `elkmq._core.clock`; None: in `LAST_PATIENCE` seconds
        """
        await self._channel.finish_left(LAST_PATIENCE if until is None else max(0.0, until - now()))
        await self._channel.close()
