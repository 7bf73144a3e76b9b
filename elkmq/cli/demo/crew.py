"""Starting, stopping and killing the demo's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType

import click

from elkmq.cli.demo.records import READY, Follower

START_TIMEOUT = 30.0
"""Seconds until a process has to be at work."""

PAUSE = 0.02
"""Seconds between two looks."""


class DemoFailed(click.ClickException):
    """The demo could not be given, which says nothing about promises."""


class Actor:
    """One process."""

    def __init__(self, role: str, name: str, folder: str, queue: str, url: str) -> None:
        self.role = role
        self.name = name
        self.killed = False
        self._log = os.path.join(folder, f"{name}.log")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "elkmq.cli.demo.processes", role, name, folder, queue],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={
                    **os.environ,
                    "ELKMQ_URL": url,
                },  # not an argument: others can see those, and it may hold a password
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def state(self) -> str:
        """In a word."""
        return "killed" if self.killed else "at work" if self.running else "done"

    def begin(self) -> None:
        """Give the sign to start."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def kill_in_the_middle(self, is_in_the_middle: Callable[[], bool]) -> bool:
        """Stop it, look, and SIGKILL it if it is in the middle of something; else let it go on."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)  # from here on it does nothing
        if not os.WIFSTOPPED(status):
            raise DemoFailed(f"the demo's process {self.name} ended by itself.")
        self.killed = is_in_the_middle()
        os.kill(self.pid, signal.SIGKILL if self.killed else signal.SIGCONT)
        if self.killed:
            self._process.wait()
        return self.killed

    def end(self, timeout: float) -> None:
        """Let it finish what it has in hand, and wait for its end."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.remove()

    def remove(self) -> None:
        """Make sure that it is gone."""
        if self.running:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def check(self) -> None:
        """See that it has not failed. Raises: DemoFailed."""
        if not self.killed and not self.running and self._process.returncode:
            with open(self._log, errors="replace") as log:
                said = log.read().strip().splitlines()
            raise DemoFailed(f"the demo's process {self.name} ended with {self._process.returncode}: {said[-1:]}.")


class Crew:
    """All processes of one part of the demo; as a context manager it leaves none behind."""

    def __init__(self, folder: str, queue: str, url: str) -> None:
        self.actors: list[Actor] = []
        self.follower = Follower(folder)
        self._where = (folder, queue, url)

    def start(self, role: str, count: int = 1) -> list[Actor]:
        """Start so many processes of a role."""
        made = [Actor(role, f"{role}-{n}" if count > 1 else role, *self._where) for n in range(1, count + 1)]
        self.actors += made
        return made

    def until(self, condition: Callable[[], bool], timeout: float) -> Iterator[None]:
        """Look again and again until the condition holds or the seconds are over; what to do in between is the caller's.

        Raises:
            DemoFailed: A process failed.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.follower.look()
            for actor in self.actors:
                actor.check()
            yield
            if condition() or time.monotonic() > deadline:
                return
            time.sleep(PAUSE)

    def until_ready(self) -> None:
        """Wait until all are at work."""

        def ready() -> bool:
            return {r.process for r in self.follower.records if r.what == READY} >= {a.name for a in self.actors}

        for _ in self.until(ready, START_TIMEOUT):
            pass
        if not ready():
            raise DemoFailed(
                f"the demo's processes were not at work within {START_TIMEOUT:g} s; try on a quieter machine."
            )

    def end(self, timeout: float = 5.0) -> None:
        """Let all finish what they have in hand."""
        for actor in self.actors:
            actor.end(timeout)
        self.follower.look()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self.actors:
            actor.remove()
