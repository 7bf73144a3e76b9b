"""What the demo shows: a live table on a terminal, plain lines in a pipe, nothing but JSON on stdout for programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from elkmq.cli.demo.judge import Outcome
from elkmq.cli.demo.records import DONE, SENT, Record
from elkmq.cli.output import console, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from elkmq.cli.demo.crew import Actor

REDRAW = 0.1
"""Seconds."""


class Screen:
    """Where the demo tells what happens; as a context manager."""

    def __init__(self, *, stderr: bool) -> None:
        self.console = console(stderr=stderr)
        self._began = time.monotonic()
        self._live: Live | None = None
        self._drawn = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        """Tell what happens now."""
        self.console.print(f"{self.seconds:5.1f} s  {text}", style=style or None)

    def watch(self, actors: Sequence[Actor], records: Sequence[Record]) -> None:
        """Show the processes at work, on a terminal."""
        if self._live is None or time.monotonic() - self._drawn < REDRAW:
            return
        self._drawn = time.monotonic()
        sent, done = (Counter(r.process for r in records if r.what == what) for what in (SENT, DONE))
        columns = ("PROCESS", "PID", "", "SENT", "HANDLED")
        rows = [(a.name, a.pid, a.state, sent[a.name] or None, done[a.name] or None) for a in actors]
        self._live.update(table(columns, rows, numbers=("PID", "SENT", "HANDLED")), refresh=True)

    def clear(self) -> None:
        """Take the processes off the screen."""
        if self._live is not None:
            self._live.update("", refresh=True)

    def close_with(self, outcomes: Iterable[Outcome]) -> None:
        """Show the closing table and the promises."""
        for drawn in closing(list(outcomes)):
            self.console.print(drawn)

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live("", console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def closing(outcomes: Sequence[Outcome]) -> list[RenderableType]:
    """The closing table, and below it each promise."""
    columns = ("", "SENT", "HANDLED ONCE", "HANDLED TWICE", "LOST", "RUN AGAIN AFTER THE KILL")
    rows = [
        (t.what, f"{t.sent:,}", f"{t.once:,}", f"{t.twice:,}", f"{t.lost:,}", f"{t.run_again:,}")
        for t in (outcome.tally for outcome in outcomes)
    ]
    drawn: list[RenderableType] = ["", table(columns, rows, numbers=columns[1:]), ""]
    for outcome in outcomes:
        drawn += [f"{'kept  ' if p.kept else 'BROKEN'}  {outcome.tally.what}: {p.text}" for p in outcome.promises]
        if outcome.tally.stalled:
            drawn.append(
                f"note    {outcome.tally.what}: {outcome.tally.stalled} handled again because the machine held a process up "
                "for longer than its lease; the queue refused the late one"
            )
    return [*drawn, ""]
