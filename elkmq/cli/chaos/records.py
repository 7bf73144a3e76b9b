"""What the processes write down, outside the broker: each appends to a file of its own, one system call a line.

A SIGKILL leaves whole lines, and nothing is claimed that was not done. A line is ``WHAT ID SLOT MICROSECONDS``: the clock
is the monotonic one, which all processes of a machine share; a slot is what runs one message at a time (a thread, a
task). A file is named after its worker and the process, ``WORKER~PID``, since a Celery worker has many.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READY = "R"
"""The process is at work; of a worker, with the format that its release writes."""
SENT = "S"
"""The publish of a message returned."""
FAILED = "F"
"""The publish of a message raised; it is published again."""
GIVEN_UP = "G"
"""The publish of a message raised, and the end came before it could be published again: nobody knows."""
BEGUN = "b"
"""A handler begins with a message."""
ENDED = "e"
"""It has done what it does; the broker is told next."""
REFUSED = "r"
"""The broker told the handler that the message is not its own any more."""
RESTARTED = "X"
"""The consumer ended with an error and was made anew in the same process."""

_ENDING = ".records"


def now() -> float:
    """Seconds, on the clock of the records."""
    return time.monotonic()


class Recorder:
    """Appends to the file of one process; a forked child gets one of its own at its first line."""

    def __init__(self, folder: str, worker: str) -> None:
        self._base = os.path.join(folder, worker)
        self._pid = 0
        self._file = -1

    def write(self, what: str, number: int = 0, slot: int | None = None) -> None:
        """Write a line down."""
        pid = os.getpid()
        if pid != self._pid:
            self._file = os.open(f"{self._base}~{pid}{_ENDING}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._pid = pid
        if slot is None:
            slot = threading.get_native_id()
        os.write(self._file, b"%s %d %d %d\n" % (what.encode(), number, slot, time.monotonic_ns() // 1000))


class Line(NamedTuple):
    """One line of a file."""

    what: str
    number: int
    slot: int
    at: float


class Source:
    """The file of one process, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.worker, _, pid = path.name.removesuffix(_ENDING).rpartition("~")
        self.pid = int(pid)
        self._read = 0

    def lines(self) -> Iterator[Line]:
        """What is new."""
        if os.stat(self.path).st_size == self._read:
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            while chunk := file.read(1 << 20):
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole:
                    return
                self._read += len(whole)
                file.seek(self._read)
                for line in whole.splitlines():
                    what, number, slot, at = line.split()
                    yield Line(what.decode(), int(number), int(slot), int(at) / 1e6)


def sources(folder: str) -> list[Source]:
    """The files of a folder."""
    return [Source(path) for path in sorted(Path(folder).glob(f"*{_ENDING}"))]
