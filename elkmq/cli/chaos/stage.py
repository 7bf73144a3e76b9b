"""What a fault is given: processes at work, a server, a network between them, and means to break each."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from elkmq import EventQueue, EventQueueError, Options
from elkmq.cli.chaos.judge import Incident, Spell, Tally, tally
from elkmq.cli.chaos.lane import Lane, queue_name
from elkmq.cli.chaos.plan import KINDS, Part, with_scheme
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.target import broker_of, delete_queues
from elkmq.cli.chaos.testbed.proxy import Proxy
from elkmq.cli.chaos.testbed.servers import Server
from elkmq.cli.demo.judge import Promise
from elkmq.cli.demo.screen import Screen

T = TypeVar("T")

LOOK = 0.02
"""Seconds between two looks at the records, at least."""

TOLD_EVERY = 5.0
"""Seconds between two lines of progress."""

START_TIMEOUT = 120.0
"""Seconds until every process has to be at work."""

SAFE = 0.6
"""Of a lease: an outage that is shorter costs nobody the lease. It is renewed every third, so two thirds are left at least; where
connections stay mute, a sixth is needed to notice (`elkmq._heart.PATIENCE`)."""

SLACK = 10.0
"""Seconds that a busy machine may take for what takes none."""


@dataclass(frozen=True)
class Settings:
    """How a fault is made."""

    kinds: tuple[str, ...]
    seed: int
    lease: float = 5.0
    """Seconds."""
    rounds: int = 5
    """How often a fault strikes."""
    pause: float = 2.0
    """Seconds between two strikes."""
    work: float = 0.02
    """Seconds a message takes."""
    rate: float = 50.0
    """Messages a second, for each kind."""
    socket_timeout: float = 2.0
    """Seconds after which a silent connection counts as broken."""
    workers: int = 2
    """Of each kind."""
    producers: int = 1
    """Of each kind."""
    duration: float = 0.0
    """Seconds of the random one."""
    messages: int = 0
    """Of the random one, of all kinds together; 0: as many as come."""


@dataclass
class Stage:
    """See the module. ``transport`` is the scheme that Kombu and Celery use; ``server`` is None where it is somebody's."""

    settings: Settings
    folder: str
    screen: Screen
    transport: str
    url: str = field(repr=False)
    server: Server | None
    lanes: list[Lane] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    """What the fault itself has shown."""
    apart: set[int] = field(default_factory=set)
    """Messages that the fault judges by itself."""
    special: dict[str, str] = field(default_factory=dict)
    """Messages that are something else than work."""
    options: dict[str, object] = field(default_factory=dict)
    """Further transport options."""
    confirmed: bool = False
    """Producers have each message confirmed by a replica before they count it as sent."""
    delivery_limit: int = 20
    prefetch: int = 10
    lossy: bool = False
    """What was sent may be gone: there is no waiting for all of it."""
    overlong: bool = False
    """There was an outage that leases need not outlast, since this machine took long for it."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.settings.seed)  # noqa: S311 - it is to be repeatable
        self._stack = ExitStack()
        self._looked = self._told = 0.0
        self.proxy: Proxy | None = None
        self.told: list[str] = []
        """What was seen, where nothing is promised."""

    def connect(self) -> None:
        """Lay the network to the server, which runs now."""
        if self.server is not None:
            self.url = self.server.url
        if urlsplit(self.url).scheme in ("redis", "elkmq", "amqp"):
            self.proxy = self._stack.enter_context(Proxy(self.url))

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter what is to live as long as the stage."""
        return self._stack.enter_context(context)

    def go_directly(self, url: str) -> None:
        """Have processes that are started from now on use this url (``redis...``), with no proxy in between."""
        self.proxy = None
        self.url = url

    # -- before

    def url_of(self, kind: str, *, direct: bool = False) -> str:
        """Where a kind of worker finds the server: by way of the proxy, where there is one."""
        url = self.url if direct or self.proxy is None else self.proxy.url
        if self.transport != "elkmq":
            return with_scheme(url, self.transport)
        return url if KINDS[kind].client == "library" else broker_of(url)

    def prepare(self) -> None:
        """Give every kind a queue and a folder."""
        for kind in self.settings.kinds:
            part = Part(
                kind=kind, name="", folder=os.path.join(self.folder, kind), url=self.url_of(kind),
                queue=queue_name(kind), lease=self.settings.lease, work=self.settings.work, prefetch=self.prefetch,
                delivery_limit=self.delivery_limit, socket_timeout=self.settings.socket_timeout,
                special=self.special, options=self.options, confirmed=self.confirmed,
            )  # fmt: skip
            self.lanes.append(Lane(part))

    def begin(self, *, messages: int = 0) -> None:
        """Start everybody and wait until they are at work."""
        self.prepare()
        for lane in self.lanes:
            for _ in range(self.settings.workers):
                lane.start_worker()
            lane.start_producers(self.settings.producers, rate=self.settings.rate, messages=messages)
        self.until_ready()

    def until_ready(self) -> None:
        """Wait until everybody is at work."""

        def ready() -> bool:
            return all(p.name in lane.ledger.ready for lane in self.lanes for p in lane.all_processes())

        if not self.until(ready, START_TIMEOUT):
            late = [p for lane in self.lanes for p in lane.all_processes() if p.name not in lane.ledger.ready]
            said = "; ".join(f"{p.name}: {p.last_words()[:200]}" for p in late)
            self.promises.append(Promise(f"everybody is at work after {START_TIMEOUT:g} s ({said})", kept=False))

    # -- meanwhile

    def look(self) -> None:
        """Read the records on, see to the processes, tell how it goes."""
        for lane in self.lanes:
            lane.ledger.look()
            lane.supervise()
        if now() - self._told > TOLD_EVERY:
            self._told = now()
            counts = ", ".join(
                f"{lane.kind.name} {lane.ledger.done:,}/{lane.ledger.sent.total:,}" for lane in self.lanes
            )
            self.screen.say(f"  run of sent: {counts}", "dim")

    def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Look on until the condition holds; whether it came to hold within so many seconds."""
        deadline = now() + timeout
        while True:
            began = now()
            self.look()
            if condition():
                return True
            if now() > deadline:
                return False
            # Looking costs as much as a fifth of the time at most.
            time.sleep(max(LOOK, 4 * (now() - began)))

    def run(self, seconds: float) -> None:
        """Let everybody work."""
        self.until(lambda: False, seconds)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The network or the server is not there meanwhile; afterwards everybody has to go on."""
        since = now()
        yield
        over = now()
        self.spells.append(Spell(since, over + self.settings.socket_timeout + 1.0))
        if over - since > SAFE * self.settings.lease:
            self.screen.say(f"  that took {over - since:.1f} s: leases may have been lost over it", "dim")
            self.overlong = True
            for lane in self.lanes:
                for worker in lane.workers:
                    self.incident(lane, worker.name)
        self.recovered(over)

    def recovered(self, since: float) -> None:
        """Wait until every living worker has begun with a message after this moment; who does not is deaf."""
        firsts: dict[str, float] = {}

        def waiting() -> list[tuple[Lane, str]]:
            found = []
            for lane in self.lanes:
                if not any(producer.running for producer in lane.producers):
                    continue  # there may be nothing left for them to begin with
                for worker in lane.workers:
                    last = lane.ledger.last_begun.get(worker.name, 0.0)
                    if last > since:
                        firsts.setdefault(worker.name, last)
                    else:
                        found.append((lane, worker.name))
            return found

        self.until(lambda: not waiting(), 2 * self.settings.lease + SLACK + self.settings.socket_timeout)
        for lane, name in waiting():
            lane.deaf.append(f"{name} did nothing for {now() - since:.0f} s")
        for lane in self.lanes:
            of_lane = [firsts[worker.name] for worker in lane.workers if worker.name in firsts]
            if of_lane:
                lane.recoveries.append(max(of_lane) - since)

    def again(self, held: dict[str, list[int]], since: float) -> None:
        """Wait until what was taken from killed workers (by kind) has been begun again, and note how long that took."""
        wanted = {
            lane.kind.name: [n for n in held.get(lane.kind.name, ()) if n not in self.apart and not lane.kind.early]
            for lane in self.lanes
        }

        def back(lane: Lane) -> bool:
            return all(lane.ledger.begun_again.get(n, 0.0) > since for n in wanted[lane.kind.name])

        self.until(lambda: all(map(back, self.lanes)), 2 * self.settings.lease + SLACK)
        for lane in self.lanes:
            if wanted[lane.kind.name] and back(lane):
                lane.recoveries.append(max(lane.ledger.begun_again[n] for n in wanted[lane.kind.name]) - since)

    def tell(self, text: str) -> None:
        """Note what was seen, where nothing is promised."""
        self.told.append(text)
        self.screen.say(text)

    def promise(self, text: str, kept: bool) -> None:
        """Note what the fault itself has shown."""
        self.promises.append(Promise(text, kept))

    # -- at the end

    def finish(self) -> None:
        """Stop the producers, let the workers finish, end everybody."""
        producers = [producer for lane in self.lanes for producer in lane.producers]
        for producer in producers:
            producer.tell_to_end()
        self.until(lambda: not any(producer.running for producer in producers), 30.0)
        self.drain()
        if not self.lossy:
            # What came back to be run again may be there still, though every message was run.
            self.until(self.empty, 2 * self.settings.lease + SLACK)
        for lane in self.lanes:
            for process in lane.all_processes():
                process.tell_to_end()
        for lane in self.lanes:
            for process in lane.all_processes():
                if not process.end(20.0):
                    lane.ended.append(f"{process.name} did not end when it was asked to: {process.last_words()[:200]}")
            lane.ledger.look()

    def drain(self) -> None:
        """Wait until all that was sent is done, or nothing has happened for longer than any lease."""
        patience = 2 * self.settings.lease + SLACK
        seen, since = -1, now()

        def over() -> bool:
            nonlocal seen, since
            happened = sum(lane.ledger.begun.total + lane.ledger.sent.total for lane in self.lanes)
            if happened != seen:
                seen, since = happened, now()
            if all(lane.ledger.missing <= len(self.apart) for lane in self.lanes) and not self.apart:
                return True
            early_only = all(lane.ledger.missing == 0 or lane.kind.early for lane in self.lanes) and not self.apart
            return now() - since > (self.settings.lease + 2.0 if early_only or self.lossy else patience)

        self.until(over, 3600.0)

    def tallies(self) -> list[Tally]:
        """What became of all messages."""
        return [
            tally(
                lane.kind.name, lane.ledger, lane.incidents, self.spells, early=lane.kind.early,
                apart=frozenset(self.apart), recovered=max(lane.recoveries, default=None),
            )
            for lane in self.lanes
        ]  # fmt: skip

    def empty(self) -> bool:
        """Whether nothing is left in any queue, by its own account."""
        return not any(any(counts) for counts, _ in self.left().values())

    def left(self) -> dict[str, tuple[tuple[int, int, int], int]]:
        """What is in each queue by its own account: (ready, in flight, delayed) and completed."""
        found = {}
        for lane in self.lanes:
            if self.transport != "elkmq":
                continue
            url = with_scheme(self.url, "redis")
            try:
                with EventQueue(lane.queue, url, options=Options(), retry_for=5.0) as queue:
                    stats = queue.stats()
                    found[lane.kind.name] = ((stats.ready, stats.in_flight, stats.delayed), stats.completed)
            except EventQueueError as error:
                self.screen.say(f"the queue {lane.queue} could not be looked at: {error}")
        return found

    def incident(self, lane: Lane, worker: str, pid: int | None = None) -> None:
        """What this worker, or this process of it, has in hand is taken away from it now."""
        lane.incidents.append(Incident(worker, now(), pid))

    def was_stopped(self, lane: Lane, worker: str, since: float) -> None:
        """This worker was stopped from then until now, for longer than its lease: what it had in hand was taken away."""
        lane.incidents.append(Incident(worker, since, until=now()))

    def close(self) -> None:
        """End everybody, at once; of somebody's server, delete the queues."""
        for lane in self.lanes:
            for process in [*lane.all_processes(), *lane.gone]:
                if process.running:
                    process.kill()
        if self.server is None:
            for said in delete_queues((lane, self.url_of(lane.kind.name, direct=True)) for lane in self.lanes):
                self.screen.say(said, "bold red")
        self._stack.close()
