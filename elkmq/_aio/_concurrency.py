"""What the shells need of asyncio. The sync twin (`elkmq._sync._concurrency`) offers the same names over threads; both by
hand, so that the text of a shell is the same in both flavours.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from elkmq._core.sending import LAST_PATIENCE

log = logging.getLogger("elkmq")

T = TypeVar("T")

STUBBORN = 5.0
"""Seconds that a cancelled handler may take to tidy up."""

in_thread = asyncio.to_thread


def home() -> object:
    """Where objects of the shell live: this process and this event loop."""
    return os.getpid(), asyncio.get_running_loop()


async def outcome(value: Any) -> Any:
    """The value, or what it awaits: a handler may be a coroutine function or a plain one."""
    if value is None or type(value) is str:
        return value
    return await value if inspect.isawaitable(value) else value


@contextmanager
def stop_signals(stop: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Call ``stop`` at SIGTERM or SIGINT, where the loop is the main thread's and ``wanted``."""
    loop = asyncio.get_running_loop()
    used = []
    if wanted and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
            used.append(number)
    try:
        yield
    finally:
        for number in used:
            loop.remove_signal_handler(number)


class Lock:
    """A lock for whichever event loop is running; one that ended leaves nothing locked."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock = loop, asyncio.Lock()
        await self._lock.acquire()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release()


class Turn:
    """A place that one task has at a time: ``try: if turn.take(...): ... finally: turn.give()``."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None

    async def take(self, timeout: float | None) -> bool:
        """Wait for it; False after ``timeout`` seconds (None: for ever)."""
        if timeout is None or not self._lock.locked():
            await self._lock.acquire()
        else:
            try:
                await asyncio.wait_for(self._lock.acquire(), max(timeout, 0.0))
            except asyncio.TimeoutError:
                return False
        self._owner = asyncio.current_task()
        return True

    def give(self) -> None:
        """Let the next one have it, if this task has it."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return  # out of a coroutine that a loop left behind when it was closed
        if task is not None and self._owner is task:
            self._owner = None
            self._lock.release()


def to_be_raised(error: BaseException) -> bool:
    """Whether an exception such as `KeyboardInterrupt` is to go on out of `Workers.start`; a task ends on its own."""
    return not isinstance(error, asyncio.CancelledError)


class Promise(Generic[T]):
    """A value that somebody else will have; kept or broken once, from the same loop."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def keep(self, value: T) -> None:
        """Here it is; later ones are ignored."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """It will not come."""
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # whoever awaited it may have gone

    async def wait(self, timeout: float) -> T:
        """The value. Raises `TimeoutError` where it does not come within ``timeout`` seconds."""
        timer = asyncio.get_running_loop().call_later(timeout, self.fail, TimeoutError())
        try:
            return await self._future
        finally:
            timer.cancel()


class Flag:
    """Something to wait for; raised from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def raise_(self) -> None:
        """Let whoever waits go on."""
        in_loop(self._loop, self._event.set)

    async def wait(self, timeout: float | None) -> bool:
        """Wait until it is raised, and lower it; False after ``timeout`` seconds (None: for ever)."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        self._event.clear()
        return True


def in_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function on its loop, from any thread; a loop that is closed has nobody who would care."""
    try:
        if asyncio._get_running_loop() is loop:
            function(*args)
        else:
            loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


_beside: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = WeakKeyDictionary()
"""For each event loop what runs beside its callers, each of which comes to an end by itself."""


def _begun(task: asyncio.Task[None]) -> asyncio.Task[None]:
    tasks = _beside.setdefault(task.get_loop(), set())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def last_things() -> None:
    """Wait for what was begun when the event loop had cancelled its tasks already, such as to hand back what one of these was
    about to be given: `LAST_PATIENCE` seconds at most.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + LAST_PATIENCE
    await asyncio.sleep(0)  # what is to be called later begins
    while (tasks := set(_beside.get(loop, ()))) and (left := until - loop.time()) > 0:
        await asyncio.wait(tasks, timeout=left)
        await asyncio.sleep(0)  # for their callbacks, and what they began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Caller:
    """Calls functions where the shell lives: on its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call it there soon, from any thread."""
        in_loop(self._loop, function, *args)

    def later(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run it there, and not before the caller has gone on: for finalizers, which may run in the middle of anything."""
        with suppress(RuntimeError):  # the loop is closed, and so are its connections
            self._loop.call_soon_threadsafe(self._start, function, args)

    def _start(self, function: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...]) -> None:
        _begun(self._loop.create_task(function(*args)))


class Background:
    """A loop of the shell that runs beside its caller until it is stopped."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._task = _begun(asyncio.get_running_loop().create_task(function(), name=name))

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._task.done()

    async def stop(self) -> None:
        """End it and wait until it has ended."""
        self._task.cancel()
        await asyncio.wait([self._task])


class Workers:
    """Runs handlers beside each other, ``concurrency`` at most."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._woken = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def room(self) -> None:
        """Wait until there is a place for one more, or until `wake`."""
        while len(self._tasks) >= self._concurrency and not self._woken:
            self._changed.clear()
            await self._changed.wait()

    def wake(self) -> None:
        """Let `room` return from now on; from any thread."""
        self._woken = True
        in_loop(self._loop, self._changed.set)

    async def start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run it."""
        task = self._loop.create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a worker's function failed", exc_info=error)

    async def join(self, timeout: float | None = None) -> bool:
        """Wait for those that run; False where some still run after ``timeout`` seconds."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
            await asyncio.sleep(0)  # for their callbacks
        return not self._tasks

    async def close(self) -> None:
        """Stop those that still run; one that will not be stopped is left behind."""
        for task in list(self._tasks):
            task.cancel()
        await self.join(STUBBORN)
