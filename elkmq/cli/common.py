"""What the commands share: the options of all of them, and the queue they lead to."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from elkmq import EventQueue, Options
from elkmq.cli.output import Output
from elkmq.options import check_name


@dataclass
class Setup:
    """What was said by the options that every command takes."""

    url: str | None = None
    data: str | None = None
    json: bool = False
    prefix: str = ""

    @property
    def server(self) -> str | None:
        """The url, also from ELKMQ_URL unless a data folder was named; None: the embedded server."""
        return self.url or (None if self.data else os.environ.get("ELKMQ_URL")) or None

    @property
    def output(self) -> Output:
        """Where results go."""
        return Output(as_json=self.json)

    def options(self, **more: Any) -> Options:
        """The options of a client."""
        return Options(global_keyprefix=self.prefix, **more)

    def queue(self, name: str, **more: Any) -> EventQueue:
        """A queue, to be closed by the caller."""
        if self.url and self.data:
            raise click.UsageError("--url and --data exclude each other: a server, or a folder for one of its own.")
        return EventQueue(check_name(name), self.server, options=self.options(**more), data=self.data)


pass_setup = click.make_pass_decorator(Setup, ensure=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # Options stand before or after the command; the one nearest to the end counts.
    if value is not None and parameter.name:
        setattr(context.ensure_object(Setup), parameter.name, value)


def _shared() -> list[click.Parameter]:
    return [
        click.Option(["--url"], help="The server: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://. "
                     "Also from ELKMQ_URL, which keeps a password out of the process list.",
                     metavar="URL", expose_value=False, callback=_remember),
        click.Option(["--data"], help="The embedded server's data folder, where there is no url. Also from ELKMQ_DATA; "
                     "default: ~/.local/share/elkmq.",
                     metavar="FOLDER", type=click.Path(file_okay=False), expose_value=False, callback=_remember),
        click.Option(["--prefix"], help="What every key starts with (global_keyprefix).",
                     metavar="TEXT", expose_value=False, callback=_remember),
        click.Option(["--json"], help="For programs: JSON on stdout, one document or one a line.",
                     is_flag=True, default=None, expose_value=False, callback=_remember),
    ]  # fmt: skip


class _Shared(click.Command):
    """Adds the options of every command, listed apart in its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_all = _shared()
        self.params += self._of_all

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those of every command."""
        own = [p for p in self.get_params(ctx) if p not in self._of_all]
        for title, parameters in (("Options", own), ("Options of every command", self._of_all)):
            rows = [row for p in parameters if isinstance(p, click.Option) and (row := p.get_help_record(ctx))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)


class Command(_Shared):
    """A command."""


class Group(_Shared, click.Group):
    """Commands under one name, in the order they were added."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order they were added."""
        return list(self.commands)


def examples(*lines: str) -> str:
    """An epilog that shows examples, each on a line of its own."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone; go on only after yes, or with ``--yes``."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask whether this is meant: add --yes")
    click.confirm(question, abort=True, err=True)


def one_of(ids: Sequence[str], every: bool) -> None:
    """See that either ids or ``--all`` was given."""
    if bool(ids) == every:
        raise click.UsageError("name ids, or give --all" if not ids else "ids and --all exclude each other")
