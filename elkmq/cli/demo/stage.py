"""What every part of the demo is given."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from elkmq import EventQueue, EventQueueError, Options
from elkmq.cli.demo.crew import Crew
from elkmq.cli.demo.plan import LEASE
from elkmq.cli.demo.screen import Screen


@dataclass(frozen=True)
class Stage:
    """Where the demo is given."""

    url: str
    folder: str
    """For the records, a folder in it for each part."""
    screen: Screen

    @contextmanager
    def part(self, name: str) -> Iterator[tuple[EventQueue, Crew, str]]:
        """A queue of its own, the processes around it and the folder of their records; all but that gone at the end."""
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        queue_name = f"elkmq-demo-{name}-{uuid.uuid4().hex[:8]}"
        with EventQueue(queue_name, self.url, options=Options(lease=LEASE)) as queue:
            try:
                with Crew(folder, queue_name, self.url) as crew:
                    yield queue, crew, folder
            finally:
                self.screen.clear()
                try:
                    queue.delete()
                except EventQueueError as error:
                    self.screen.say(f"the queue {queue_name} is left behind: {error}")


def waiting(queue: EventQueue) -> int:
    """What is in a queue, by its own account."""
    now = queue.stats()
    return now.ready + now.in_flight + now.delayed + now.dead + now.responses
