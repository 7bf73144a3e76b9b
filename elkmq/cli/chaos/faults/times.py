"""Faults of time: work longer than a lease, clocks that are wrong."""

from __future__ import annotations

from elkmq.cli.chaos.faults.base import EVERY, Fault
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage
from elkmq.cli.chaos.testbed.clock import Clock, compiler
from elkmq.cli.chaos.work import GIL, HOLD, LATER

HOUR = 3600
"""Seconds."""


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
        others = [n for n in ledger.begun.numbers(2) if n != number]
        lost = [n for n in ledger.sent.numbers() if not ledger.ended[n] and n != number]
        stage.promise(f"{lane.kind.name}: of the others none is lost ({len(lost)})", not lost)
        if lane.kind.pool == "threads":
            # Celery hands a pool of threads all that was prefetched, and there it starts unasked.
            stage.tell(f"threads: of the others {len(others)} ran again")
        else:
            stage.promise(f"{lane.kind.name}: of the others none ran again ({len(others)})", not others)


def _note_holders(stage: Stage, number: int) -> None:
    """Whoever has that message in hand loses, for a while, whatever it holds."""
    for lane in stage.lanes:
        for worker, _, _ in [place for place, n in lane.ledger.in_hand.items() if n == number]:
            stage.incident(lane, worker)


def client_clock(stage: Stage) -> None:
    """One worker of each kind and the producers see a time that is an hour off, the other way round for each."""
    stage.prepare()
    ahead = Clock(stage.folder, "ahead", HOUR).environment
    behind = Clock(stage.folder, "behind", -HOUR).environment
    for place, lane in enumerate(stage.lanes):
        one, other = (ahead, behind) if place % 2 else (behind, ahead)
        lane.start_worker(one)
        lane.start_worker()
        lane.start_producers(1, rate=stage.settings.rate, environment=other)
    stage.until_ready()
    stage.run(2.5 * stage.settings.lease)
    stage.recovered(now())
    stage.finish()


def server_clock(stage: Stage) -> None:
    """The server's clock leaps back by an hour while everybody works, and later forward again."""
    assert stage.server is not None
    clock = Clock(str(stage.server.folder))
    stage.begin()
    for offset in (-HOUR, 0):
        stage.run(stage.settings.pause)
        clock.set(offset)
        stage.screen.say(f"the server's clock is set to {offset:+d} s", "red")
        stage.run(1.5 * stage.settings.lease)
        stage.recovered(now())
        at = now()
        stage.again({lane.kind.name: lane.kill(stage.rng) for lane in stage.lanes}, at)
        stage.recovered(now())
    stage.finish()


def _its_clock(stage: Stage) -> None:
    """Have the server see a clock that can be set."""
    assert stage.server is not None
    stage.server.environment = Clock(str(stage.server.folder)).environment


def _no_compiler() -> str:
    return "" if compiler() else "it needs Linux and a C compiler, to make a clock that can be set"


FAULTS = (
    Fault("long-tasks", "tasks of three leases, and an ETA of three leases", long_tasks, kinds=EVERY),
    Fault("held-lock", "a task that holds Python's global lock in C for two leases", held_lock, lossy=True, restarts=True,
          kinds=("sync", "asyncio", "kombu", "prefork", "threads", "solo"), compared=False),
    Fault("client-clock", "the clock of clients an hour off", client_clock, obstacle=_no_compiler),
    Fault("server-clock", "the server's clock set back by an hour, and forward again", server_clock, own_server=True,
          again=True, recovers=2.0, obstacle=_no_compiler, arrange=_its_clock),
)  # fmt: skip
