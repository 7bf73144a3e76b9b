"""Ratios between two ways to do the same, measured in turn in one run, since machines are noisy and differ.

A figure is the median over short slices of (peer's time / our time): 1.0 is as fast as the peer, 2.0 twice as fast.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
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


def slices(works: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """What each work returns in each round, their order changing from round to round; a first round does not count.

    Slices of some milliseconds in turn meet the same neighbours on a machine that others use too, so that their ratios
    hold where the times themselves do not.
    """
    for work in works:
        work()
    results: list[list[float]] = [[] for _ in works]
    for n in range(rounds):
        order = [(n + k) % len(works) for k in range(len(works))]
        for at in order:
            results[at].append(works[at]())
    return results


def spread(values: Sequence[float]) -> str:
    """The middle half of the values."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"half of the slices {low:.2f} to {high:.2f}"


def speed(
    what: str, ours: Callable[[], object], peer: Callable[[], object], goal: float, *, rounds: int = 60
) -> Figure:
    """How fast ours is, the peer being 1.0: the median over short slices of both in turn."""
    mine, theirs = slices((lambda: timed(ours), lambda: timed(peer)), rounds)
    ratios = [its / own for own, its in zip(mine, theirs, strict=True)]
    value = statistics.median(ratios)
    detail = (
        f"ours {statistics.median(mine) * 1e3:.2f} ms, peer {statistics.median(theirs) * 1e3:.2f} ms, {spread(ratios)}"
    )
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
