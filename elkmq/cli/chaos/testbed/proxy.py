"""A TCP proxy that breaks connections the way networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from elkmq.cli.chaos.testbed.servers import free_port
from elkmq.cli.chaos.testbed.waiting import NotInTime

Side = Literal["request", "reply"]
_CHUNK = 65536


@dataclass(eq=False)
class _Link:
    """One client connection and its twin to the server."""

    client: socket.socket
    server: socket.socket
    dead: bool = False  # what is written to it disappears, in both directions, for good
    marked: bool = False  # its next reply is to be swallowed
    held: bool = False  # its replies wait until `heal`
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Forwards a port of its own to the server at ``upstream`` (a url); `url` is the same url by way of the proxy.

    Every method may be called from any thread and has taken effect when it returns. The proxy starts with its creation
    and ends with `close`, or as a context manager.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._target: tuple[str, int] | str
        if parts.scheme == "unix":
            self._target = parts.path
        else:
            self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self.port = free_port()
        login = parts.netloc.rpartition("@")[0]
        scheme, path = ("redis", "/0") if parts.scheme == "unix" else (parts.scheme, parts.path)
        netloc = f"{login}@127.0.0.1:{self.port}" if login else f"127.0.0.1:{self.port}"
        self.url = urlunsplit((scheme, netloc, path, parts.query, ""))
        self.accepted = 0
        """Connections taken so far."""
        self.swallowed = 0
        """Requests and replies taken away by `swallow`."""
        self._links: set[_Link] = set()
        self._changed = threading.Condition()
        self._latency = 0.0
        self._hole = self._refusing = False
        self._swallow: tuple[Side, bytes] | None = None
        self._hold: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._released = asyncio.Event()  # set by a heal: what was held goes on
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)

    # -- faults

    def cut(self, *, refuse: bool = False) -> int:
        """Reset every connection, on both sides, and return how many; ``refuse`` resets new ones too, until `heal`."""
        return int(self._do(self._cut, refuse))

    def blackhole(self) -> None:
        """From now on nothing arrives, in either direction, and nobody is told: no FIN, no RST, not even of a close.

        New connections are accepted and go the same way. After `heal` new ones work; those that were caught stay mute,
        as after a firewall forgot them, until their client gives up.
        """
        self._do(self._dig)

    def stall(self, seconds: float | None = None) -> None:
        """Hold everything back for this time (None: until `heal`), then deliver it, in order: nothing is lost."""
        self._do(self._flowing.clear)
        if seconds is not None:
            self._do(lambda: self._loop.call_later(seconds, self._flowing.set))

    def latency(self, milliseconds: float) -> None:
        """Delay what passes by this much, each way; 0 ends it."""
        self._latency = milliseconds / 1000

    def swallow(self, side: Side, containing: bytes) -> None:
        """Cut a connection around the next request that contains these bytes (in one piece of up to 64 KiB).

        ``"request"``: it never reaches the server. ``"reply"``: the server carries it out, and its answer, the next
        thing that the server sends on that connection, is lost. Happens once; await it with `wait_until_swallowed`.
        """

        def arm() -> None:
            self._swallow = (side, containing)

        self._do(arm)

    def hold(self, containing: bytes) -> None:
        """Hold back the replies of one connection, that of the next request with these bytes, until `heal`: they come late,
        while the client's other connections go on.
        """

        def arm() -> None:
            self._hold = containing

        self._do(arm)

    def heal(self) -> None:
        """Pass everything on again, at once, and forget a `swallow` that has not happened."""
        self._do(self._heal)

    # -- what can be awaited

    @property
    def connections(self) -> int:
        """Connections open now, those in the black hole included."""
        return len(self._links)

    def wait_for_connections(self, at_least: int = 1, timeout: float = 10.0) -> None:
        """Wait until so many are open."""
        self._wait(lambda: self.connections >= at_least, timeout, f"{at_least} connections")

    def wait_for_accepted(self, more_than: int, timeout: float = 10.0) -> None:
        """Wait until more connections were taken in all than this: someone has come back."""
        self._wait(lambda: self.accepted > more_than, timeout, f"more than {more_than} connections taken in all")

    def wait_until_swallowed(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until so many requests and replies were taken away."""
        self._wait(lambda: self.swallowed >= count, timeout, f"{count} swallowed")

    # -- the works, all on the loop's thread

    def _do(self, function: Any, *args: Any) -> Any:
        async def call() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _wait(self, predicate: Any, timeout: float, why: str) -> None:
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                state = f"{self.connections} open, {self.accepted} taken, {self.swallowed} swallowed"
                raise NotInTime(f"waited {timeout:g} s at the proxy for {why}; there are {state}")

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _cut(self, refuse: bool) -> int:
        self._refusing = refuse
        links = list(self._links)
        for link in links:
            self._close(link)
        return len(links)

    def _dig(self) -> None:
        self._hole = True
        for link in self._links:
            link.dead = True

    def _heal(self) -> None:
        self._hole = self._refusing = False
        self._latency = 0.0
        self._swallow = self._hold = None
        for link in self._links:
            link.held = False
        self._flowing.set()
        self._released.set()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            self.accepted += 1
            if self._refusing:
                _reset(client)
                self._note()
                continue
            unix = isinstance(self._target, str)
            server = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            server.setblocking(False)
            link = _Link(client, server, dead=self._hole)
            self._links.add(link)
            link.tasks.append(self._loop.create_task(self._serve(link)))
            self._note()

    async def _serve(self, link: _Link) -> None:
        try:
            if not link.dead:
                await self._loop.sock_connect(link.server, self._target)
                for sock in (link.client, link.server):
                    if sock.family == socket.AF_INET:
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link.tasks.append(self._loop.create_task(self._pump(link, link.server, link.client, "reply")))
            await self._pump(link, link.client, link.server, "request")
        except OSError:
            self._close(link)

    async def _pump(self, link: _Link, source: socket.socket, target: socket.socket, side: Side) -> None:
        """Read from one socket and hand on to a second task, so that latency delays what passes but does not throttle it."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        writer = self._loop.create_task(self._write(link, queue, target))
        link.tasks.append(writer)
        try:
            while data := await self._loop.sock_recv(source, _CHUNK):
                if link.dead:
                    continue
                if side == "request" and self._hold is not None and self._hold in data:
                    link.held, self._hold = True, None
                    self._released.clear()
                if self._takes_away(link, data, side):
                    self._close(link)
                    return
                await queue.put((time.monotonic() + self._latency, data))
        except OSError:
            pass
        if link.dead and side == "reply":
            return  # the server gave up a connection whose client cannot hear of it
        await queue.put((0.0, b""))

    def _takes_away(self, link: _Link, data: bytes, side: Side) -> bool:
        if side == "reply":
            taken = link.marked
        else:
            if self._swallow is None or self._swallow[1] not in data:
                return False
            taken = self._swallow[0] == "request"
            link.marked = not taken
            self._swallow = None
        self.swallowed += taken
        return taken

    async def _write(self, link: _Link, queue: asyncio.Queue[tuple[float, bytes]], target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await queue.get()
                if (delay := due - time.monotonic()) > 0:
                    await asyncio.sleep(delay)
                await self._flowing.wait()
                if link.held and target is link.client:
                    await self._released.wait()
                if not data:
                    break
                if not link.dead:
                    await self._loop.sock_sendall(target, data)
        self._close(link, reset=False)

    def _close(self, link: _Link, *, reset: bool = True) -> None:
        if link not in self._links:
            return
        self._links.discard(link)
        current = asyncio.current_task(self._loop)
        for task in link.tasks:
            if task is not current:
                task.cancel()
        for sock in (link.client, link.server):
            _reset(sock) if reset else sock.close()
        self._note()

    def close(self) -> None:
        """Cut everything and end."""
        if not self._thread.is_alive():
            return
        self.cut(refuse=True)
        self._acceptor.cancel()
        self._do(self._listener.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reset(sock: socket.socket) -> None:
    """Close with an RST in place of a FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
