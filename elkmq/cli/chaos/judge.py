"""From what was written down, and what was done to whom when, to what was kept and what was broken.

A message may run again where the process that had it in hand was killed, or was stopped for longer than its lease, in the
middle of it: that one message for each thing that runs one at a time, and nothing else. The judge knows what was done to
whom (`Incident`) and finds in the records what each slot had begun last at that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from elkmq.cli.chaos.ledger import Ledger
from elkmq.cli.chaos.records import BEGUN, ENDED, REFUSED, Line, sources

SLOTS = 2
"""What a worker runs at a time at most."""

UNSURE = 0.25
"""Seconds before an outage of the network from which on an acknowledgement may not have left."""

REMEMBERED = 4096
"""Runs of one worker that are looked back at."""


@dataclass(frozen=True)
class Incident:
    """Something that takes what a worker has in hand away from it."""

    worker: str
    at: float
    pid: int | None = None
    """Of one process of it; None: all of them."""
    until: float | None = None
    """It was stopped until then: what a process of its pool began meanwhile had been handed to that one before."""


@dataclass
class Run:
    """One run of one message."""

    worker: str
    pid: int
    slot: int
    begun: float
    ended: float | None = None
    refused: bool = False
    taken_away: float | None = None
    """When an incident hit it."""


@dataclass(frozen=True)
class Spell:
    """A time during which the network, or the server, was not there."""

    since: float
    until: float


@dataclass(frozen=True)
class Tally:
    """What became of the messages of one kind of worker: a row of the closing table."""

    kind: str
    sent: int
    once: int
    """Run once."""
    more: int
    """Run more than once; `again` and `twice` are what they are made of."""
    again: int
    """Of those, how many because the process that had it in hand was killed or stopped in the middle."""
    twice: int
    """Of those, how many for no such reason: each breaks a promise."""
    completed_twice: int
    """Ended twice although neither run had been taken away and neither was refused."""
    lost: int
    cut_off: int
    """Taken by a slot and never ended, where the application chose to acknowledge before it runs."""
    unknown: int
    """Run although nobody sent it."""
    failed: int
    """Publishes that raised and were repeated."""
    recovered: float | None = None
    """Seconds until work went on, after the worst fault."""
    worst: tuple[str, ...] = field(default=(), repr=False)
    """Broken ones, spelled out, a few."""


class _Worker:
    """What one worker did, gone through in the order of its records."""

    def __init__(self, incidents: Sequence[Incident], spells: Sequence[Spell]) -> None:
        self.incidents = incidents
        self._spells = spells
        self._last: dict[tuple[int, int], tuple[int, Run]] = {}
        self._recent: deque[tuple[int, Run]] = deque(maxlen=REMEMBERED)

    def begin(self, number: int, run: Run) -> None:
        place = (run.pid, run.slot)
        if place in self._last:
            self._strike(*self._last[place], until=run.begun)
        self._last[place] = (number, run)
        self._recent.append((number, run))

    def end(self, place: tuple[int, int]) -> Run | None:
        return self._last[place][1] if place in self._last else None

    def close(self) -> None:
        for number, run in self._last.values():
            self._strike(number, run, until=float("inf"))
        for incident in self.incidents:
            # What was acknowledged while there was no connection had not left the process.
            for spell in self._spells:
                if spell.since <= incident.at <= spell.until + UNSURE:
                    for _, run in self._recent:
                        if run.ended is not None and spell.since - UNSURE <= run.ended <= incident.at:
                            run.taken_away = run.taken_away or incident.at

    def _strike(self, _: int, run: Run, until: float) -> None:
        for incident in self.incidents:
            handed = incident.until is not None and incident.at <= run.begun <= incident.until
            if (handed or run.begun <= incident.at <= until) and incident.pid in (None, run.pid):
                run.taken_away = incident.at
                return


def _suspects(ledger: Ledger, early: bool) -> set[int]:
    found = set(ledger.begun.numbers(2)) | set(ledger.ended.numbers(2))
    if early:
        found |= {n for n in ledger.begun.numbers() if not ledger.ended[n]}
    return found


def _runs(
    folder: str, suspects: set[int], incidents: Sequence[Incident], spells: Sequence[Spell]
) -> dict[int, list[Run]]:
    """The runs of the messages that have to be looked at one by one."""
    found: dict[int, list[Run]] = {}
    workers: dict[str, _Worker] = {}
    for source in sources(folder):
        worker = workers.get(source.worker)
        if worker is None:
            mine = sorted((i for i in incidents if i.worker == source.worker), key=lambda i: i.at)
            worker = workers[source.worker] = _Worker(mine, spells)
        for line in source.lines():
            if line.what == BEGUN:
                if line.number in suspects or worker.incidents:
                    run = Run(source.worker, source.pid, line.slot, line.at)
                    worker.begin(line.number, run)
                    if line.number in suspects:
                        found.setdefault(line.number, []).append(run)
            elif line.what in (ENDED, REFUSED):
                _end(found.get(line.number, ()), source.pid, line)
    for worker in workers.values():
        worker.close()
    for runs in found.values():
        runs.sort(key=lambda run: run.begun)
    return found


def _end(runs: Iterable[Run], pid: int, line: Line) -> None:
    for run in runs:
        if run.pid == pid and run.slot == line.slot and (run.ended is None or line.what == REFUSED):
            run.ended = run.ended or line.at
            run.refused = line.what == REFUSED


def tally(
    kind: str,
    ledger: Ledger,
    incidents: Sequence[Incident] = (),
    spells: Sequence[Spell] = (),
    *,
    early: bool = False,
    apart: frozenset[int] = frozenset(),
    recovered: float | None = None,
) -> Tally:
    """Count what became of each message.

    Args:
        kind: What did the work.
        ledger: The records, read to their end.
        incidents: What was done to whom.
        spells: When the network or the server was not there.
        early: Messages are acknowledged before they run, as the application chose.
        apart: Messages that are judged by themselves, such as those that kill their process.
        recovered: Seconds until work went on, as seen from outside.
    """
    runs = _runs(ledger.folder, _suspects(ledger, early) - apart, incidents, spells)
    again, twice, completed_twice, worst = 0, 0, 0, []
    for number, found in runs.items():
        if len(found) < 2:
            continue
        unasked = [run for run in found[:-1] if run.taken_away is None]
        again, twice = again + (not unasked), twice + bool(unasked)
        completed = [run for run in found if run.ended is not None and not run.refused and run.taken_away is None]
        completed_twice += len(completed) > 1
        if unasked:
            worst.append(f"{kind}: message {number} ran again for no reason: {found}")
    sent = [number for number in ledger.sent.numbers() if number not in apart]
    cut, lost, taken = 0, [], SLOTS * len(incidents)
    for number in sent:
        if ledger.ended[number]:
            continue
        if early and any(run.taken_away is not None for run in runs.get(number, ())):
            cut += 1
        elif early and not ledger.begun[number] and taken > 0:
            taken -= 1  # acknowledged when a slot took it, and killed before its first line
            cut += 1
        else:
            lost.append(number)
    worst += [f"{kind}: message {number} was lost (begun {ledger.begun[number]} times)" for number in lost]
    return Tally(
        kind,
        sent=len(sent),
        once=sum(1 for number in sent if ledger.begun[number] == 1 and ledger.ended[number]),
        more=again + twice,
        again=again,
        twice=twice,
        completed_twice=completed_twice,
        lost=len(lost),
        cut_off=cut,
        unknown=sum(1 for n in ledger.begun.numbers() if not ledger.sent[n] and n not in ledger.given_up),
        failed=ledger.failed,
        recovered=recovered,
        worst=tuple(worst[:5]),
    )
