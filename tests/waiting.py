"""Waiting for things to happen: never for a time to pass, and a failure says what was awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from elkmq.cli.chaos.testbed import reaper
from elkmq.cli.chaos.testbed.waiting import FIRST_PAUSE, LONGEST_PAUSE, NotInTime, eventually, not_in_time

__all__ = ["ROOT", "NotInTime", "Program", "eventually", "eventually_async"]

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


async def eventually_async(
    predicate: Callable[[], Awaitable[T]],
    timeout: float = 10.0,
    why: str = "the predicate to hold",
    *,
    ignoring: tuple[type[Exception], ...] = (AssertionError,),
) -> T:
    """`eventually` for a predicate that is awaited."""
    deadline, pause = time.monotonic() + timeout, FIRST_PAUSE
    last: object
    while True:
        try:
            value = await predicate()
            if value:
                return value
            last = value
        except ignoring as error:
            last = error
        if time.monotonic() > deadline:
            raise not_in_time(timeout, why, last)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


class Program:
    """A child process whose standard output is read line by line as it comes.

    Args:
        source: Python source text; with ``command`` given it is left out.
        args: Further arguments, ``sys.argv[1:]`` of the source.
        command: A whole command line in place of Python source, e.g. ``[sys.executable, "-m", "celery", ...]``.
        env: Variables on top of this process's own; None as the value takes one away.
        merge: Read standard error as if it were standard output too (Celery logs its milestones there).
    """

    def __init__(
        self,
        source: str | None = None,
        *args: str,
        command: list[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        merge: bool = False,
    ) -> None:
        if (source is None) == (command is None):
            raise ValueError("give either Python source or a command")
        full_env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        full_env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        for key, value in (env or {}).items():
            full_env.pop(key, None) if value is None else full_env.update({key: value})
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._orphaned = False
        """Whether its own children outlived it, when last looked at."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self.process = subprocess.Popen(
            command or [sys.executable, "-c", source or "", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else self._errors,
            text=True,
            errors="replace",
            env=full_env,
            start_new_session=True,
        )
        reaper.watch(self.process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def errors(self) -> str:
        """What the child wrote to standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def wait_for(self, marker: str, timeout: float = 15.0, *, since: int = 0) -> str:
        """Return the first line, from line number ``since`` on, that holds the marker; fail if the child ends before."""
        deadline, seen = time.monotonic() + timeout, since
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if marker in line:
                        return line
                seen = max(seen, len(self.lines))
                if self._ended:
                    raise NotInTime(f"the process ended before it printed {marker!r};{self._output()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotInTime(f"waited {timeout:g} s for a line with {marker!r};{self._output()}")
                self._changed.wait(left)

    def _output(self) -> str:
        out = "\n".join(self.lines[-30:])
        return f" exit status {self.process.poll()}; its output:\n{out}\nand errors:\n{self.errors[-4000:]}"

    def send(self, line: str) -> None:
        """Write a line to the child's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, timeout: float = 15.0, *, status: int | None = 0) -> int:
        """Wait for the end, and for the last line; ``status`` is the exit status to insist on (None: any)."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"waited {timeout:g} s for the process to end;{self._output()}") from None
        self._orphaned = self._signal_group(0)
        if not self._orphaned:
            reaper.forget(self.pid)
        self._reader.join(timeout)
        if status is not None and code != status:
            raise AssertionError(f"the process ended with {code}, not {status};{self._output()}")
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _signal_group(self, number: int) -> bool:
        """Signal the child and its children, which are a process group; False where none of them is left."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, and wait for it to be gone."""
        self.process.kill()
        self.wait(status=None)

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the child if it still runs, and whatever it started, and close every pipe."""
        if self.process.returncode is None or self._orphaned:
            self._signal_group(signal.SIGKILL)
        self.process.wait()
        self._orphaned = False
        reaper.forget(self.pid)
        self._reader.join(15.0)
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
