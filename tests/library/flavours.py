"""The sync and the asyncio library behind one awaitable face, so that a case is written once and run over both.

A case is an ``async def`` that awaits everything. Over the sync library each call runs on a thread, and handlers that a
service calls on its threads run on the case's event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import elkmq
from elkmq import aio

AT_ONCE = {"stop", "once", "on", "log"}
"""Methods that are not awaited in asyncio either."""


class Aio:
    """asyncio as it is."""

    name = "asyncio"

    def __init__(self) -> None:
        self._opened: list[Any] = []

    def queue(self, name: str, url: str | None, **options: Any) -> Any:
        """An `EventQueue` that is closed with the test."""
        queue = aio.EventQueue(name, url, **options)
        self._opened.append(queue)
        return queue

    def service(self, queue: Any, **options: Any) -> Any:
        return aio.Service(queue, **options)

    async def close(self) -> None:
        for thing in self._opened:
            await thing.close()


class Sync(Aio):
    """Sync, on threads."""

    name = "sync"

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPoolExecutor(300, thread_name_prefix="test")

    def queue(self, name: str, url: str | None, **options: Any) -> Any:
        queue = Wrapped(elkmq.EventQueue(name, url, **options), self)
        self._opened.append(queue)
        return queue

    def service(self, queue: Any, **options: Any) -> Any:
        return Wrapped(elkmq.Service(queue.thing, **options), self)

    async def run(self, function: Any, *args: Any, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        options = {key: self.bare(value, loop) for key, value in options.items()}
        call = functools.partial(function, *(self.bare(arg, loop) for arg in args), **options)
        return self.wrap(await loop.run_in_executor(self.threads, call))

    def wrap(self, value: Any) -> Any:
        kinds = (elkmq.EventQueue, elkmq.Consumer, elkmq.Delivery, elkmq.DeadLetters, elkmq.Once, elkmq.Service)
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        return Wrapped(value, self) if isinstance(value, kinds) or inspect.isgenerator(value) else value

    def bare(self, value: Any, loop: asyncio.AbstractEventLoop) -> Any:
        if isinstance(value, list | tuple) and any(isinstance(item, Wrapped) for item in value):
            return [self.bare(item, loop) for item in value]
        if inspect.iscoroutinefunction(value):
            return lambda *args: asyncio.run_coroutine_threadsafe(value(*map(self.wrap, args)), loop).result()
        return value.thing if isinstance(value, Wrapped) else value

    async def close(self) -> None:
        await super().close()
        self.threads.shutdown()


class Wrapped:
    """A sync object whose methods are run on threads and awaited."""

    def __init__(self, thing: Any, lib: Sync) -> None:
        self.__dict__.update(thing=thing, lib=lib)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.thing, name)
        if not inspect.ismethod(found):
            return self.lib.wrap(found)
        if name == "on":
            return self._on
        if name in AT_ONCE:
            return lambda *args, **options: self.lib.wrap(found(*args, **options))
        return functools.partial(self.lib.run, found)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.thing, name, value)

    def _on(self, *args: Any, **options: Any) -> Any:
        def register(handler: Any) -> Any:
            self.thing.on(*args, **options)(self.lib.bare(handler, asyncio.get_running_loop()))
            return handler

        return register

    async def __aenter__(self) -> Any:
        await self.lib.run(self.thing.__enter__)
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self.lib.run(self.thing.__exit__, *error)

    def __aiter__(self) -> Any:
        return self._iterate()

    async def _iterate(self) -> Any:
        iterator, end = iter(self.thing), object()
        while (item := await self.lib.run(next, iterator, end)) is not end:
            yield item

    def __repr__(self) -> str:
        return repr(self.thing)


FLAVOURS = (Sync, Aio)
