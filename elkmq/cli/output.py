"""What goes to stdout (results only), how text is made safe to show, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bar

WIDE = 200
"""Columns of a table in a pipe, where nobody can see that it was cut."""

PLAIN_EVERY = 5.0
"""Seconds between two lines of progress where stderr is no terminal."""


class Output:
    """Results on stdout, for a person or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def line(self, text: str, document: Any = None) -> None:
        """One result: a line of text, or its document on one line of JSON. Out at once, whoever reads it."""
        print(_dumps(document) if self.as_json else text, flush=True)

    def document(self, document: Any, text: str) -> None:
        """The only result: indented JSON, or text."""
        print(_dumps(document, indent=2) if self.as_json else text, flush=True)

    def show(self, *renderables: RenderableType) -> None:
        """Print what rich can draw."""
        made = console()
        with made.capture() as captured:
            for renderable in renderables:
                made.print(renderable)
        text = captured.get()
        if not made.is_terminal:
            text = "".join(line.rstrip() + "\n" for line in text.splitlines())  # rich fills its cells
        print(text, end="", flush=True)


def _dumps(document: Any, indent: int | None = None) -> str:
    return json.dumps(document, ensure_ascii=False, indent=indent)


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a pipe that gets plain text; NO_COLOR and FORCE_COLOR count."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str | int] = ()
) -> RenderableType:
    """A table without lines; the columns in ``numbers``, by name or place, stand to the right. No header where no column has a name."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if name in numbers or number in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell) if isinstance(cell, str) else "" if cell is None else str(cell) for cell in row))
    return made


def shown(text: str | None, *, lines: bool = False) -> str:
    """Text with its control characters spelled out: a payload must not steer a terminal. ``lines``: line ends stay."""
    if text is None:
        return ""
    keep = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in keep else _SPELLED.get(c) or f"\\u{ord(c):04x}" for c in text)


_SPELLED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}


def moment(ms: int) -> str:
    """Server milliseconds as local time."""
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")


def span(seconds: float | None) -> str:
    """A span of time, short."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


class Progress:
    """Tells on stderr how far something long has come: a bar on a terminal, else a line now and then.

    As a context manager. ``doing`` is what is done, as in "enqueueing"; ``total``: None where nobody knows.
    """

    def __init__(self, doing: str, total: int | None = None) -> None:
        self.done = 0
        self._doing = doing
        self._total = total
        self._bar: Bar | None = None
        self._told = time.monotonic()

    def advance(self, n: int) -> None:
        """So many more are done."""
        self.done += n
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif time.monotonic() - self._told >= PLAIN_EVERY:
            self._told = time.monotonic()
            of = f" of {self._total:,}" if self._total is not None else ""
            print(f"elkmq: {self._doing}: {self.done:,}{of}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=console(stderr=True), transient=True)
            self._bar.add_task(self._doing, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
