"""Starting, stopping and killing the suite's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from elkmq.cli.chaos.plan import KINDS, Part
from elkmq.cli.chaos.testbed import reaper


class Process:
    """A worker or a producer, with all processes that it starts: they are one process group."""

    def __init__(self, part: Part, role: str, environment: dict[str, str] | None = None) -> None:
        self.part = part
        self.name = part.name
        self.role = role
        self.expected_end = False
        """Whether it was us."""
        self.started = time.monotonic()
        self.log = Path(part.folder, f"{part.name}.log")
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                _command(part, role),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**part.environment(), **(environment or {})},
                cwd=part.release or None,  # where Python, and Celery, look for modules first
                start_new_session=True,
            )
        reaper.watch(self.pid)

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def children(self) -> list[int]:
        """The processes it has started and that run."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def stop(self, *, group: bool = True) -> None:
        """SIGSTOP, of the whole group or the process itself alone; returns when it has stopped."""
        (os.killpg if group else os.kill)(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, of the whole group."""
        self.expected_end = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def tell_to_end(self) -> None:
        """Let it finish what it has in hand; does not wait."""
        self.expected_end = True
        with contextlib.suppress(OSError):
            if self.role == "worker" and KINDS[self.part.kind].client == "celery":
                os.kill(self.pid, signal.SIGTERM)
        self._close()

    def end(self, timeout: float) -> bool:
        """Wait for its end after `tell_to_end`, and kill it if that does not come; whether it came."""
        self.tell_to_end()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left behind
        reaper.forget(self.pid)
        return True

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def log_has(self, text: str) -> int:
        """How many lines of its log have this."""
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())

    def _close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _command(part: Part, role: str) -> list[str]:
    kind = KINDS[part.kind]
    if role == "producer":
        return [sys.executable, "-m", "elkmq.cli.chaos.producer"]
    if kind.client != "celery":
        return [sys.executable, "-m", "elkmq.cli.chaos.worker"]
    celery = [sys.executable, "-m", "celery", "-A", "elkmq.cli.chaos.celery_app", "worker", "-l", "INFO"]
    quiet = ["--without-gossip", "--without-mingle", "-n", f"{part.name}@%h"]
    return [*celery, *quiet, "-P", kind.pool, "-c", str(kind.slots)]
