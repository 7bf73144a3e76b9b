"""What parts of the demo wait for, and the kill in the middle of something."""

from __future__ import annotations

import time

from elkmq import EventQueue
from elkmq.cli.demo.crew import Crew, DemoFailed
from elkmq.cli.demo.records import DONE, STARTED, ids
from elkmq.cli.demo.stage import Stage, waiting

LOOK = 0.5
"""Seconds between two looks at the queue itself."""

SENDERS = ("producer", "caller")


def handled(crew: Crew) -> int:
    """How many were, up to now."""
    crew.follower.look()
    return len(set(ids(crew.follower.records, DONE)))


def until_handled(stage: Stage, crew: Crew, queue: EventQueue, count: int, deadline: float) -> None:
    """Wait for so many; no longer where nothing is left that could still be handled, nor than the screen's ``deadline``."""
    next_look = time.monotonic() + LOOK

    def over() -> bool:
        nonlocal next_look
        if handled(crew) >= count:
            return True
        if time.monotonic() < next_look or any(actor.role in SENDERS and actor.running for actor in crew.actors):
            return False
        next_look = time.monotonic() + LOOK
        return waiting(queue) == 0

    for _ in crew.until(over, deadline - stage.screen.seconds):
        stage.screen.watch(crew.actors, crew.follower.records)


def until_begun_again(stage: Stage, crew: Crew, id_: str, deadline: float) -> bool:
    """Wait until somebody begins once more with what a killed process was working on."""

    def begun_again() -> bool:
        return ids(crew.follower.records, STARTED).count(id_) > 1

    for _ in crew.until(begun_again, deadline - stage.screen.seconds):
        stage.screen.watch(crew.actors, crew.follower.records)
    return begun_again()


def kill_in_the_middle(crew: Crew, name: str) -> str:
    """Kill a process while its handler runs; returns what it was working on."""
    actor = next(actor for actor in crew.actors if actor.name == name)

    def in_the_middle() -> bool:
        last = crew.follower.last(name)
        return last is not None and last.what == STARTED

    for _ in crew.until(lambda: actor.kill_in_the_middle(in_the_middle), 10.0):
        pass
    last = crew.follower.last(name)
    if not actor.killed or last is None:
        raise DemoFailed(f"{name} was never seen in the middle of an event: are there any left?")
    return last.id
