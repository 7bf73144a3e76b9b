"""The sync driver: it sends calls over connections of redis-py. Its asyncio twin is ``elkmq._aio.link``; both by hand.

`Channel`: one connection, pipelined, that mends itself. `Waiter`: one for blocking reads, which can be cancelled.
`Pool`: as many channels as there are threads at work.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from elkmq._core.call import Call
from elkmq._core.fork import forget_in_child
from elkmq._core.sending import LAST_PATIENCE, ignore, raise_first
from elkmq._endpoint import Endpoint
from elkmq._sync.channel import Channel
from elkmq._sync.line import Interrupted
from elkmq.errors import EventQueueError, QueueClosed, ServerConnectionError

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
        on_reconnect: Callable[[Channel], None] | None = None,
    ) -> None:
        self._channel = Channel(endpoint, slot_key=slot_key, retry_for=retry_for, on_reconnect=on_reconnect)
        self._waiting = False
        self._cancelled = False

    def wait(self, call: Call[T]) -> T | None:
        """Run a blocking call; None when `cancel` ended it.

        After a broken connection the call is sent again with its full time, so that one outage can double it.

        :raises EventQueueError: as in `Channel.run`
        """
        self._waiting = True  # before looking at _cancelled: `cancel` does the two in the opposite order
        try:
            return None if self._cancelled else self._channel.run(call)
        except Interrupted:
            return None
        finally:
            self._waiting = self._cancelled = False
            if self._channel.interrupted:
                self._channel.resume()

    def cancel(self) -> None:
        """Make the pending `wait` of another thread return None at once; if none is pending, the next one.

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

    def close(self) -> None:
        """Hang up; a pending `wait` ends with `QueueClosed`."""
        self._channel.close()


class Pool:
    """Channels for any number of threads: each call has one for itself, and puts it back.

    :param max_connections: None: the endpoint's option (64); a thread that finds all of them in use waits
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        slot_key: bytes | None = None,
        retry_for: float | None = None,
        max_connections: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._slot_key = slot_key
        self._retry_for = endpoint.options.retry_for if retry_for is None else retry_for
        self._max = endpoint.options.max_connections if max_connections is None else max_connections
        self._closed = False
        self.forget_parent()
        forget_in_child(self)

    def forget_parent(self) -> None:
        """Be as new, in a forked child; the channels forget on their own."""
        self._idle: list[Channel] = []
        # Weak, so that a channel which an exception out of a signal handler has made everybody forget frees its place.
        self._all: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()  # each released when a channel may be free

    def run(self, call: Call[T]) -> T:
        """Run a call on a free channel; see `Channel.run`."""
        try:
            channel = self._idle.pop()  # the last used, so that those a peak left behind stay untouched
        except IndexError:
            channel = self._obtain()
        try:
            return channel.run(call)
        finally:
            self._release(channel)

    def run_many(self, calls: Iterable[Call[T]]) -> list[T | EventQueueError]:
        """Run calls in one piece on a free channel; see `Channel.run_many`."""
        with self.channel() as channel:
            return channel.run_many(calls)

    def leave(self, call: Call[Any]) -> None:
        """Send a call whose caller cannot wait for it, being torn away; a failure is logged, `close` waits a while for it.

        On a thread, since exceptions out of signal handlers hit the main one only. It is no daemon: a process that ends waits
        for it. The caller waits for it as well, so that what it does next comes after it.
        """

        def send() -> None:
            channel = Channel(self.endpoint, slot_key=self._slot_key, retry_for=min(self._retry_for, LAST_PATIENCE))
            try:
                channel.run(call)
            except EventQueueError as error:
                ignore(error)
            finally:
                channel.close()

        thread = threading.Thread(target=send, name="elkmq-undo")
        thread.start()
        thread.join()

    @contextmanager
    def channel(self) -> Iterator[Channel]:
        """Lend a channel: ``with pool.channel() as channel: ...``."""
        try:
            channel = self._idle.pop()
        except IndexError:
            channel = self._obtain()
        try:
            yield channel
        finally:
            self._release(channel)

    def close(self, until: float | None = None) -> None:  # noqa: ARG002
        """Hang up all channels; calls under way end with `QueueClosed`.

        :param until: without effect here: who sent something with `leave` has waited for it
        """
        self._closed = True
        with self._lock:
            channels = list(self._all)
            self._idle.clear()
        self._wake_up()
        for channel in channels:
            channel.close()

    def _obtain(self) -> Channel:
        deadline = time.monotonic() + max(self._retry_for, self.endpoint.options.socket_timeout)
        turn = threading.Lock()  # not a Condition: an exception out of a signal handler leaves one locked
        turn.acquire()
        self._waiting.append(turn)
        try:
            while not self._closed:
                with self._lock:
                    if self._idle:
                        return self._idle.pop()
                    if len(self._all) < self._max:
                        channel = Channel(self.endpoint, slot_key=self._slot_key, retry_for=self._retry_for)
                        self._all.add(channel)
                        return channel
                if not turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    raise ServerConnectionError(
                        f"all {self._max} connections to {self.endpoint.describe()} were in use for too long; "
                        "nothing was sent; raise max_connections or use fewer threads."
                    )
        finally:
            self._waiting.remove(turn)
            if self._idle:
                self._wake_up()
        raise QueueClosed("the connections were closed; nothing was sent; open new ones.")

    def _release(self, channel: Channel) -> None:
        self._idle.append(channel)
        if self._waiting:
            self._wake_up()
        if self._closed:
            channel.close()

    def _wake_up(self) -> None:
        """Have all that wait look again; few do, and who comes too late waits on."""
        for turn in tuple(self._waiting):
            with suppress(RuntimeError):  # released already
                turn.release()
