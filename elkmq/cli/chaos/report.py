"""The closing table, and the same for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from elkmq.cli.chaos.run import Verdict
from elkmq.cli.output import table

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = (
    "FAULT",
    "WORKERS",
    "SENT",
    "RUN ONCE",
    "MORE THAN ONCE",
    "FOR NO REASON",
    "LOST",
    "CUT OFF",
    "RECOVERED",
    "",
)


def closing(verdicts: Sequence[Verdict]) -> list[RenderableType]:
    """The table, and below it what was broken."""
    rows: list[tuple[object, ...]] = []
    for verdict in verdicts:
        if verdict.skipped:
            rows.append((verdict.fault, f"skipped: {verdict.skipped}", *[None] * 8))
        for place, found in enumerate(verdict.tallies):
            recovered = "" if found.recovered is None else f"{found.recovered:.1f} s"
            counts = (found.sent, found.once, found.more, found.twice, found.lost, found.cut_off)
            end = ("kept" if verdict.kept else "BROKEN") if place == 0 else ""
            rows.append((verdict.fault if place == 0 else "", found.kind, *(f"{n:,}" for n in counts), recovered, end))
    drawn: list[RenderableType] = ["", table(COLUMNS, rows, numbers=COLUMNS[2:9]), ""]
    for verdict in verdicts:
        drawn += [f"BROKEN  {verdict.fault}: {promise.text}" for promise in verdict.promises if not promise.kept]
        drawn += [f"seen    {verdict.fault}: {text}" for text in verdict.told]
    return [*drawn, ""]


def document(verdicts: Sequence[Verdict], seed: int) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "kept": all(verdict.kept for verdict in verdicts),
        "seed": seed,
        "faults": [{**asdict(verdict), "kept": verdict.kept} for verdict in verdicts],
    }
