"""``demo``: the promises, shown on real processes and judged by what they wrote down outside the queue."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict

import click

from elkmq import embedded
from elkmq.cli.common import Command, Setup, examples, pass_setup
from elkmq.cli.demo.events import events
from elkmq.cli.demo.judge import Outcome
from elkmq.cli.demo.requests import requests
from elkmq.cli.demo.screen import Screen
from elkmq.cli.demo.shop import broker_url
from elkmq.cli.demo.stage import Stage
from elkmq.cli.demo.tasks import tasks


def parts_for(url: str) -> list[Callable[[Stage], Outcome]]:
    """What can be given."""
    return [events, requests, *([tasks] if broker_url(url) else [])]


@click.command(
    cls=Command,
    epilog=examples("elkmq demo", "elkmq demo --url redis://localhost", "elkmq demo --records /tmp/records"),
)
@click.option(
    "--records", type=click.Path(file_okay=False), metavar="FOLDER", help="Keep there what the processes recorded."
)
@pass_setup
def demo(setup: Setup, records: str | None) -> int:
    """Show it at work, in under a minute.

    Events among several processes, one of which is killed in the middle of its work; requests, one of which times out;
    and, where Celery is installed, its tasks, while connections break and a worker is killed. Each process records outside the queue what it does; a closing table counts what was sent, handled once, handled
    twice and lost. The status is 1 if a promise was broken.

    Without --url it has a server of its own, whose data is deleted at the end. On a server of yours it uses queues of its
    own, named elkmq-demo-..., and deletes them; dedupe marks go by
    themselves after two minutes.
    """
    with ExitStack() as stack:
        folder = records or stack.enter_context(tempfile.TemporaryDirectory(prefix="elkmq-demo-"))
        screen = stack.enter_context(Screen(stderr=setup.json))
        url = setup.server
        if url is None:
            data = setup.data or stack.enter_context(tempfile.TemporaryDirectory(prefix="elkmq-demo-"))
            url = stack.enter_context(embedded.server(data)).url
            screen.say("a server of its own is running")
        parts = parts_for(url)
        outcomes = [part(Stage(url, os.path.abspath(folder), screen)) for part in parts]
        if tasks not in parts:
            screen.say("Celery was left out: it needs `pip install elkmq[celery]`, and a server that is no Cluster")
        seconds = screen.seconds
    kept = all(outcome.kept for outcome in outcomes)
    if setup.json:
        told = [{**asdict(o.tally), "promises": [asdict(p) for p in o.promises]} for o in outcomes]
        setup.output.document({"kept": kept, "seconds": round(seconds, 1), "parts": told}, "")
    else:
        screen.close_with(outcomes)
        screen.console.print(
            f"{'Every promise was kept' if kept else 'A PROMISE WAS BROKEN'}, in {seconds:.0f} s.",
            style="bold green" if kept else "bold red",
        )
    return 0 if kept else 1
