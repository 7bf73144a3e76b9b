"""The two drivers behind one awaitable face, so that a test case is written once and run over both.

The sync one works on threads: what a test starts as a task is a thread's work there.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import elkmq._aio.link as aio_link
import elkmq._sync.link as sync_link
from elkmq._core.call import Call, Script, command
from elkmq._endpoint import Endpoint


def ping() -> Call[str]:
    return command("PING", parse=lambda reply: reply.decode(), doing="ping")


def echo(text: str) -> Call[str]:
    return command("ECHO", text, parse=lambda reply: reply.decode(), doing="echo")


def incr(key: str, **options: Any) -> Call[int]:
    """Not safe to repeat in truth, which shows how often it was carried out."""
    return command("INCR", key, parse=int, doing="count", fate="it is not known whether it was counted", **options)


def pop(key: str, seconds: float) -> Call[Any]:
    return command("BLPOP", key, str(seconds), parse=lambda reply: reply and reply[1], block=seconds, doing="wait")


def evalsha(source: str, key: str) -> Call[int]:
    script = Script("test", source, hashlib.sha1(source.encode()).hexdigest())
    return Call(int, ("EVALSHA", script.sha, 1, key), script, doing="run the script")


class AioDriver:
    """asyncio as it is."""

    name = "asyncio"
    link = aio_link

    def channel(self, url: str, **options: Any) -> Any:
        return self._open(aio_link.Channel, url, options)

    def waiter(self, url: str, **options: Any) -> Any:
        return self._open(aio_link.Waiter, url, options)

    def pool(self, url: str, **options: Any) -> Any:
        return self._open(aio_link.Pool, url, options)

    def __init__(self) -> None:
        self._opened: list[Any] = []

    def _open(self, kind: Any, url: str, options: dict[str, Any]) -> Any:
        endpoint, options = _split(url, options)
        thing = kind(endpoint, **options)
        self._opened.append(thing)
        return thing

    def hook(self, seen: list[Any], *calls: Call[Any]) -> Callable[[Any], Any]:
        """An ``on_reconnect`` that runs calls and notes what comes out."""

        async def on_reconnect(channel: Any) -> None:
            for call in calls:
                seen.append(await channel.run(call))  # noqa: PERF401

        return on_reconnect

    async def close(self) -> None:
        for thing in self._opened:
            await thing.close()


class _Threaded:
    """A sync object whose methods are run on threads and awaited."""

    def __init__(self, thing: Any, threads: ThreadPoolExecutor) -> None:
        self.thing = thing
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.thing, name)
        if not callable(found) or name in ("cancel", "interrupt", "drop", "endpoint"):
            return found

        def call(*args: Any, **options: Any) -> Any:
            return asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(found, *args, **options))

        return call


class SyncDriver(AioDriver):
    """Sync, on threads."""

    name = "sync"
    link = sync_link

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(128, thread_name_prefix="test")

    def channel(self, url: str, **options: Any) -> Any:
        return self._open(sync_link.Channel, url, options)

    def waiter(self, url: str, **options: Any) -> Any:
        return self._open(sync_link.Waiter, url, options)

    def pool(self, url: str, **options: Any) -> Any:
        return self._open(sync_link.Pool, url, options)

    def _open(self, kind: Any, url: str, options: dict[str, Any]) -> Any:
        endpoint, options = _split(url, options)
        thing = _Threaded(kind(endpoint, **options), self._threads)
        self._opened.append(thing)
        return thing

    def hook(self, seen: list[Any], *calls: Call[Any]) -> Callable[[Any], Any]:
        def on_reconnect(channel: Any) -> None:
            for call in calls:
                seen.append(channel.run(call))  # noqa: PERF401

        return on_reconnect

    async def close(self) -> None:
        await super().close()
        self._threads.shutdown()


_FOR_LINK = {"slot_key", "on_reconnect", "max_outstanding", "max_connections"}


def _split(url: str, options: dict[str, Any]) -> tuple[Endpoint, dict[str, Any]]:
    """The endpoint, and the options that are the link's own."""
    for_endpoint = {key: value for key, value in options.items() if key not in _FOR_LINK}
    return Endpoint.from_url(url, **for_endpoint), {key: value for key, value in options.items() if key in _FOR_LINK}
