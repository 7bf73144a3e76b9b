"""``demo``."""

import click

from elkmq.cli.common import Command


@click.command(cls=Command)
def demo() -> None:
    """See it work."""
