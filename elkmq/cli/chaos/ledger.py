"""The records as they grow: counts for each message, and who has what in hand. Made for millions of lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from elkmq.cli.chaos.records import (
    BEGUN,
    ENDED,
    FAILED,
    GIVEN_UP,
    READY,
    REFUSED,
    RESTARTED,
    SENT,
    Line,
    Source,
    sources,
)

MOST = 255
"""Counts stop here: a byte each."""


class Counts:
    """How often something happened to each message."""

    def __init__(self) -> None:
        self._bytes = bytearray(1024)
        self.total = 0
        """In all."""

    def add(self, number: int) -> None:
        """Once more."""
        if number >= len(self._bytes):
            self._bytes.extend(bytes(max(number + 1 - len(self._bytes), len(self._bytes))))
        if self._bytes[number] < MOST:
            self._bytes[number] += 1
        self.total += 1

    def __getitem__(self, number: int) -> int:
        return self._bytes[number] if number < len(self._bytes) else 0

    def numbers(self, least: int = 1) -> list[int]:
        """The messages to which it happened at least so often."""
        return [number for number, count in enumerate(self._bytes) if count >= least]


class Ledger:
    """Reads along with all processes of a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.sent, self.begun, self.ended, self.refused = Counts(), Counts(), Counts(), Counts()
        self.given_up: set[int] = set()
        self.done = 0
        """Messages that were sent and ended."""
        self.failed = 0
        """Publishes that raised."""
        self.restarted: Counter[str] = Counter()
        """Consumers made anew, by worker."""
        self.ready: dict[str, int] = {}
        """Processes that are at work -> the format that a worker's release writes."""
        self.in_hand: dict[tuple[str, int, int], int] = {}
        """(worker, pid, slot) -> the message that it began with and did not end."""
        self.last_begun: dict[str, float] = {}
        """Worker -> when it began with a message last."""
        self.begun_again: dict[int, float] = {}
        """Messages that were begun more than once -> when last."""
        self._sources: dict[Path, Source] = {}

    def look(self) -> None:
        """Read on."""
        for source in sources(self.folder):
            known = self._sources.setdefault(source.path, source)
            for line in known.lines():
                self._note(known, line)

    def _note(self, source: Source, line: Line) -> None:
        what, number = line.what, line.number
        if what == BEGUN:
            self.begun.add(number)
            self.in_hand[source.worker, source.pid, line.slot] = number
            if line.at > self.last_begun.get(source.worker, 0.0):
                self.last_begun[source.worker] = line.at
            if self.begun[number] > 1:
                self.begun_again[number] = line.at
        elif what in (ENDED, REFUSED):
            (self.ended if what == ENDED else self.refused).add(number)
            self.in_hand.pop((source.worker, source.pid, line.slot), None)
            self.done += what == ENDED and self.ended[number] == 1 and self.sent[number] > 0
        elif what == SENT:
            self.sent.add(number)
            self.done += self.ended[number] > 0
        elif what == FAILED:
            self.failed += 1
        elif what == GIVEN_UP:
            self.given_up.add(number)
        elif what == READY:
            self.ready[source.worker] = number
        elif what == RESTARTED:
            self.restarted[source.worker] += 1

    def held_by(self, worker: str, pid: int | None = None) -> list[int]:
        """What a worker, or one of its processes, began with and did not end."""
        return [n for (who, process, _), n in self.in_hand.items() if who == worker and pid in (None, process)]

    @property
    def missing(self) -> int:
        """Messages that were sent and not ended (yet)."""
        return self.sent.total - self.done
