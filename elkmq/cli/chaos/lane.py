"""One kind of worker at work: its queue, its processes, its records, and what was done to them."""

from __future__ import annotations

import os
import random
import time
import uuid
from dataclasses import dataclass, field, replace

from elkmq.cli.chaos.crew import Process
from elkmq.cli.chaos.judge import Incident
from elkmq.cli.chaos.ledger import Ledger
from elkmq.cli.chaos.plan import KINDS, Kind, Part
from elkmq.cli.chaos.records import now

STOPPED_AFTER = 20.0
"""Seconds within which a worker that is asked to end has to."""

ATTEMPTS = 100
"""How often a process is looked at to catch it in the middle of something."""


@dataclass
class Lane:
    """See the module. ``part`` is what its processes are told, but for their names."""

    part: Part
    workers: list[Process] = field(default_factory=list)
    producers: list[Process] = field(default_factory=list)
    gone: list[Process] = field(default_factory=list)
    """Workers that were killed, or ended."""
    incidents: list[Incident] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    """Seconds until work went on, after each fault."""
    deaf: list[str] = field(default_factory=list)
    """Workers that lived and did nothing any more, and what they were to recover from."""
    ended: list[str] = field(default_factory=list)
    """Workers that ended by themselves, and their last words."""

    silenced: list[str] = field(default_factory=list)
    """Producers that ended by themselves before their time, and their last words."""

    def __post_init__(self) -> None:
        os.makedirs(self.part.folder, exist_ok=True)
        self.ledger = Ledger(self.part.folder)
        self._numbers = 0

    @property
    def kind(self) -> Kind:
        """What does the work."""
        return KINDS[self.part.kind]

    @property
    def queue(self) -> str:
        """Its queue."""
        return self.part.queue

    def start_worker(self, environment: dict[str, str] | None = None) -> Process:
        """Start one more."""
        self._numbers += 1
        part = replace(self.part, name=f"{self.kind.name}-{self._numbers}")
        process = Process(part, "worker", environment)
        self.workers.append(process)
        return process

    def start_producers(
        self,
        count: int,
        *,
        rate: float = 0.0,
        messages: int = 0,
        batch: int = 1,
        first: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start producers that share messages and rate among them; ``messages`` 0: until they are told to end."""
        for number in range(count):
            part = replace(
                self.part, name=f"{self.kind.name}-producer-{len(self.producers) + 1}", rate=rate / count, first=first + number, step=count,
                count=messages // count + (number < messages % count), batch=batch,
            )  # fmt: skip
            self.producers.append(Process(part, "producer", environment))

    def supervise(self) -> None:
        """Note who ended by itself, and start another in its place."""
        for worker in list(self.workers):
            if worker.running:
                continue
            # What it had in hand when it ended: its last line is the last thing that it did.
            self.incidents.append(Incident(worker.name, now()))
            self.ended.append(f"{worker.name} ended with {worker.status}: {worker.last_words()[:200]}")
            self._replace(worker)
        for producer in self.producers:
            if producer.status and not producer.expected_end:
                producer.expected_end = True
                self.silenced.append(f"{producer.name} ended with {producer.status}: {producer.last_words()[:200]}")

    def kill(self, rng: random.Random, worker: Process | None = None, *, replaced: bool = True) -> list[int]:
        """SIGKILL a worker (None: any), if possible in the middle of something; returns what it had in hand."""
        worker = worker or rng.choice(self.workers)
        for _ in range(ATTEMPTS):
            worker.stop()
            self.ledger.look()
            if self.ledger.held_by(worker.name):
                break
            worker.go_on()
            time.sleep(0.005)
        worker.kill()
        self.ledger.look()
        self.incidents.append(Incident(worker.name, now()))
        held = self.ledger.held_by(worker.name)
        self._replace(worker, replaced=replaced)
        return held

    def restart(self, worker: Process) -> None:
        """Have a worker finish what it has in hand, and start another in its place."""
        if not worker.end(STOPPED_AFTER):
            self.incidents.append(Incident(worker.name, now()))
            self.ended.append(f"{worker.name} did not end when it was asked to: {worker.last_words()[:200]}")
        self._replace(worker)

    def _replace(self, worker: Process, *, replaced: bool = True) -> None:
        self.workers.remove(worker)
        self.gone.append(worker)
        if replaced:
            self.start_worker()

    def made_anew(self) -> int:
        """How often a consumer was made anew in the same process, so far."""
        lost = sum(worker.log_has("Connection to broker lost") for worker in (*self.workers, *self.gone))
        return sum(self.ledger.restarted.values()) + lost

    def all_processes(self) -> list[Process]:
        """Everybody who lives."""
        return [*self.producers, *self.workers]


def queue_name(kind: str) -> str:
    """A queue that nobody else has."""
    return f"elkmq-chaos-{kind}-{uuid.uuid4().hex[:8]}"
