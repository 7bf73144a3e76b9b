"""A connection as an event loop uses it: it can be watched, connected in one attempt, and mended on a thread of its own."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from elkmq._core.call import Call
from elkmq._core.sending import NOT_SENT, Done, Sending, ignore, load, loaded
from elkmq._endpoint import Endpoint
from elkmq._sync.channel import Channel
from elkmq.errors import AuthenticationError, EventQueueError, translate

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between attempts to connect."""


class Link(Channel):
    """A `Channel` with a file descriptor.

    :param block: seconds for which the server may hold replies back, beyond which the connection counts as broken
    :param known: ask the server for the connection's number, ``client_id``, with which its blocking read can be ended
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry_for: float,
        slot_key: bytes | None = None,
        block: float = 0.0,
        known: bool = False,
        on_reconnect: Callable[[Channel], None] | None = None,
    ) -> None:
        super().__init__(endpoint, slot_key=slot_key, retry_for=retry_for, on_reconnect=on_reconnect)
        self._timeout += block
        self._known = known
        self._outbox: deque[Sending[Any]] = deque()
        self.client_id: int | None = None

    def forget_parent(self) -> None:
        """Be as new, in a forked child."""
        super().forget_parent()
        self._outbox = deque()

    def connect(self) -> None:
        """Connect, in one attempt.

        :raises EventQueueError: it did not work
        """
        self._work(self._connect_once)

    def _connect_once(self) -> None:
        if self._raw is not None:
            return
        try:
            self._connect()
        except EventQueueError:
            raise
        except Exception as error:
            self._broken(error)
            raise translate(error, server=self.endpoint.describe(), doing="connect", fate=NOT_SENT) from error

    def _connect(self) -> None:
        super()._connect()
        if self._known:
            self.client_id = None
            self._raw.send_command("CLIENT", "ID", check_health=False)
            with suppress(ResponseError):  # not permitted: then a wait is ended by hanging up
                self.client_id = int(self._raw.read_response(disconnect_on_error=False))

    @property
    def fd(self) -> int:
        """What to watch for replies; -1 where there is no connection."""
        sock = getattr(self._raw, "_sock", None)
        return sock.fileno() if sock is not None else -1

    @property
    def socket(self) -> Any:
        """The socket itself: after a reconnect it is another, even where its number is the same."""
        return getattr(self._raw, "_sock", None)

    @property
    def broken(self) -> bool:
        """Whether there was a connection, and is none."""
        return self._raw is None and (self._was_connected or bool(self._again)) and not self._closed

    def submit(self, call: Call[Any], done: Done | None = None, *, push: bool = True) -> None:
        """`post` that never waits for a connection: where there is none, the call goes when there is one again.

        :param push: write it at once; False: with whatever else is submitted until `push`
        """
        self._outbox.append(Sending(call, done or ignore))
        if push:
            self.push()

    def push(self) -> None:
        """Write what was submitted, in one piece."""
        if self._outbox:
            self._work(self._push)

    def _push(self) -> None:
        if len(self._sent) >= self._max_outstanding:
            while len(self._sent) > self._max_outstanding // 2:
                self._read_one()
        if len(self._outbox) == 1 and self._raw is not None:  # most are alone
            script = self._outbox[0].call.script
            if script is None or script.sha in self._at_server:
                try:
                    self._write((self._outbox[0],))
                finally:
                    self._outbox.popleft()
                return
        submitted = list(self._outbox)
        batch = submitted if self._raw is None else list(self._with_scripts(submitted))
        try:
            self._write(batch)
        finally:
            # After they are where they go; and who was thrown out in between does not write them twice.
            for _ in submitted:
                self._outbox.popleft()

    def _with_scripts(self, sendings: list[Sending[Any]]) -> Iterator[Sending[Any]]:
        """The server may not have a script yet, and the reply that says so may be read late: by then the process may be
        dead, with its acknowledgement undone. So a script goes ahead of its first call.
        """
        for sending in sendings:
            script = sending.call.script
            if script is not None and script.sha not in self._at_server:
                yield Sending(load(script), loaded)
                self._at_server.add(script.sha)
            yield sending

    def run(self, call: Call[T]) -> T:
        """As the channel's, behind what was submitted."""
        self.push()
        return super().run(call)

    def flush(self) -> None:
        """Wait for the replies of all that was submitted."""
        self.push()
        super().flush()

    @property
    def unsent(self) -> bool:
        """Whether something was submitted and not written yet."""
        return bool(self._outbox)

    @property
    def outstanding(self) -> int:
        """Calls that were submitted and have no outcome yet."""
        return super().outstanding + len(self._outbox)

    def close(self) -> None:
        """Hang up; whatever is outstanding ends with `QueueClosed`."""
        self._again.extend(self._outbox)
        self._outbox.clear()
        super().close()

    def look(self, *, readable: bool = False) -> None:
        """`drain` that never connects.

        :param readable: whether the connection is known to be: a poller said so
        """
        if readable:
            self._work(self._read_first)
        if self._sent or self._again:
            self._work(self._read_what_is_there)

    def _read_first(self) -> None:
        if not self._sent:
            self._readable()  # the other side hung up: that is noticed here
        elif self._raw is not None:
            self._read_one(ready=True)

    def _read_what_is_there(self) -> None:
        while self._sent and self._readable():
            self._read_one(ready=True)
        if self._sent and self._raw is not None and time.monotonic() > self._progress + self._timeout:
            self._broken(RedisTimeoutError("no reply in time"))
        if self._again and not self._sent and self._raw is not None:
            if self._stale is not None:
                self._broken(self._stale)
            else:
                self._send_again()

    def mend(self) -> None:
        """Try once to connect, and send what waits.

        :raises EventQueueError: it did not work
        """
        if self._again:
            self.drain()
        else:
            self.connect()


class Mender:
    """Mends links on a thread, so that an event loop is not held up by a server that does not answer.

    :param patience: seconds after which it gives up
    :param done: called on its thread at the end, with what kept it from connecting or None
    """

    def __init__(self, links: list[Link], patience: float, done: Callable[[EventQueueError | None], None]) -> None:
        self._links = links
        self._until = time.monotonic() + patience
        self._done = done
        self._stopped = threading.Event()
        self._error: EventQueueError | None = None
        self._thread = threading.Thread(target=self._run, name="elkmq-mender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for its end, for so long at most."""
        self._thread.join(seconds)

    def stop(self) -> None:
        """Do not go on."""
        self._stopped.set()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        try:
            while broken := [link for link in self._links if link.broken]:
                for link in broken:
                    try:
                        link.mend()
                    except AuthenticationError as error:
                        self._error = error
                        return
                    except EventQueueError as error:
                        self._error = error
                if not any(link.broken for link in self._links):
                    self._error = None
                elif self._stopped.is_set() or time.monotonic() > self._until:
                    return
                else:
                    self._stopped.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._done(self._error)


def wait_readable(fds: list[int], timeout: float | None) -> list[int]:
    """Wait until some of the descriptors can be read, ``timeout`` seconds at most (None: for ever), and return those."""
    if not hasattr(select, "poll"):  # eventlet
        return select.select(fds, [], [], timeout)[0]
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(None if timeout is None else max(0, int(timeout * 1000 + 0.999)))]
