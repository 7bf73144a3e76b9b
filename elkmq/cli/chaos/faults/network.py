"""Faults of the network, made by the proxy between all processes and the server."""

from __future__ import annotations

from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import SAFE, Stage
from elkmq.cli.chaos.testbed.proxy import Proxy

HOLES = (0.0, 0.4, 1.5)
"""Leases for which nothing arrives."""

STALL = 10.0
"""Seconds at most."""


def proxy_of(stage: Stage) -> Proxy:
    """The proxy, which is there: the fault says that it needs one."""
    assert stage.proxy is not None
    return stage.proxy


def cut(stage: Stage) -> None:
    """Reset every connection, again and again."""
    stage.begin()
    for _ in range(2 * stage.settings.rounds):
        stage.run(stage.settings.pause)
        with stage.outage():
            proxy_of(stage).cut()
    stage.finish()


def half_open(stage: Stage) -> None:
    """Drop what is sent, in both directions, and tell nobody; connections caught in it stay mute for good.

    New connections work at once, after part of a lease, after more than one.
    """
    stage.begin()
    for leases in HOLES:
        stage.run(stage.settings.pause)
        if leases > SAFE:
            for lane in stage.lanes:
                anew = lane.made_anew()
                stage.promise(f"{lane.kind.name}: no consumer was made anew before that ({anew})", not anew)
        stage.screen.say(f"connections are mute for good, new ones for {leases * stage.settings.lease:.1f} s", "red")
        with stage.outage():
            proxy_of(stage).blackhole()
            stage.run(leases * stage.settings.lease)
            proxy_of(stage).heal()
    stage.finish()


def stall(stage: Stage) -> None:
    """Hold everything back for a while, then deliver it."""
    stage.begin()
    stage.run(stage.settings.pause)
    seconds = min(STALL, stage.settings.lease / 2)
    stage.screen.say(f"everything is held back for {seconds:.0f} s", "red")
    with stage.outage():
        proxy_of(stage).stall()
        stage.run(seconds)
        proxy_of(stage).heal()
    stage.finish()


def latency(stage: Stage) -> None:
    """300 milliseconds, each way."""
    stage.begin()
    stage.run(stage.settings.pause)
    at = now()
    proxy_of(stage).latency(300)
    stage.recovered(at)
    stage.run(stage.settings.pause * stage.settings.rounds)
    stage.recovered(now())
    proxy_of(stage).latency(0)
    stage.finish()


def answers(stage: Stage) -> None:
    """Lose answers of the server, one after another: of publishes among others, which are then repeated."""
    stage.begin()
    proxy = proxy_of(stage)
    for round_ in range(10 * stage.settings.rounds):
        stage.run(stage.settings.pause / 10)
        lane = stage.lanes[round_ % len(stage.lanes)]
        before = proxy.swallowed
        proxy.swallow("reply", lane.queue.encode())
        with stage.outage():
            stage.until(lambda before=before: proxy.swallowed > before, 5.0)  # type: ignore[misc]
    stage.promise(f"{proxy.swallowed} answers were lost", proxy.swallowed > 0)
    proxy.heal()
    stage.finish()


FAULTS = (
    Fault("cut", "every connection cut, again and again", cut, proxy=True, recovers=0.5),
    Fault("half-open", "half-open connections: packets dropped, no RST", half_open, proxy=True, recovers=1.0),
    Fault("stall", "nothing arrives for a while, then all of it", stall, proxy=True, recovers=1.0),
    Fault("latency", "300 ms of latency each way", latency, proxy=True),
    Fault("answers", "answers of the server lost, one at a time", answers, proxy=True, recovers=1.0),
)
