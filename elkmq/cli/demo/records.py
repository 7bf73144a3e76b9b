"""What the demo's processes write down, outside the queue: each appends lines to a file of its own.

A line is written by one system call before anything else happens, so that a SIGKILL leaves whole lines and nothing is
claimed that was not done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

READY = "ready"
"""The process is at work."""
SENT = "sent"
"""The enqueue of an event has returned."""
STARTED = "started"
"""A handler begins with an event."""
DONE = "done"
"""A handler has done what it does with an event."""
REFUSED = "refused"
"""The queue told the handler that the event is not its own any more."""
LATE = "late"
"""The queue told the handler that nobody waits for its response any more."""
ANSWERED, TIMED_OUT = "answered", "timed out"
"""How a request ended for who asked."""

_ENDING = ".records"


class Record(NamedTuple):
    """One line: who did what with which event."""

    process: str
    what: str
    id: str


class Recorder:
    """Appends to the file of one process."""

    def __init__(self, folder: str, process: str) -> None:
        path = os.path.join(folder, process + _ENDING)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, id_: object = "") -> None:
        """Write a line down."""
        os.write(self._file, f"{what}\t{id_}\n".encode())


class Follower:
    """Reads along with all processes of a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._read: dict[Path, int] = {}
        self.records: list[Record] = []
        """All lines so far; those of one process in its order."""

    def look(self) -> list[Record]:
        """Read on and return what is new."""
        new: list[Record] = []
        for path in sorted(self._folder.glob(f"*{_ENDING}")):
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.decode().splitlines():
                what, _, id_ = line.partition("\t")
                new.append(Record(path.name.removesuffix(_ENDING), what, id_))
        self.records += new
        return new

    def last(self, process: str) -> Record | None:
        """The last line of a process."""
        self.look()
        return next((record for record in reversed(self.records) if record.process == process), None)


def ids(records: Iterable[Record], what: str, process: str | None = None) -> list[str]:
    """The ids of all lines that say this, of one process or all, in order and as often as they are there."""
    return [r.id for r in records if r.what == what and process in (None, r.process)]
