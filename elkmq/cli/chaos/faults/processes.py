"""Faults of processes: killed, stopped, killed from within."""

from __future__ import annotations

import contextlib
import os
import signal

from elkmq import EventQueue
from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.plan import with_scheme
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage
from elkmq.cli.chaos.work import EXIT

LIMIT = 2
"""The delivery limit where messages kill their process: they may come back so often."""

POISON = (20, 25)
"""Messages that kill their process."""


def kill(stage: Stage) -> None:
    """SIGKILL a worker of each kind, with its children, in the middle of a message; then the next."""
    stage.begin()
    for _ in range(stage.settings.rounds):
        stage.run(stage.settings.pause)
        at = now()
        held = {lane.kind.name: lane.kill(stage.rng) for lane in stage.lanes}
        stage.screen.say(f"killed one of each, with {sum(map(len, held.values()))} messages in hand", "red")
        stage.again(held, at)
    stage.until_ready()
    stage.recovered(now())
    stage.finish()


def pool(stage: Stage) -> None:
    """SIGKILL processes of the pools; and messages that end their process, each time they run."""
    stage.delivery_limit = LIMIT
    stage.special.update({str(number): EXIT for number in POISON})
    stage.apart.update(POISON)
    stage.begin()
    for _ in range(stage.settings.rounds):
        stage.run(stage.settings.pause / 2)
        for lane in stage.lanes:
            for worker in lane.workers if lane.kind.pool == "prefork" else ():
                for pid in worker.children()[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    stage.incident(lane, worker.name, pid)
    stage.until(lambda: all(_buried(stage).values()), 60.0 + 4 * LIMIT * stage.settings.lease)
    stage.recovered(now())
    for name, reasons in _reasons(stage).items():
        stage.promise(
            f"{name}: {len(POISON)} messages that kill their process end among the dead letters, for the delivery limit "
            f"({', '.join(reasons) or 'none is there'})",
            reasons == ["delivery_limit"] * len(POISON),
        )
    stage.finish()
    for lane in stage.lanes:
        runs = [lane.ledger.begun[number] for number in POISON]
        if not lane.kind.early:
            stage.promise(f"{lane.kind.name}: each was run {LIMIT + 1} times at most ({runs})", max(runs) <= LIMIT + 1)


def _buried(stage: Stage) -> dict[str, bool]:
    return {name: len(reasons) == len(POISON) for name, reasons in _reasons(stage).items()}


def _reasons(stage: Stage) -> dict[str, list[str]]:
    found = {}
    for lane in stage.lanes:
        if lane.kind.early:
            continue  # acknowledged before it ran: it is gone, as the application chose
        with EventQueue(lane.queue, with_scheme(stage.url, "redis")) as queue:
            found[lane.kind.name] = [letter.reason for letter in queue.dead.list()]
    return found


def stop(stage: Stage) -> None:
    """SIGSTOP a worker of each kind for longer than its lease, then SIGCONT; of a prefork worker the parent alone."""
    stage.begin()
    for _ in range(max(1, stage.settings.rounds // 3)):
        stage.run(stage.settings.pause)
        stopped = []
        for lane in stage.lanes:
            worker = stage.rng.choice(lane.workers)
            worker.stop(group=False)
            stopped.append((lane, worker, now()))
        at = now()
        held = {lane.kind.name: lane.ledger.held_by(worker.name) for lane, worker, _ in stopped}
        stage.screen.say(f"stopped one of each for {1.5 * stage.settings.lease + 1:.0f} s", "red")
        stage.again({kind: [] if kind == "prefork" else numbers for kind, numbers in held.items()}, at)
        stage.run(max(0.0, 1.5 * stage.settings.lease + 1 - (now() - at)))
        for lane, worker, since in stopped:
            stage.was_stopped(lane, worker.name, since)
            worker.go_on()
        stage.recovered(now())
    stage.finish()


FAULTS = (
    Fault("kill", "SIGKILL of a worker of each kind, again and again", kill, again=True, recovers=1.0),
    Fault(
        "pool", "SIGKILL of pool processes; messages that kill their process", pool,
        # One message to a process: what runs beside another that kills both is counted as well, there as in RabbitMQ.
        kinds=("sync", "kombu", "prefork"), again=True, restarts=True, compared=False,
    ),
    Fault("stop", "SIGSTOP for longer than the lease, then SIGCONT", stop, again=True, recovers=1.0, restarts=True,
          kinds=("sync", "asyncio", "kombu", "prefork", "threads", "solo")),
)  # fmt: skip
