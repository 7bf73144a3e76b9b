"""What the shells need of threads: the names of `elkmq._aio._concurrency`, by hand."""

from __future__ import annotations

import inspect
import logging
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

log = logging.getLogger("elkmq")

T = TypeVar("T")

Lock = threading.RLock  # a signal's handler that comes to what its thread is in the middle of does it itself


def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks; here the caller may be blocked."""
    return function(*args)


def home() -> object:
    """Where objects of the shell live: this process."""
    return os.getpid()


def outcome(value: Any) -> Any:
    """The value; a coroutine would never run here."""
    if value is None or type(value) is str:
        return value
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("the handler is a coroutine function; serve it with elkmq.aio.Service")
    return value


@contextmanager
def stop_signals(stop: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Call ``stop`` at SIGTERM or SIGINT, where this is the main thread and ``wanted``.

    It is called on a thread that waits for it, by way of a pipe: a signal's handler runs wherever the main thread is,
    perhaps inside a lock that ``stop`` takes as well.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while os.read(reading, 1) == b"s":
            stop()

    def handle(number: int, _: object) -> None:
        if os.getpid() == owner:
            with suppress(BlockingIOError):
                os.write(writing, b"s")
        else:  # a forked child, for which this is no reason to stop its parent
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    watcher = threading.Thread(target=watch, name="elkmq-stop", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"e")
        watcher.join()
        os.close(writing)
        os.close(reading)


class Turn:
    """A place that one thread has at a time: ``try: if turn.take(...): ... finally: turn.give()``.

    Who is torn away by a signal handler's exception right after it took its turn gives it back all the same.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # it knows its owner, which it learns in the very step in which it is taken

    def take(self, timeout: float | None) -> bool:
        """Wait for it; False after ``timeout`` seconds (None: for ever)."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def give(self) -> None:
        """Let the next one have it, if this thread has it."""
        while self._lock._is_owned():  # type: ignore[attr-defined]  # more than once where an earlier turn was left behind
            self._lock.release()


def to_be_raised(error: BaseException) -> bool:
    """Whether an exception such as `KeyboardInterrupt` is to go on out of `Workers.start`: on the main thread only."""
    return threading.current_thread() is threading.main_thread() and not isinstance(error, GeneratorExit)


class Flag:
    """Something to wait for; raised from any thread, awaited by one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free: it is raised. An `Event` is left locked by a signal handler's exception
        self._lock.acquire()

    def raise_(self) -> None:
        """Let whoever waits go on."""
        with suppress(RuntimeError):  # it was raised before
            self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is raised, and lower it; False after ``timeout`` seconds (None: for ever)."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))


class Caller:
    """Calls functions where the shell lives: on whatever thread."""

    def __init__(self) -> None:
        _errands.begin()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call it."""
        function(*args)

    def later(self, function: Callable[..., None], *args: Any) -> None:
        """Call it on a thread that holds no lock: for finalizers, which may run in the middle of anything."""
        _errands.waiting.put((function, args))


class _Errands:
    """One thread for what finalizers want done."""

    def __init__(self) -> None:
        # The one queue of which a finalizer may interrupt a `put` with another.
        self.waiting: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._begun = False

    def begin(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if not self._begun:
                self._begun = True
                threading.Thread(target=self._run, args=(self.waiting,), name="elkmq-errands", daemon=True).start()

    @staticmethod
    def _run(waiting: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        while True:
            function, args = waiting.get()
            try:
                function(*args)
            except Exception:
                log.exception("what a finalizer asked for failed")
            del function, args  # their owners must be able to go


_errands = _Errands()
os.register_at_fork(after_in_child=_errands.__init__)  # type: ignore[misc]  # a thread stays with the parent


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
    """Runs handlers beside each other, ``concurrency`` at most, each on a thread; a single one on the caller's own.

    The threads are daemons: one whose handler never ends does not keep the process from ending.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._changed = threading.Condition()
        self._work: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._threads = 0
        self._busy = 0
        self._woken = False
        self._closed = False

    def room(self) -> None:
        """Wait until there is a place for one more, or until `wake`."""
        if self._concurrency == 1:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._busy < self._concurrency)

    def wake(self) -> None:
        """Let `room` return from now on; from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Run it."""
        if self._concurrency == 1:
            function(*args)
            return
        with self._changed:
            self._busy += 1
            self._work.append((function, args))
            if self._threads < self._busy:
                self._threads += 1
                threading.Thread(target=self._run, name=f"elkmq-worker-{self._threads}", daemon=True).start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closed)
                if not self._work:
                    return
                function, args = self._work.popleft()
            try:
                function(*args)
            except BaseException:
                log.exception("a worker's function failed")
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for those that run; False where some still run after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def close(self) -> None:
        """Take no more. A thread cannot be stopped: those that still run go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
