"""Faults of the server: restarted, killed, hung, told to forget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.plan import with_scheme
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage
from elkmq.cli.chaos.testbed.servers import Server


def server_of(stage: Stage) -> Server:
    """The suite's own server, which is there: the fault says that it needs one."""
    assert stage.server is not None
    return stage.server


def client_of(stage: Stage) -> Any:
    """A connection of redis-py that no fault of the network hits."""
    return redis.Redis.from_url(with_scheme(stage.url, "redis"), socket_timeout=30)


def restart(stage: Stage, *, hard: bool = False) -> None:
    """The server ends (``hard``: by SIGKILL, every write being on the disk before it was answered) and starts on the same data."""
    stage.begin()
    for _ in range(stage.settings.rounds):
        stage.run(stage.settings.pause)
        stage.screen.say(f"{'SIGKILL' if hard else 'SIGTERM'} of the server, and a new start", "red")
        with stage.outage():
            server_of(stage).restart(hard=hard)
    stage.finish()


def client_kill(stage: Stage) -> None:
    """CLIENT KILL of every connection, by the server itself."""
    with client_of(stage) as client:
        stage.begin()
        for _ in range(2 * stage.settings.rounds):
            stage.run(stage.settings.pause / 2)
            with stage.outage():
                killed = client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert killed
        stage.finish()


def hang(stage: Stage, command: Callable[[float], tuple[object, ...]]) -> None:
    """The server answers nobody for half a lease, by a command that is told the seconds; connections stay open."""
    seconds = stage.settings.lease / 2
    with client_of(stage) as client:
        stage.begin()
        for _ in range(max(1, stage.settings.rounds // 2)):
            stage.run(stage.settings.pause)
            with stage.outage():
                asleep = threading.Thread(target=client.execute_command, args=command(seconds))
                asleep.start()
                stage.run(seconds)
                asleep.join()
        stage.finish()


def script_flush(stage: Stage) -> None:
    """SCRIPT FLUSH: the server forgets every script."""
    with client_of(stage) as client:
        stage.begin()
        for _ in range(10 * stage.settings.rounds):
            stage.run(stage.settings.pause / 10)
            client.execute_command("SCRIPT", "FLUSH")
        stage.recovered(now())
        stage.finish()


def script_flush_kill(stage: Stage) -> None:
    """SCRIPT FLUSH, and SIGKILL of a worker of each kind before it can have heard of it. What happens is told."""
    with client_of(stage) as client:
        stage.begin()
        for _ in range(stage.settings.rounds):
            stage.run(stage.settings.pause)
            at, held = now(), {}
            for lane in stage.lanes:
                client.execute_command("SCRIPT", "FLUSH")
                held[lane.kind.name] = lane.kill(stage.rng)
            stage.again(held, at)
        stage.until_ready()
        stage.finish()
    for lane, found in zip(stage.lanes, stage.tallies(), strict=True):
        stage.promise(f"{found.kind}: none was lost ({found.lost})", found.lost == 0)
        stage.tell(
            f"{found.kind}: after {stage.settings.rounds} kills {found.twice} of {found.sent:,} messages that had ended "
            f"ran again, their acknowledgement having come to nothing; {found.again} that were in hand"
        )
        assert lane.kind.name == found.kind


def flush(stage: Stage) -> None:
    """FLUSHALL: whatever was waiting is gone, and so are queues, consumers and scripts."""
    with client_of(stage) as client:
        stage.begin()
        for _ in range(max(1, stage.settings.rounds // 2)):
            stage.run(stage.settings.pause)
            for lane in stage.lanes:
                for worker in lane.workers:
                    stage.incident(lane, worker.name)
            client.flushall()
            stage.screen.say("FLUSHALL", "red")
            stage.recovered(now())
        _and_then_nothing_is_lost(stage)


def key_types(stage: Stage) -> None:
    """Another program makes every key of the queues one of another type; after a while they are deleted."""
    with client_of(stage) as client:
        stage.begin()
        stage.run(stage.settings.pause)
        for lane in stage.lanes:
            for worker in lane.workers:
                stage.incident(lane, worker.name)
            keys = list(client.scan_iter(match=f"*{lane.queue}*", count=1000))
            for key in keys:
                client.delete(key)
                client.set(key, "of another type")
        stage.screen.say("every key is of another type", "red")
        told = stage.until(_all_told(stage), 20.0)
        stage.promise("producers are told, by an error", told)
        for lane in stage.lanes:
            for key in client.scan_iter(match=f"*{lane.queue}*", count=1000):
                if client.type(key) == b"string" and client.get(key) == b"of another type":
                    client.delete(key)
        stage.recovered(now())
        _and_then_nothing_is_lost(stage)


def _all_told(stage: Stage) -> Callable[[], bool]:
    """Whether, from now on, a publish of each kind has raised."""
    before = {lane.kind.name: lane.ledger.failed for lane in stage.lanes}
    return lambda: all(lane.ledger.failed > before[lane.kind.name] for lane in stage.lanes)


def memory(stage: Stage) -> None:
    """No memory is left for a while: producers are told, consumers go on."""
    with client_of(stage) as client:
        stage.begin()
        stage.run(stage.settings.pause)
        for _ in range(max(1, stage.settings.rounds // 2)):
            client.config_set("maxmemory", "1mb")
            stage.screen.say("no memory is left", "red")
            stage.promise("producers are told, by an error", stage.until(_all_told(stage), 20.0))
            went_on = stage.until(
                lambda: all(lane.ledger.missing <= 0 for lane in stage.lanes if not lane.kind.early), 20.0
            )
            stage.promise("consumers go on meanwhile, until nothing is left", went_on)
            client.config_set("maxmemory", "0")
            stage.recovered(now())
        stage.finish()


def _and_then_nothing_is_lost(stage: Stage) -> None:
    """What was sent before the data went may be lost, by the fault itself; what is sent from now on is not."""
    first = {lane.kind.name: max(lane.ledger.sent.numbers(), default=0) for lane in stage.lanes}
    stage.run(stage.settings.pause)
    stage.finish()
    for lane in stage.lanes:
        later = [n for n in lane.ledger.sent.numbers() if n > first[lane.kind.name] + 1]
        lost = [n for n in later if not lane.ledger.ended[n]]
        twice = [n for n in later if lane.ledger.begun[n] > 1]
        stage.promise(
            f"{lane.kind.name}: of {len(later)} sent afterwards none is lost ({len(lost)}), none ran twice ({len(twice)})",
            not lost and not twice and bool(later),
        )


ALWAYS = {"appendfsync": "always"}

FAULTS = (
    Fault("client-kill", "CLIENT KILL of every connection", client_kill, admin=True, recovers=0.5),
    Fault("client-pause", "CLIENT PAUSE for half a lease", partial(hang, command=lambda s: ("CLIENT", "PAUSE", int(s * 1000))), admin=True, recovers=1.0),
    Fault("script-flush", "SCRIPT FLUSH, again and again", script_flush, admin=True, recovers=0.5),
    Fault("script-flush-kill", "SCRIPT FLUSH and SIGKILL at once", script_flush_kill, admin=True, lossy=True, compared=False),
    Fault("debug-sleep", "DEBUG SLEEP for half a lease", partial(hang, command=lambda s: ("DEBUG", "SLEEP", str(s))), own_server=True, recovers=1.0,
          server={"options": {"enable-debug-command": "yes"}}),
    Fault("restart", "the server restarts, with an append-only file", restart, own_server=True, recovers=0.5),
    Fault("crash", "SIGKILL of the server, appendfsync always", partial(restart, hard=True), own_server=True, recovers=0.5, server=ALWAYS),
    Fault("flush", "FLUSHALL", flush, own_server=True, recovers=2.0, restarts=True, lossy=True),
    Fault("key-types", "keys changed to another type", key_types, own_server=True, recovers=2.0, restarts=True,
          lossy=True, compared=False),
    Fault("memory", "no memory left", memory, own_server=True, recovers=1.0, compared=False),
)  # fmt: skip
