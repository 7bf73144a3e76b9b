"""A connection as an event loop uses it: it can be watched, connected in one attempt, and mended on a thread of its own."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from elkmq._core.sending import NOT_SENT
from elkmq._endpoint import Endpoint
from elkmq._sync.channel import Channel
from elkmq.errors import EventQueueError, translate


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
        block: float = 0.0,
        known: bool = False,
        on_reconnect: Callable[[Channel], None] | None = None,
    ) -> None:
        super().__init__(endpoint, retry_for=retry_for, on_reconnect=on_reconnect)
        self._timeout += block
        self._known = known
        self.client_id: int | None = None

    def connect(self) -> None:
        """Connect, in one attempt.

        :raises EventQueueError: it did not work
        """
        with self._at_work():
            if self._raw is None:
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

    def give_up_after(self, seconds: float) -> None:
        """Repeat calls over a broken connection for so long from now on."""
        self._retry_for = min(self._retry_for, seconds)

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
        """Whether there is something to send and no connection to send it over."""
        return self._raw is None and bool(self._again)


class Mender:
    """Mends links on a thread, so that an event loop is not held up by a server that does not answer."""

    def __init__(self, links: list[Link], done: Callable[[], None]) -> None:
        self._links = links
        self._done = done
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elkmq-mender", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Do not go on."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set() and any(link.broken for link in self._links):
                for link in self._links:
                    if link.broken:
                        link.drain()
                self._stopped.wait(0.02)
        finally:
            self._done()


def wait_readable(fds: list[int], timeout: float | None) -> None:
    """Wait until one of the descriptors can be read, ``timeout`` seconds at most (None: for ever)."""
    if not hasattr(select, "poll"):  # eventlet
        select.select(fds, [], [], timeout)
        return
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    poller.poll(None if timeout is None else max(0, int(timeout * 1000 + 0.999)))
