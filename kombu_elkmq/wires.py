"""The connections of a session, and how it is woken from another thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from elkmq._core.call import Call
from elkmq._core.sending import ignore
from elkmq._endpoint import Endpoint
from elkmq.errors import QueueClosed, ServerConnectionError
from kombu_elkmq.links import Link
from kombu_elkmq.options import TransportOptions

T = TypeVar("T")

GOODBYE = 2.0
"""Seconds that a closing session waits for a server that does not answer."""


class Wires:
    """Three connections, each from its first use on: ``command`` for what a caller waits for (publish, declare), ``taker``
    for takes and acknowledgements, which nobody waits for, ``waiter`` for the blocking read; and a pipe that ends a wait.
    """

    def __init__(self, endpoint: Endpoint, options: TransportOptions) -> None:
        self.endpoint = endpoint
        self.options = options
        self.pid = os.getpid()
        self.closed = False
        self.block = min(options.lease / 3, endpoint.options.socket_timeout)
        self.command = self._commanding()
        self.taker: Link | None = None
        self.waiter: Link | None = None
        self._lock = threading.RLock()
        self._pipe: tuple[int, int] | None = None
        self._woken = False
        self._bell = threading.RLock()
        """Held to change `_woken` together with the pipe: it is set exactly while a byte is in there."""
        self.corked_by: int | None = None
        self.awaited = 0
        """Answers that are wanted as soon as they are there."""
        self.stirred = True
        """Whether something came that an event loop's next pass has to see to."""

    slot_key: bytes | None = None
    """On a Cluster, a key of the queue that the consuming connections are for."""

    def _commanding(self) -> Any:
        return Link(self.endpoint, retry_for=self.options.publish_timeout)

    def _reconnected(self, _: Any) -> None:
        """A consuming connection was replaced."""

    def _mending(self) -> bool:
        """Whether a thread is at work on the consuming connections."""
        raise NotImplementedError

    def run(self, call: Call[T]) -> T:
        """Send a call and wait for its answer."""
        self.usable()
        found: T = self.command.run(call)
        return found

    def usable(self) -> None:
        """Raise `QueueClosed` where the connection is closed, or a parent process's."""
        if self.closed or self.pid != os.getpid():
            raise QueueClosed("the connection is closed; nothing was sent; open a new one.")

    def post(
        self, call: Call[Any], done: Callable[[Any], None] | None = None, *, hurry: bool = True, gather: bool = False
    ) -> None:
        """Send a call of a consumer; nobody waits for its answer.

        :param hurry: whether the answer is wanted as soon as it is there; False: within a second will do
        :param gather: whether it may wait for `push`, to go with others; what was gathered goes first
        """
        told = done
        if hurry:
            self.awaited += 1

            def told(outcome: Any) -> None:
                self.awaited -= 1
                self.stirred = True
                (done or ignore)(outcome)

        link = self.consuming()
        # While a thread mends the connection, which can take it seconds, nobody else waits for that.
        link.submit(call, told, push=not (gather or self._mending()))

    def await_posted(self) -> None:
        """Wait for the answers of what was posted; not while a thread is at work on the connections.

        :raises EventQueueError: the server is away
        """
        if self.taker is not None and not self._mending():
            self.taker.flush()

    def cork(self) -> None:
        """This thread sees to it that `push` is called before it waits for anything, or starts anything."""
        self.corked_by = threading.get_ident()

    def uncork(self) -> None:
        """It does not any more."""
        self.corked_by = None
        self.push()

    def push_uncorked(self) -> None:
        """Send what was gathered, unless this thread does so later."""
        if self.corked_by != threading.get_ident():
            self.push()

    def push(self) -> None:
        """Send what was gathered."""
        if self.taker is not None and not self._mending():
            self.taker.push()

    @property
    def unsent(self) -> bool:
        """Whether there may be something to push, or the connection to mend first."""
        taker = self.taker
        return taker is not None and (taker.unsent or taker.broken)

    def consuming(self) -> Link:
        """The connection for takes and acknowledgements."""
        if self.taker is None:
            with self._lock:
                if self.taker is None:
                    lease = self.options.lease
                    self.waiter = Link(
                        self.endpoint, retry_for=lease, slot_key=self.slot_key, block=self.block,
                        on_reconnect=self._reconnected, known=True,
                    )  # fmt: skip
                    taker = Link(self.endpoint, retry_for=lease, slot_key=self.slot_key, on_reconnect=self._reconnected)
                    taker.connect()
                    self.waiter.connect()
                    self._open_pipe()
                    self.taker = taker
        return self.taker

    @property
    def consumes(self) -> bool:
        """Whether there are connections for consuming."""
        return self.taker is not None

    def _open_pipe(self) -> None:
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)

    def watched(self) -> dict[int, Any]:
        """What to watch while waiting: descriptors, and what tells a new one from an old one of the same number."""
        found: dict[int, Any] = {self._pipe[0]: self._pipe} if self._pipe is not None else {}
        if not self._mending():
            # Of acknowledgements alone the answers can wait: to be woken by each would double the passes of an event loop.
            for link in (self.taker if self.awaited else None, self.waiter):
                if link is not None and link.fd >= 0:
                    found[link.fd] = link.socket
        return found

    @property
    def pipe(self) -> int:
        """The descriptor that `wake` makes readable; -1 where nothing is consumed."""
        return self._pipe[0] if self._pipe is not None else -1

    def read(self, fd: int) -> None:
        """A watched descriptor can be read: read what there is."""
        if self._pipe is not None and fd == self._pipe[0]:
            self.awake()
        elif not self._mending():
            for link in (self.taker, self.waiter):
                if link is not None and link.fd == fd:
                    link.look(readable=True)

    def wake(self) -> None:
        """End the waiting of whoever waits for messages. From any thread."""
        if self._pipe is not None and not self._woken:
            with self._bell:
                if not self._woken and self._pipe is not None:
                    self._woken = True
                    with suppress(OSError):
                        os.write(self._pipe[1], b"\0")

    @property
    def woken(self) -> bool:
        """Whether `wake` was called since the last wait."""
        return self._woken

    def awake(self) -> None:
        """The waiting ended."""
        if self._woken:
            # Eventlet's read waits until there is something, in which others run: whoever wakes meanwhile must not add a byte that
            # this read takes along, or the next one would wait for ever.
            with self._bell:
                if self._woken and self._pipe is not None:
                    with suppress(OSError):
                        os.read(self._pipe[0], 4096)
                    self._woken = False

    def be_quick(self) -> None:
        """The session closes: do not wait long for a server that is away.

        :raises ServerConnectionError: it is away now
        """
        for link in (self.command, self.taker):
            if link is not None:
                link.give_up_after(GOODBYE)
        if self.taker is not None and not self.taker.connected:
            raise ServerConnectionError(f"{self.endpoint.describe()} is away")

    def hang_up_wires(self) -> None:
        """Close everything."""
        for link in (self.command, self.taker, self.waiter):
            if link is not None:
                link.close()
        with self._lock:
            pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)

    def forget_wires(self) -> None:
        """In a forked child: the pipe is the parent's; the links forget by themselves."""
        pipe, self._pipe = self._pipe, None
        self._lock, self._bell = threading.RLock(), threading.RLock()
        for end in pipe or ():
            with suppress(OSError):
                os.close(end)
