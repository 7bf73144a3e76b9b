"""One connection that many calls share, pipelined, and that mends itself; ``elkmq._sync.line`` tells how."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from elkmq._core.call import Call, Form
from elkmq._core.recovery import FROM_BELOW
from elkmq._core.sending import Done, Sending, checked, closed, from_outside, ignore, read
from elkmq._endpoint import Endpoint, Raw, receive
from elkmq._sync.mending import Mending
from elkmq.errors import EventQueueError

T = TypeVar("T")
U = TypeVar("U")


class Channel(Mending):
    """A connection of the sync driver. Any number of threads may use it; each waits while another's call is under way.

    :param slot_key: on a cluster, a key of the queue, whose owner to talk to
    :param retry_for: seconds a call is repeated for while the connection is broken; None: the endpoint's option (30)
    :param on_reconnect: called after each *re*connect, with the channel, before unanswered calls are sent again; it may
        run calls on the channel
    :param max_outstanding: unread replies of posted calls from which on `post` reads before it writes, so that the
        buffers of neither side fill up
    """

    READS_BY_ITSELF = False
    """Whether replies to posted calls are read with nobody asking for it."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        slot_key: bytes | None = None,
        retry_for: float | None = None,
        on_reconnect: Callable[[Channel], None] | None = None,
        max_outstanding: int = 512,
    ) -> None:
        super().__init__(endpoint, slot_key, retry_for)
        self.on_reconnect = on_reconnect
        self._max_outstanding = max_outstanding

    # -- for callers

    def run(self, call: Call[T]) -> T:
        """Send a call and return what it makes of the reply.

        :raises EventQueueError: the server refused it, or could not be reached for ``retry_for`` seconds
        """
        if self._owned() and not self._in_hook:
            return self._beside(lambda channel: channel.run(call))
        packed, timed = call.packed(), call.block or call.until is not None
        sending = None
        with self._lock:
            if not call.retry and self._raw is not None and not self._sent and self._poll(0):
                # What cannot be repeated is not tried on a connection that is known to be gone.
                self._readable()
            raw = self._raw
            if raw is None or self._sent or self._again or self._closed:
                sending = Sending(call)
            else:
                try:
                    if timed:
                        raw._sock.settimeout(self._patience(call.block, call.until))
                    raw._sock.sendall(packed)
                    reply = receive(raw)
                    if timed:
                        raw._sock.settimeout(self._timeout)
                except FROM_BELOW as error:
                    # Still under the lock: the next thread must find this call in its place.
                    sending = Sending(call)
                    sending.written = True
                    self._sent.append(sending)
                    self._failed(error)
                except BaseException as error:
                    self._broken(error)
                    raise
        if sending is None:
            return call.parse(reply)
        one = (sending,)
        self._work(lambda: self._exchange(one), one)
        if isinstance(sending.outcome, Exception):
            raise sending.outcome
        return sending.outcome  # type: ignore[return-value]

    def run_many(self, calls: Iterable[Call[T]]) -> list[T | EventQueueError]:
        """Send calls in one piece and return their outcomes in order, errors among them (see `raise_first`)."""
        if self._nested:
            return self._beside(lambda channel: channel.run_many(calls))
        sendings = [Sending(call) for call in calls]

        def work() -> None:
            for start in range(0, len(sendings), self._max_outstanding):
                self._exchange(sendings[start : start + self._max_outstanding])

        self._work(work, sendings)
        return checked([sending.outcome for sending in sendings])

    def run_before(
        self, form: Form[T], values: tuple[bytes, ...], behind: Form[U], after: tuple[bytes, ...], *,
        done: Done, usual: Callable[[Any], bool], block: float, until: float,
    ) -> tuple[T | None, U | None]:  # fmt: skip
        """Run a call with a blocking one right behind it, in one piece, each a form with its values.

        Where the first reply is a ``usual`` one, the second is waited for as well: (None, its outcome) is returned. Else
        (the first outcome, None), and the second reply is read later, as of `post`, and ``done`` called.

        :raises EventQueueError: as `run`; the other call may be under way all the same
        """
        sendings = reply = None
        with self._lock:
            raw, call = self._raw, form.call
            if (
                raw is not None and not (self._sent or self._again or self._closed)
                and call.retry and call.script is not None and call.script.sha in self._at_server
            ):  # fmt: skip
                try:
                    both = form.packed(*values) + behind.packed(*after)
                    if block < self._timeout:
                        raw._sock.settimeout(self._patience(0.0, until))
                    raw._sock.sendall(both)
                    reply = receive(raw)
                    if usual(reply):
                        raw._sock.settimeout(self._patience(block, until))
                        found = receive(raw)
                        raw._sock.settimeout(self._timeout)
                        return None, behind.call.parse(found)
                    error: Exception | None = None
                except FROM_BELOW as below:
                    error = below
                except BaseException as torn:
                    self._broken(torn)
                    raise
                if self._raw is not None:
                    raw._sock.settimeout(self._timeout)
                # Still under the lock: the next thread must find these calls in their place.
                sendings = Sending(form(*values, until=until)), Sending(behind(*after, block=block, until=until), done)
                sendings[0].written = sendings[1].written = True
                self._sent = deque(sendings)
                self._progress = time.monotonic()
                if reply is not None:
                    sendings[0].outcome, sendings[0].answered = read(call, reply, from_outside), True
                    self._sent.popleft()
                if error is not None:
                    self._failed(error)
        if sendings is None:
            sendings = Sending(form(*values, until=until)), Sending(behind(*after, block=block, until=until), done)
        first, second = sendings
        self._work(lambda: self._exchange_before(first, second), sendings)
        if isinstance(first.outcome, Exception):
            raise first.outcome
        return first.outcome, None

    def _exchange_before(self, first: Sending[Any], second: Sending[Any]) -> None:
        script = first.call.script
        if first.written:
            pass
        elif script is None or (script.sha in self._at_server and not self._again):
            self._write((first, second))
        else:
            # That the server lacks the script would show, but the second call would have to be sent twice.
            self._exchange((first,))
            self._at_server.add(script.sha)
            self._write((second,))
        while not (first.answered and (second.written or second.answered)):
            self._step()

    def post(self, call: Call[T], done: Done | None = None) -> None:
        """Write a call to the socket and return; its reply is read later, by whatever the channel does next.

        :param done: called with the outcome (an `EventQueueError` if it failed), on the thread that reads the reply;
            None: an error is logged
        """
        if self._owned() and not self._in_hook:
            try:
                outcome: T | EventQueueError = self._beside(lambda channel: channel.run(call))
            except EventQueueError as error:
                outcome = error
            (done or ignore)(outcome)
            return
        sending = Sending(call, done or ignore)
        script = call.script
        with self._lock:
            raw = self._raw
            if (
                raw is not None and self._stale is None and not self._again and not self._closed
                and len(self._sent) < self._max_outstanding and (script is None or script.sha in self._at_server)
            ):  # fmt: skip
                if not self._sent:
                    self._progress = time.monotonic()
                sending.written = True
                self._sent.append(sending)
                try:
                    raw._sock.sendall(sending.packed)
                    return
                except FROM_BELOW as error:
                    self._broken(error)
                except BaseException as error:
                    sending.abandoned = True
                    self._broken(error)
                    raise
        self._work(lambda: None if sending.written else self._post(sending), (sending,))

    @property
    def _nested(self) -> bool:
        """Whether this is a signal's handler in the middle of a call of its thread's; `run` and `post` ask without a frame more."""
        return self._owned() and not self._in_hook

    def _beside(self, work: Callable[[Channel], T]) -> T:
        """Work on a connection of its own: a signal's handler, which came in the middle of a call of its thread's on this one."""
        channel = Channel(self.endpoint, slot_key=self._slot_key, retry_for=self._retry_for)
        try:
            return work(channel)
        finally:
            channel.close()

    def _post(self, sending: Sending[Any]) -> None:
        if len(self._sent) >= self._max_outstanding:
            while len(self._sent) > self._max_outstanding // 2:
                self._step()
        self._write((sending,))
        while not (sending.written or sending.answered):
            self._step()
        # A script that the server may not have yet is waited for: that it is missing would be seen too late.
        if (script := sending.call.script) is not None and script.sha not in self._at_server:
            while not sending.answered:
                self._step()
            self._at_server.add(script.sha)

    def drain(self) -> int:
        """Read the replies that are there, without waiting for more, and return how many calls are still outstanding.

        Where the connection is broken with calls outstanding, one attempt is made to connect and send them again.
        """

        def work() -> int:
            while self._sent and self._readable():
                self._read_one()
            if self._sent and self._raw is not None and time.monotonic() > self._progress + self._timeout:
                self._broken(RedisTimeoutError("no reply in time"))
            if self._again and not self._sent:
                if self._raw is None or self._stale is not None:
                    self._mend(patient=False)
                else:
                    self._send_again()
            return self.outstanding

        return self._work(work) if (self._sent or self._again) and not self._nested else 0

    def flush(self) -> None:
        """Wait for the replies of all posted calls."""
        if (self._sent or self._again) and not self._nested:
            self._work(self._step_to_the_end)

    @property
    def outstanding(self) -> int:
        """Calls that were posted and have no outcome yet."""
        return len(self._sent) + len(self._again)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as anybody noticed."""
        return self._raw is not None

    def close(self) -> None:
        """Hang up; whatever is outstanding ends with `QueueClosed`, also in other threads. Call `flush` before."""
        self._closed = True
        self.interrupt()

        def work() -> None:
            self._broken(closed())
            self._give_up(closed())

        self._work(work)

    def drop(self) -> None:
        """Hang up; calls without an answer, and the next one, make the channel connect anew."""
        self._work(lambda: self._broken(RedisConnectionError("hung up")))

    def interrupt(self) -> None:
        """Make the call that is under way in another thread end with `Interrupted`, by hanging up, until `resume`."""
        self.interrupted = True
        with suppress(RuntimeError):  # nobody waits, and it was released already
            self._wake.release()
        if (raw := self._raw) is not None:
            hang_up(raw)

    def resume(self) -> None:
        """Take calls again after `interrupt`."""
        self.interrupted = False
        self._wake.acquire(blocking=False)


def hang_up(raw: Raw) -> None:
    """Shut a connection down that another thread is reading: its read ends at once."""
    sock = raw._sock
    if sock is not None:
        # Not sock.shutdown(): a TLS socket's own drops the TLS state under the reader's feet. Eventlet's sockets have none
        # other.
        shutdown = getattr(socket.socket, "shutdown", None)
        with suppress(OSError):
            if shutdown is not None:
                shutdown(sock, socket.SHUT_RDWR)
            else:
                sock.shutdown(socket.SHUT_RDWR)
