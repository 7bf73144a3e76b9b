"""Everything at random, seeded: the same seed strikes in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable

from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.faults.servers import ALWAYS, client_of
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import SAFE, Stage

CREW = {"sync": 6, "asyncio": 4, "kombu": 4, "prefork": 2, "early": 1, "threads": 2, "solo": 1}
"""Workers of each kind, and as many producers: 20 and 20 where all kinds are there."""

SHARE = {"sync": 0.40, "asyncio": 0.30, "kombu": 0.25}
"""Of a given number of messages, what each kind gets; the rest goes to the others in equal parts."""

BATCH = 20
"""Messages in one publish of the library's producers, where a number of messages is to be reached."""

PATIENCE = 1.5
"""Times of its duration that a number of messages may take."""


def chance(stage: Stage) -> None:
    """Strike after strike, chosen by the seed, until the time is over or the messages are sent."""
    settings = stage.settings
    stage.prepare()
    for lane in stage.lanes:
        crew = CREW[lane.kind.name]
        if settings.messages:
            messages = round(settings.messages * _share(lane.kind.name, settings.kinds))
            batch = BATCH if lane.kind.client == "library" else 1
            lane.start_producers(crew, rate=messages / settings.duration / 0.85, messages=messages, batch=batch)
        else:
            lane.start_producers(crew, rate=settings.rate / 5 * crew)
        for _ in range(crew):
            lane.start_worker()
    stage.until_ready()
    strikes = _strikes(stage)
    deadline = now() + settings.duration * (PATIENCE if settings.messages else 1.0)
    count = 0
    while now() < deadline and any(p.running for lane in stage.lanes for p in lane.producers):
        stage.run(stage.rng.uniform(0.5, 1.5) * settings.pause)
        name = stage.rng.choice(list(strikes))
        stage.screen.say(name, "red")
        strikes[name]()
        count += 1
    stage.until_ready()
    stage.screen.say(f"{count} strikes; what is left is run")
    stage.promise(f"there were strikes ({count})", count > 0)
    stage.finish()


def _share(kind: str, kinds: tuple[str, ...]) -> float:
    """Of the messages, for one kind among those that are there."""
    rest = [k for k in kinds if k not in SHARE]
    weights = {k: SHARE.get(k, 0.05 / len(rest) if rest else 0.0) for k in kinds}
    return weights[kind] / sum(weights.values())


def _strikes(stage: Stage) -> dict[str, Callable[[], None]]:
    found: dict[str, Callable[[], None]] = {"kill": lambda: _kill(stage), "stop": lambda: _stop(stage)}
    if (proxy := stage.proxy) is not None:

        def half_open() -> None:
            with stage.outage():
                proxy.blackhole()
                stage.run(0.5)
                proxy.heal()

        def stall() -> None:
            with stage.outage():
                proxy.stall()
                stage.run(stage.rng.uniform(0.1, 0.4) * stage.settings.lease)
                proxy.heal()

        def latency() -> None:
            with stage.outage():
                proxy.latency(100)
                stage.run(stage.settings.pause)
                proxy.latency(0)

        def cut() -> None:
            with stage.outage():
                proxy.cut()

        def cut_and_kill() -> None:
            with stage.outage():
                proxy.cut(refuse=True)
                _kill(stage, wait=False)
                proxy.heal()

        found |= {"half-open": half_open, "stall": stall, "latency": latency, "cut": cut, "cut and kill": cut_and_kill}
    if (server := stage.server) is not None:
        client = client_of(stage)

        def restart(hard: bool) -> None:
            with stage.outage():
                server.restart(hard=hard)

        def command(*words: object, lasts: float = 0.0) -> None:
            with stage.outage():
                client.execute_command(*words)
                stage.run(lasts)

        def sleep() -> None:
            with stage.outage():
                asleep = threading.Thread(target=client.execute_command, args=("DEBUG", "SLEEP", "1"))
                asleep.start()
                stage.until(lambda: not asleep.is_alive(), 30.0)

        def memory() -> None:
            with stage.outage():
                client.config_set("maxmemory", "1mb")
                stage.run(1.0)
                client.config_set("maxmemory", "0")

        found |= {
            "restart": lambda: restart(hard=False),
            "crash": lambda: restart(hard=True),
            "CLIENT KILL": lambda: command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
            "CLIENT PAUSE": lambda: command("CLIENT", "PAUSE", 1000, lasts=1.0),
            "SCRIPT FLUSH": lambda: command("SCRIPT", "FLUSH"),
            "DEBUG SLEEP": sleep,
            "no memory": memory,
        }
    return found


def _kill(stage: Stage, *, wait: bool = True) -> None:
    lane = stage.rng.choice(stage.lanes)
    at = now()
    held = {lane.kind.name: lane.kill(stage.rng)}
    if wait:
        stage.again(held, at)


def _stop(stage: Stage) -> None:
    lane = stage.rng.choice(stage.lanes)
    worker = stage.rng.choice(lane.workers)
    worker.stop(group=False)
    since = now()
    stage.run(stage.rng.uniform(0.2, 1.8) * stage.settings.lease)
    if now() - since > SAFE * stage.settings.lease:
        stage.was_stopped(lane, worker.name, since)
    worker.go_on()
    stage.recovered(now())


FAULTS = (
    Fault(
        "random", "everything at random: 20 workers and 20 producers", chance, again=True, restarts=True, recovers=2.0,
        server={**ALWAYS, "options": {"enable-debug-command": "yes", "auto-aof-rewrite-min-size": "16mb"}}, long=True,
    ),
)  # fmt: skip
