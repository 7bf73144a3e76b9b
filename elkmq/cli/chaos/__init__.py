"""``chaos``: the promises under fire, on real processes, judged by what they wrote down outside the broker."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack

import click

from elkmq.cli.chaos.catalogue import FAULTS
from elkmq.cli.chaos.plan import KINDS
from elkmq.cli.chaos.report import closing, document
from elkmq.cli.chaos.run import Verdict, available, make
from elkmq.cli.chaos.stage import Settings
from elkmq.cli.chaos.target import broker_of, look, target_of
from elkmq.cli.common import Command, Setup, examples, pass_setup
from elkmq.cli.demo.screen import Screen

TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as shells have it."""

DEFAULT_KINDS = "sync,asyncio,kombu,prefork,early,threads,solo"


@click.command(
    cls=Command,
    epilog=examples(
        "elkmq chaos                                    every fault, on servers of its own",
        "elkmq chaos cut half-open --workers sync,kombu these two, with these workers",
        "elkmq chaos --broker elkmq://localhost:6379/0  what can be done to a server of yours",
        "elkmq chaos --broker redis://                  the stock transport, for comparison, on a server of its own",
        "elkmq chaos --long                             a million messages in 30 minutes of faults at random",
    ),
)
@click.argument("faults", nargs=-1, metavar="[FAULT]...")
@click.option(
    "--broker",
    metavar="URL",
    help="elkmq://, or redis:// or amqp:// for comparison; a scheme alone: a server of its own. Also from ELKMQ_CHAOS_BROKER.",
)
@click.option("--workers", default=DEFAULT_KINDS, show_default=True, metavar="KINDS", help="Kinds of workers.")
@click.option("--seed", type=int, help="What is left to chance is chosen by it; default: a new one, which is shown.")
@click.option("--lease", type=click.FloatRange(1, 600), help="Seconds; default: 5, long 10.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="How often a fault strikes.")
@click.option("--rate", type=click.FloatRange(1), default=50.0, show_default=True, help="Messages a second, each kind.")
@click.option("--duration", type=click.FloatRange(1), metavar="SECONDS", help="Of 'random'; default: 300, long 1800.")
@click.option(
    "--messages", type=click.IntRange(1), help="Of 'random', in all; default: as many as come, long 1,000,000."
)
@click.option("--long", "long_", is_flag=True, help="'random' for 30 minutes, with a million messages.")
@click.option(
    "--admin", is_flag=True, help="On your server, also what other clients of it notice: CLIENT KILL and such."
)
@click.option(
    "--records",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Keep there, in a new folder, what was recorded.",
)
@click.option("--list", "list_", is_flag=True, help="Name the faults, and do nothing.")
@pass_setup
def chaos(
    setup: Setup,
    *,
    faults: tuple[str, ...],
    broker: str | None,
    workers: str,
    seed: int | None,
    lease: float | None,
    rounds: int,
    rate: float,
    duration: float | None,
    messages: int | None,
    long_: bool,
    admin: bool,
    records: str | None,
    list_: bool,
) -> int:
    """Break things, and see the promises hold.

    Real workers (Celery with several pools, plain Kombu, EventQueue) run messages while their processes, the network or
    the server are broken on purpose. Each run of each message is recorded in files outside the broker, and only these are
    judged. The closing table counts what was sent, run once, run more than once and lost, and how long it took until work
    went on. The status is 1 if a promise was broken.

    Without --broker (or --url) each fault gets a server of its own, whatever ELKMQ_URL says. On a server of yours, queues
    named elkmq-chaos-... are used and deleted; faults that would break the server itself are skipped. The status is 2 if
    none was made.
    """
    if list_:
        for fault in FAULTS.values():
            setup.output.line(f"{fault.name:12} {fault.what}", {"fault": fault.name, "what": fault.what})
        return 0
    if setup.data or setup.prefix:
        raise click.UsageError("chaos has neither --data nor --prefix: name a server with --broker, or none")
    if broker and setup.url:
        raise click.UsageError("--broker and --url name a server each: give one of them")
    target = target_of(broker or broker_of(setup.url or "") or os.environ.get("ELKMQ_CHAOS_BROKER") or "", admin=admin)
    chosen = faults or (("random",) if long_ else tuple(name for name, fault in FAULTS.items() if not fault.long))
    if unknown := [name for name in chosen if name not in FAULTS]:
        raise click.UsageError(f"there is no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}")
    if records and os.path.isdir(records) and os.listdir(records):
        raise click.UsageError(
            f"--records {records} is not empty, and what is there would be counted: name a new folder"
        )
    settings = Settings(
        kinds=available(_kinds(workers), target),
        seed=secrets.randbelow(10**6) if seed is None else seed,
        lease=lease or (10.0 if long_ else Settings.lease),
        rounds=rounds,
        rate=rate,
        duration=duration or (1800.0 if long_ else 300.0),
        messages=messages or (1_000_000 if long_ else 0),
        work=0.0 if messages or long_ else Settings.work,
    )
    if not settings.kinds:
        raise click.UsageError(f"none of these kinds of workers can run on {target.transport}://: {workers!r}")
    look(target)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that nothing is left behind
    with ExitStack() as stack:
        folder = records or stack.enter_context(tempfile.TemporaryDirectory(prefix="elkmq-chaos-"))
        screen = stack.enter_context(Screen(stderr=setup.json))
        verdicts = list(make([FAULTS[n] for n in chosen], target, settings, os.path.abspath(folder), screen))
        _conclude(setup, screen, verdicts, settings.seed)
    if all(verdict.skipped for verdict in verdicts):
        return 2
    return 0 if all(verdict.kept for verdict in verdicts) else 1


def _conclude(setup: Setup, screen: Screen, verdicts: list[Verdict], seed: int) -> None:
    if setup.json:
        setup.output.document(document(verdicts, seed), "")
        return
    for drawn in closing(verdicts):
        screen.console.print(drawn)
    skipped = sum(bool(verdict.skipped) for verdict in verdicts)
    if skipped == len(verdicts):
        screen.console.print("Nothing was made: every fault was skipped.", style="bold red")
        return
    kept = all(verdict.kept for verdict in verdicts)
    said = "Every promise was kept" if kept else "A PROMISE WAS BROKEN"
    but = f", {skipped} of {len(verdicts)} faults skipped" if skipped else ""
    screen.console.print(
        f"{said}, in {screen.seconds:.0f} s (seed {seed}){but}.", style="bold green" if kept else "bold red"
    )


def _kinds(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.UsageError(f"there are no workers {unknown[0]!r}; there are: {', '.join(KINDS)}")
    return kinds
