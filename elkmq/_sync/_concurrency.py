"""What the shells need of threads: the names of `elkmq._aio._concurrency`, by hand."""

from __future__ import annotations

import inspect
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Lock = threading.Lock
sleep = time.sleep


def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks; here the caller may be blocked."""
    return function(*args)


def outcome(value: Any) -> Any:
    """The value; a coroutine would never run here."""
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("the handler is a coroutine function; serve it with elkmq.aio.Service")
    return value


@contextmanager
def stop_signals(stop: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Call ``stop`` at SIGTERM or SIGINT, where this is the main thread and ``wanted``."""

    def handle(number: int, frame: object) -> None:
        # On a thread: the handler runs wherever the main thread is, perhaps inside a lock that ``stop`` takes as well.
        threading.Thread(target=stop, name="elkmq-stop", daemon=True).start()

    before = {}
    if wanted and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Promise(Generic[T]):
    """A value that another thread will have; kept or broken once."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: Future[T] = Future()

    def keep(self, value: T) -> None:
        """Here it is; later ones are ignored."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """It will not come."""
        if not self._future.done():
            self._future.set_exception(error)

    def wait(self, timeout: float) -> T:
        """The value. Raises `TimeoutError` where it does not come within ``timeout`` seconds."""
        try:
            return self._future.result(timeout)
        except FutureTimeoutError:
            raise TimeoutError from None


class Flag:
    """Something to wait for; raised from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def raise_(self) -> None:
        """Let whoever waits go on."""
        self._event.set()

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is raised, and lower it; False after ``timeout`` seconds (None: for ever)."""
        if not self._event.wait(timeout):
            return False
        self._event.clear()
        return True


class Caller:
    """Calls functions where the shell lives: on whatever thread."""

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call it."""
        function(*args)


class Background:
    """A loop of the shell that runs beside its caller until it ends by itself."""

    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=function, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Wait until it has ended; what ends it is the closing of its connection."""
        if self._thread is not threading.current_thread():
            self._thread.join()


class Workers:
    """Runs handlers beside each other, ``concurrency`` at most, each on a thread; a single one on the caller's own."""

    def __init__(self, concurrency: int) -> None:
        self._alone = concurrency == 1
        self._free = threading.Semaphore(concurrency)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="elkmq-worker")
        self._tasks: set[Future[None]] = set()

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Run it; waits for a free place first."""
        if self._alone:
            function(*args)
            return
        self._free.acquire()
        task = self._threads.submit(function, *args)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: Future[None]) -> None:
        self._tasks.discard(task)
        self._free.release()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for those that run; False where some still run after ``timeout`` seconds."""
        wait(set(self._tasks), timeout)
        return not self._tasks

    def close(self) -> None:
        """Take no more. A thread cannot be stopped: those that still run go on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
