"""Two releases at once: the next one, which writes a newer format, is rolled out and taken back while all are at work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import redis

import elkmq
from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.faults.servers import client_of
from elkmq.cli.chaos.lane import Lane
from elkmq.cli.chaos.plan import with_scheme
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage
from elkmq.keys import FORMAT

NEXT = FORMAT + 1

MANY = 1_000_000
"""More messages than a producer of this release comes to: where those of the next one begin."""

PACKAGES = ("elkmq", "kombu_elkmq")

RAISE = """
import os
from elkmq import EventQueue, keys
with EventQueue(os.environ["QUEUE"], os.environ["URL"]) as queue:
    queue.configure(dead_letter_max=100_000)
print(keys.FORMAT)
"""
"""What raises a queue's format: a change of its settings by the next release."""


def next_release(folder: str) -> str:
    """Make a copy of the packages that writes the next format; returns the folder to run it in."""
    found = Path(folder, "next-release")
    here = Path(elkmq.__file__).parent.parent
    for package in PACKAGES:
        shutil.copytree(here / package, found / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = found / "elkmq" / "keys.py"
    text, count = re.subn(rf"^FORMAT = {FORMAT}$", f"FORMAT = {NEXT}", module.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    module.write_text(text, "utf-8")
    return str(found)


def releases(stage: Stage) -> None:
    """Up and down again: workers one by one, producers of both, the queues' format raised and lowered meanwhile; half up at last."""
    newer = next_release(stage.folder)
    stage.begin()
    for round_ in range(max(1, stage.settings.rounds // 3)):
        stage.run(stage.settings.pause)
        _deploy(stage, newer, "the next release is rolled out")
        for lane in stage.lanes if round_ == 0 else ():
            # Producers of both from here on: what workers of this release cannot read waits for one that can.
            lane.start_producers(1, rate=stage.settings.rate, first=MANY)
        stage.run(stage.settings.pause)
        _roll(stage, first=True)
        _both_work(stage)
        # What is still of this release has to leave the queue alone, and loses nothing over it.
        for lane in stage.lanes:
            _raise_format(stage, lane, newer)
        stage.run(stage.settings.pause)
        _roll(stage, first=False)
        stage.recovered(now())
        # Down.
        with client_of(stage) as client:
            for lane in stage.lanes:
                _lower_format(client, lane)
        _deploy(stage, "", "the next release is taken back")
        _roll(stage, first=True)
        _both_work(stage)
        _roll(stage, first=False)
        stage.run(stage.settings.pause)
    # What the next release has written, only it can read; beside it, workers of this one get to see it too.
    _deploy(stage, newer, "the next release is rolled out to half of the workers")
    _roll(stage, first=True)
    stage.finish()
    for lane in stage.lanes:
        formats = {lane.ledger.ready.get(worker.name) for worker in (*lane.workers, *lane.gone)}
        stage.promise(f"{lane.kind.name}: workers of both formats were there ({formats})", formats == {FORMAT, NEXT})


def _deploy(stage: Stage, release: str, what: str) -> None:
    """Whoever is started from now on is of this release."""
    stage.screen.say(what, "red")
    for lane in stage.lanes:
        lane.part = replace(lane.part, release=release)


def _roll(stage: Stage, *, first: bool) -> None:
    """Replace half of the workers, or the other half: one is killed, the next is asked to end, and so on."""
    at, held = now(), {}
    for place, lane in enumerate(stage.lanes):
        of_before = [worker for worker in lane.workers if worker.part.release != lane.part.release]
        for number, worker in enumerate(of_before[: len(of_before) // 2] if first else of_before):
            if (place + number + first) % 2:
                held[lane.kind.name] = lane.kill(stage.rng, worker)
            else:
                lane.restart(worker)
    stage.until_ready()
    stage.again(held, at)


def _both_work(stage: Stage) -> None:
    stage.recovered(now())
    stage.run(stage.settings.pause)
    stage.recovered(now())


def _raise_format(stage: Stage, lane: Lane, newer: str) -> None:
    given = {**os.environ, "QUEUE": lane.queue, "URL": with_scheme(stage.url, "redis")}
    done = subprocess.run(
        [sys.executable, "-c", RAISE], cwd=newer, env=given, capture_output=True, text=True, check=False
    )
    stage.promise(
        f"{lane.kind.name}: the next release changes the queue's settings ({(done.stdout + done.stderr).strip()[-200:]})",
        done.returncode == 0 and done.stdout.strip() == str(NEXT),
    )


def _lower_format(client: redis.Redis, lane: Lane) -> None:
    """As its operator does who goes back: nothing in the settings needs the newer format."""
    key = f"{lane.queue}(settings)"

    def lower(pipe: redis.client.Pipeline) -> None:
        text = pipe.get(key)
        assert isinstance(text, bytes)
        pipe.multi()
        pipe.set(key, text.replace(f"format={NEXT}\n".encode(), f"format={FORMAT}\n".encode()))

    client.transaction(lower, key)


FAULTS = (
    Fault(
        "releases", "rolling upgrade and downgrade of the format version, both releases at work", releases,
        again=True, recovers=2.0, restarts=True, compared=False,
    ),
)  # fmt: skip
