"""The first part: events among several processes, one of which is killed in the middle of its work."""

from __future__ import annotations

import time

from elkmq import EventQueue
from elkmq.cli.demo.crew import Crew, DemoFailed
from elkmq.cli.demo.judge import Outcome, judge_events
from elkmq.cli.demo.plan import EVENTS, LEASE
from elkmq.cli.demo.records import DONE, STARTED, Follower, ids
from elkmq.cli.demo.stage import Stage, waiting

PRODUCERS, CONSUMERS = 2, 3

LIMIT = 35.0
"""Seconds; what is not handled by then counts as lost."""

LOOK = 0.5
"""Seconds between two looks at the queue itself."""


def events(stage: Stage) -> Outcome:
    """Give this part."""
    screen, expected = stage.screen, PRODUCERS * EVENTS
    with stage.part("events") as (queue, crew, _):
        producers, consumers = crew.start("producer", PRODUCERS), crew.start("consumer", CONSUMERS)
        crew.until_ready()
        screen.say(
            f"events: {PRODUCERS} producers and {CONSUMERS} consumers, {expected:,} events, a lease of {LEASE:g} s"
        )
        for producer in producers:
            producer.begin()
        _until_handled(stage, crew, queue, expected // 3)
        victim = consumers[0]
        middle = _kill(crew, victim.name, crew.follower)
        screen.say(f"killed (SIGKILL): {victim.name}, process {victim.pid}, in the middle of event {middle[:8]}", "red")
        killed_at = screen.seconds
        held = sum(consumer.in_flight for consumer in queue.stats().consumers if consumer.pid == victim.pid)
        screen.say(f"it held {held} events; they go to the others when its lease is over")
        if _until_begun_again(stage, crew, middle):
            screen.say(
                f"event {middle[:8]} was begun again, {screen.seconds - killed_at:.1f} s after the kill", "green"
            )
        _until_handled(stage, crew, queue, expected)
        crew.end()
        left = waiting(queue)
        screen.say(f"{len(set(ids(crew.follower.records, DONE))):,} events are done")
        return judge_events(crew.follower.records, expected=expected, killed=[victim.name], left=left)


def _until_handled(stage: Stage, crew: Crew, queue: EventQueue, count: int) -> None:
    """Wait for so many; no longer where nothing is left that could still be handled."""
    next_look = time.monotonic() + LOOK

    def over() -> bool:
        nonlocal next_look
        if len(set(ids(crew.follower.records, DONE))) >= count:
            return True
        if time.monotonic() < next_look or any(actor.role == "producer" and actor.running for actor in crew.actors):
            return False
        next_look = time.monotonic() + LOOK
        return waiting(queue) == 0

    for _ in crew.until(over, LIMIT - stage.screen.seconds):
        stage.screen.watch(crew.actors, crew.follower.records)


def _until_begun_again(stage: Stage, crew: Crew, id_: str) -> bool:
    def begun_again() -> bool:
        return ids(crew.follower.records, STARTED).count(id_) > 1

    for _ in crew.until(begun_again, LIMIT - stage.screen.seconds):
        stage.screen.watch(crew.actors, crew.follower.records)
    return begun_again()


def _kill(crew: Crew, name: str, follower: Follower) -> str:
    """Kill a consumer while its handler runs; returns the event it was working on."""
    actor = next(actor for actor in crew.actors if actor.name == name)

    def in_the_middle() -> bool:
        last = follower.last(name)
        return last is not None and last.what == STARTED

    for _ in crew.until(lambda: actor.kill_in_the_middle(in_the_middle), 10.0):
        pass
    last = follower.last(name)
    if not actor.killed or last is None:
        raise DemoFailed(f"{name} was never seen in the middle of an event: are there any left?")
    return last.id
