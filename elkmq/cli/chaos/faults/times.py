"""Faults of time: work longer than a lease, clocks that are wrong."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path

from elkmq.cli.chaos.faults.base import EVERY, Fault
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage
from elkmq.cli.chaos.work import GIL, HOLD, LATER

FAKETIME = "ELKMQ_FAKETIME"
"""Names libfaketime.so.1 where it is not where Debian's package ``libfaketime`` puts it."""

HOUR = 3600


def faketime() -> str | None:
    """The library that makes a process see another time; None where it is not installed."""
    named = os.environ.get(FAKETIME)
    found = (
        [named]
        if named
        else sorted(glob("/usr/lib/*/faketime/libfaketime.so.1") + glob("/usr/local/lib/faketime/libfaketime.so.1"))
    )
    return next((path for path in found if path and Path(path).exists()), None)


def with_clock(offset: str) -> dict[str, str]:
    """The environment of a process that sees another time of day; what measures spans of time stays as it is."""
    path = faketime()
    assert path is not None
    return {"LD_PRELOAD": path, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


def long_tasks(stage: Stage) -> None:
    """Every tenth message takes three leases, or is due after three; other workers are there that could run it again."""
    seconds = 3 * stage.settings.lease
    special = dict.fromkeys((5, 15), f"{HOLD} {seconds}")
    special |= dict.fromkeys((7, 17), f"{LATER} {seconds}")
    stage.special.update({str(number): what for number, what in special.items()})
    stage.begin()
    stage.until(lambda: all(lane.ledger.begun[n] for lane in stage.lanes for n in (5, 15)), 30.0)
    stage.until(lambda: all(lane.ledger.ended[n] for lane in stage.lanes for n in special), 3 * seconds + 30)
    for lane in stage.lanes:
        runs = {n: lane.ledger.begun[n] for n in special}
        stage.promise(f"{lane.kind.name}: each message of three leases ran once ({runs})", set(runs.values()) == {1})
    stage.finish()


def held_lock(stage: Stage) -> None:
    """A message that holds Python's global lock, in C, for two leases: no heartbeat can leave. What happens is told."""
    number = 30
    stage.special[str(number)] = f"{GIL} {2 * stage.settings.lease}"
    stage.apart.add(number)
    stage.begin()
    stage.until(lambda: all(lane.ledger.begun[number] for lane in stage.lanes), 60.0)
    _note_holders(stage, number)
    stage.until(lambda: all(lane.ledger.ended[number] or lane.ledger.refused[number] for lane in stage.lanes), 60.0)
    stage.run(3 * stage.settings.lease)
    _note_holders(stage, number)
    stage.finish()
    for lane in stage.lanes:
        ledger = lane.ledger
        counts = f"begun {ledger.begun[number]}, ended {ledger.ended[number]}, refused {ledger.refused[number]}"
        stage.tell(f"{lane.kind.name}: a message that holds the global lock for two leases: {counts}")


def _note_holders(stage: Stage, number: int) -> None:
    """Whoever has that message in hand loses, for a while, whatever it holds."""
    for lane in stage.lanes:
        for worker, _, _ in [place for place, n in lane.ledger.in_hand.items() if n == number]:
            stage.incident(lane, worker)


def client_clock(stage: Stage) -> None:
    """One worker of each kind and the producers see a time that is an hour off, the other way round for each."""
    stage.prepare()
    for place, lane in enumerate(stage.lanes):
        ahead, behind = (f"+{HOUR}s", f"-{HOUR}s") if place % 2 else (f"-{HOUR}s", f"+{HOUR}s")
        lane.start_worker(with_clock(ahead))
        lane.start_worker()
        lane.start_producers(1, rate=stage.settings.rate, environment=with_clock(behind))
    stage.until_ready()
    stage.run(2.5 * stage.settings.lease)
    stage.recovered(now())
    stage.finish()


def server_clock(stage: Stage) -> None:
    """The server's clock leaps back by an hour while everybody works, and later forward again."""
    assert stage.server is not None
    clock = Path(stage.server.folder, "clock")
    stage.begin()
    for offset in (f"-{HOUR}s", "+0s"):
        stage.run(stage.settings.pause)
        clock.write_text(offset)
        stage.screen.say(f"the server's clock is set to {offset}", "red")
        stage.run(1.5 * stage.settings.lease)
        stage.recovered(now())
        at = now()
        stage.again({lane.kind.name: lane.kill(stage.rng) for lane in stage.lanes}, at)
        stage.recovered(now())
    stage.finish()


def _its_clock(stage: Stage) -> None:
    """Have the server read its clock from a file."""
    assert stage.server is not None
    path = Path(stage.server.folder, "clock")
    path.write_text("+0s")
    stage.server.environment = {**with_clock(""), "FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1"}
    del stage.server.environment["FAKETIME"]


def _no_faketime() -> str:
    return "" if faketime() else f"libfaketime is not installed (Debian's package of that name, or {FAKETIME}=PATH)"


FAULTS = (
    Fault("long-tasks", "tasks of three leases, and an ETA of three leases", long_tasks, kinds=EVERY),
    Fault("held-lock", "a task that holds Python's global lock in C for two leases", held_lock, again=True, restarts=True,
          kinds=("sync", "asyncio", "kombu", "prefork", "threads", "solo"), compared=False),
    Fault("client-clock", "the clock of clients an hour off", client_clock, obstacle=_no_faketime),
    Fault("server-clock", "the server's clock set back by an hour, and forward again", server_clock, own_server=True,
          again=True, recovers=2.0, obstacle=_no_faketime, arrange=_its_clock),
)  # fmt: skip
