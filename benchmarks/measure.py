"""Ratios between two ways to do the same, measured in turn in one run, since machines are noisy and differ.

A figure is the median over rounds of (peer's time / our time): 1.0 is as fast as the peer, 2.0 twice as fast.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark's table."""

    what: str
    value: float
    goal: str
    holds: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'MISS'}  {self.what:<58} {self.value:>8.2f}   goal {self.goal:<12} {self.detail}"


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes, with no garbage collection in between."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    finally:
        gc.enable()


def speed(what: str, ours: Callable[[], object], peer: Callable[[], object], goal: float, *, rounds: int = 7) -> Figure:
    """How fast ours is, the peer being 1.0; each round times both, in alternating order, after one that does not count."""
    ours()
    peer()
    ratios, mine, theirs = [], [], []
    for n in range(rounds):
        order = (ours, peer) if n % 2 else (peer, ours)
        took = {work: timed(work) for work in order}
        mine.append(took[ours])
        theirs.append(took[peer])
        ratios.append(took[peer] / took[ours])
    value = statistics.median(ratios)
    detail = f"ours {statistics.median(mine) * 1e3:.1f} ms, peer {statistics.median(theirs) * 1e3:.1f} ms, {min(ratios):.2f} to {max(ratios):.2f}"
    return Figure(what, value, f">= {goal:g}", value >= goal, detail)


@contextmanager
def table(title: str) -> Iterator[list[Figure]]:
    """Print figures as they come, and at the end whether all goals were met."""
    print(title, flush=True)

    class Printed(list[Figure]):
        def append(self, figure: Figure) -> None:
            print(figure, flush=True)
            super().append(figure)

    figures = Printed()
    yield figures
    missed = sum(not figure.holds for figure in figures)
    print(f"{len(figures) - missed} of {len(figures)} goals met", flush=True)
