"""Making faults, one after another, and judging each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from urllib.parse import urlsplit

from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.judge import Tally
from elkmq.cli.chaos.plan import KINDS
from elkmq.cli.chaos.stage import SLACK, Settings, Stage
from elkmq.cli.chaos.target import Target
from elkmq.cli.chaos.testbed.servers import Server
from elkmq.cli.demo.judge import Promise
from elkmq.cli.demo.screen import Screen

CROWDED = 3.0
"""Processes that want to run, for each core, up to which the usual slack is enough: the suite itself makes about as many."""


@dataclass(frozen=True)
class Verdict:
    """What a fault showed."""

    fault: str
    what: str
    tallies: Sequence[Tally] = ()
    promises: Sequence[Promise] = ()
    seconds: float = 0.0
    skipped: str = ""
    """Why it was not made."""
    told: Sequence[str] = ()
    """What was seen, where nothing is promised."""

    @property
    def kept(self) -> bool:
        """Whether all promises held."""
        return all(promise.kept for promise in self.promises)


def obstacle(fault: Fault, target: Target, kinds: Sequence[str]) -> str:
    """Why a fault cannot be made here; nothing where it can."""
    if not set(fault.kinds) & set(kinds):
        return "none of these kinds of workers is concerned"
    if target.transport != "elkmq" and not fault.compared:
        return "it looks at what only ElkMQ has"
    if fault.obstacle is not None and (why := fault.obstacle()):
        return why
    if fault.own_server and target.url is not None:
        return "it needs a server of the suite's own: leave --broker out"
    if fault.admin and target.url is not None and not target.admin:
        return "other clients of the server would notice: ask for it with --admin"
    if fault.proxy and target.url is not None and urlsplit(target.url).scheme not in ("redis", "elkmq", "amqp"):
        return "it needs a plain url, for a proxy in between"
    return ""


def available(kinds: Sequence[str], target: Target) -> tuple[str, ...]:
    """The kinds that can run here: the library has no part in other transports, and Celery may not be installed."""
    found = [kind for kind in kinds if target.transport == "elkmq" or KINDS[kind].client != "library"]
    return tuple(k for k in found if KINDS[k].client == "library" or find_spec(KINDS[k].client) is not None)


def make(faults: Sequence[Fault], target: Target, settings: Settings, folder: str, screen: Screen) -> Iterator[Verdict]:
    """Make faults; yields each verdict as it comes."""
    for fault in faults:
        why = obstacle(fault, target, settings.kinds)
        if why:
            screen.say(f"{fault.name}: skipped, {why}", "dim")
            yield Verdict(fault.name, fault.what, skipped=why)
            continue
        kinds = tuple(kind for kind in settings.kinds if kind in fault.kinds)
        yield one(fault, target, replace(settings, kinds=kinds), os.path.join(folder, fault.name), screen)


def one(fault: Fault, target: Target, settings: Settings, folder: str, screen: Screen) -> Verdict:
    """Make one fault and judge it."""
    screen.say(f"{fault.name}: {fault.what} ({', '.join(settings.kinds)}; seed {settings.seed})", "bold")
    began = screen.seconds
    with ExitStack() as stack:
        server = None
        if target.url is None:
            given: dict[str, object] = {"appendonly": True, **fault.server}
            server = Server(**given)  # type: ignore[arg-type]
        stage = Stage(settings, folder, screen, target.transport, target.url or "", server, lossy=fault.lossy)
        if fault.arrange is not None:
            fault.arrange(stage)
        if server is not None:
            stack.enter_context(server)
        stage.connect()
        stack.callback(stage.close)
        try:
            fault.strike(stage)
        except (KeyboardInterrupt, SystemExit):
            screen.say(f"{fault.name}: interrupted; its processes are ended, and its queues deleted", "bold red")
            raise
        tallies = stage.tallies()
        promises = [*judged(fault, stage, tallies), *stage.promises]
    verdict = Verdict(fault.name, fault.what, tallies, promises, screen.seconds - began, told=stage.told)
    for promise in promises:
        if not promise.kept:
            screen.say(f"BROKEN  {promise.text}", "bold red")
    for tally in () if verdict.kept else tallies:
        for line in tally.worst:
            screen.say(f"  {line}")
    return verdict


def judged(fault: Fault, stage: Stage, tallies: Sequence[Tally]) -> Iterator[Promise]:
    """What the records say about the promises."""
    for lane, found in zip(stage.lanes, tallies, strict=True):
        name = found.kind
        yield Promise(f"{name}: messages were sent and run ({found.sent:,})", found.sent > 0 and found.once > 0)
        if not fault.lossy:
            yield Promise(f"{name}: none was lost ({found.lost})", found.lost == 0)
            yield Promise(f"{name}: none ran again for no reason ({found.twice})", found.twice == 0)
            yield Promise(f"{name}: none was completed twice ({found.completed_twice})", found.completed_twice == 0)
            if not (fault.again or stage.overlong):
                yield Promise(f"{name}: none ran again ({found.again})", found.again == 0)
        yield Promise(f"{name}: none ran that nobody sent ({found.unknown})", found.unknown == 0)
        yield Promise(f"{name}: no producer gave up ({'; '.join(lane.silenced)})", not lane.silenced)
        yield Promise(f"{name}: no worker is deaf ({'; '.join(lane.deaf)})", not lane.deaf)
        if not (fault.restarts or stage.overlong):
            anew = lane.made_anew()
            yield Promise(f"{name}: no consumer was made anew ({anew})", anew == 0)
            yield Promise(f"{name}: no worker ended ({'; '.join(lane.ended)})", not lane.ended)
        if fault.recovers is not None and found.recovered is not None:
            crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / CROWDED)
            limit = fault.recovers * stage.settings.lease + SLACK / 2 * crowd
            beside = f", {crowd:.1f} times as much slack as usual on a machine so busy" if crowd > 1 else ""
            said = f"{name}: back after {found.recovered:.1f} s, at most {limit:.1f}{beside}"
            yield Promise(said, found.recovered <= limit)
    if not fault.lossy:
        for name, (left, completed) in stage.left().items():
            yield Promise(f"{name}: its queue is empty (ready, in flight, delayed: {left})", not any(left))
            done = next(tally for tally in tallies if tally.kind == name)
            ledger = next(lane for lane in stage.lanes if lane.kind.name == name).ledger
            most = done.sent + len(stage.apart) + len(ledger.given_up)
            yield Promise(f"{name}: the server completed {completed:,} of {most:,}, none twice", completed <= most)
