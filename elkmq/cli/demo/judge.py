"""From what was written down to what was kept and what was broken. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elkmq.cli.demo.records import ANSWERED, DONE, LATE, REFUSED, SENT, STARTED, TIMED_OUT, Record, ids

LATENESS = 1.0
"""Seconds by which a requester may learn later than it wanted that there is no response: the machine is busy."""


@dataclass(frozen=True)
class Tally:
    """What became of all that was sent: a row of the closing table."""

    what: str
    sent: int
    once: int
    """Handled once."""
    twice: int
    """Handled more than once."""
    lost: int
    """Never handled."""
    run_again: int = 0
    """Begun a second time because the process that worked on it was killed in the middle."""
    stalled: int = 0
    """Handled a second time because the machine held a process up for longer than its lease: the queue refused the first."""
    unknown: int = 0
    """Handled though nobody sent it."""


@dataclass(frozen=True)
class Promise:
    """A sentence, and whether it held."""

    text: str
    kept: bool


@dataclass(frozen=True)
class Outcome:
    """What a part of the demo showed."""

    tally: Tally
    promises: Sequence[Promise]

    @property
    def kept(self) -> bool:
        """Whether all promises held."""
        return all(promise.kept for promise in self.promises)


def tally(what: str, records: Iterable[Record], killed: Iterable[str] = ()) -> Tally:
    """Count what became of each event that was sent; ``killed``: the processes that were killed."""
    records = list(records)
    sent = set(ids(records, SENT))
    done, refused = Counter(ids(records, DONE)), Counter(ids(records, REFUSED))
    begun = Counter(ids(records, STARTED))
    interrupted = {
        id_ for process in killed for id_ in set(ids(records, STARTED, process)) - set(ids(records, DONE, process))
    }
    more = {id_ for id_ in sent if done[id_] > 1}
    stalled = {id_ for id_ in more if done[id_] - refused[id_] == 1}
    return Tally(
        what,
        sent=len(sent),
        once=sum(1 for id_ in sent if done[id_] == 1),
        twice=len(more - stalled),
        lost=sum(1 for id_ in sent if not done[id_]),
        run_again=sum(1 for id_ in interrupted if begun[id_] > 1),
        stalled=len(stalled),
        unknown=len(set(done) - sent),
    )


def judge_events(records: Iterable[Record], *, expected: int, killed: Sequence[str], left: int) -> Outcome:
    """Judge events among processes. ``expected``: to be sent; ``left``: in the queue at the end, by its own account."""
    found = tally("events", records, killed)
    return Outcome(
        found,
        (
            Promise(f"all {expected:,} were sent", found.sent == expected),
            Promise("none was lost", found.lost == 0),
            Promise("none was handled twice, though every tenth was enqueued twice", found.twice == 0),
            Promise("none was handled that nobody sent", found.unknown == 0),
            Promise(
                f"run again because its process was killed in the middle: {found.run_again}, at most {len(killed)}",
                found.run_again <= len(killed),
            ),
            Promise("the queue is empty", left == 0),
        ),
    )


def judge_tasks(records: Iterable[Record], *, expected: int, killed: Sequence[str], left: int, cut: int) -> Outcome:
    """Judge Celery tasks. ``left``: in the queue at the end, by its own account; ``cut``: connections that were broken."""
    found = tally("tasks", records, killed)
    return Outcome(
        found,
        (
            Promise(f"all {expected:,} were sent, and none was lost", found.sent == expected and not found.lost),
            Promise(f"none ran twice, though {cut} connections were cut", cut > 0 and not found.twice),
            Promise(
                f"run again because its worker was killed in the middle: {found.run_again}, at most {len(killed)}",
                found.run_again <= len(killed),
            ),
            Promise("the queue is empty", left == 0 and not found.unknown),
        ),
    )


def judge_requests(records: Iterable[Record], *, slow: str, waited: float, patience: float, left: int) -> Outcome:
    """Judge requests.

    ``slow``: the one whose handler takes longer than ``patience``, the seconds its requester waits; ``waited``: the
    seconds after which that one learned it. ``left``: in the queue at the end, by its own account.
    """
    records = list(records)
    found = tally("requests", records)
    sent, answered, timed_out = ids(records, SENT), ids(records, ANSWERED), ids(records, TIMED_OUT)
    wanted = Counter(set(sent) - {slow})
    return Outcome(
        found,
        (
            Promise(f"{len(wanted):,} asked at once, and each got its own response, once", Counter(answered) == wanted),
            Promise(
                f"one whose handler was too slow timed out: after {waited:.1f} s, where its requester had {patience:g} s",
                timed_out == [slow] and patience <= waited <= patience + LATENESS,
            ),
            Promise(
                "its late response was refused, and the queue is empty", ids(records, LATE) == [slow] and left == 0
            ),
            Promise("none was lost and none handled twice", not found.lost and not found.twice and not found.unknown),
        ),
    )
