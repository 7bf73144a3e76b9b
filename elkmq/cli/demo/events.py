"""The first part: events among several processes, one of which is killed in the middle of its work."""

from __future__ import annotations

from elkmq.cli.demo.judge import Outcome, judge_events
from elkmq.cli.demo.plan import EVENTS, LEASE
from elkmq.cli.demo.stage import Stage, waiting
from elkmq.cli.demo.watching import handled, kill_in_the_middle, until_begun_again, until_handled

PRODUCERS, CONSUMERS = 2, 3

LIMIT = 35.0
"""Seconds; what is not handled by then counts as lost."""


def events(stage: Stage) -> Outcome:
    """Give this part."""
    screen, expected = stage.screen, PRODUCERS * EVENTS
    deadline = screen.seconds + LIMIT
    with stage.part("events") as (queue, crew, _):
        producers, consumers = crew.start("producer", PRODUCERS), crew.start("consumer", CONSUMERS)
        crew.until_ready()
        screen.say(
            f"events: {PRODUCERS} producers and {CONSUMERS} consumers, {expected:,} events, a lease of {LEASE:g} s"
        )
        for producer in producers:
            producer.begin()
        until_handled(stage, crew, queue, expected // 3, deadline)
        victim = consumers[0]
        middle = kill_in_the_middle(crew, victim.name)
        screen.say(f"killed (SIGKILL): {victim.name}, process {victim.pid}, in the middle of event {middle[:8]}", "red")
        killed_at = screen.seconds
        held = sum(consumer.in_flight for consumer in queue.stats().consumers if consumer.pid == victim.pid)
        screen.say(f"it held {held} events; they go to the others when its lease is over")
        if until_begun_again(stage, crew, middle, deadline):
            screen.say(
                f"event {middle[:8]} was begun again, {screen.seconds - killed_at:.1f} s after the kill", "green"
            )
        until_handled(stage, crew, queue, expected, deadline)
        crew.end()
        left = waiting(queue)
        screen.say(f"{handled(crew):,} events are done")
        return judge_events(crew.follower.records, expected=expected, killed=[victim.name], left=left)
