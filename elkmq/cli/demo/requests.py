"""The second part: requests, each with its response, and one that times out."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from elkmq import EventQueue, ServiceEvent, TimeoutExpired
from elkmq.cli.demo.judge import Outcome, judge_requests
from elkmq.cli.demo.plan import SLOW, greeting
from elkmq.cli.demo.records import ANSWERED, LATE, SENT, TIMED_OUT, Recorder, ids
from elkmq.cli.demo.stage import Stage, waiting

NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan")
REQUESTS = 50
PATIENCE = 1.0
"""Seconds that the requester of the slow one waits."""


def requests(stage: Stage) -> Outcome:
    """Give this part."""
    screen = stage.screen
    with stage.part("requests") as (queue, crew, folder):
        crew.start("service")
        crew.until_ready()
        record = Recorder(folder, "requester")
        screen.say(f"requests: a service in a process of its own, {REQUESTS} asked at once, and one that is too slow")
        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(lambda n: _ask(queue, record, NAMES[n % len(NAMES)]), range(REQUESTS)))
        screen.say(f"{NAMES[0]!r} was answered with {answers[0]!r}")
        slow = ServiceEvent(60, "slow", "Konrad")
        began = time.monotonic()
        record.write(SENT, slow.uuid)
        try:
            queue.await_response(slow, timeout=PATIENCE)
            record.write(ANSWERED, slow.uuid)
        except TimeoutExpired as error:
            record.write(TIMED_OUT, slow.uuid)
            screen.say(f"TimeoutExpired: {error}", "yellow")
        waited = time.monotonic() - began
        for _ in crew.until(lambda: bool(ids(crew.follower.records, LATE)), SLOW + 3):
            screen.watch(crew.actors, crew.follower.records)
        crew.end()
        left = waiting(queue)
        return judge_requests(crew.follower.records, slow=str(slow.uuid), waited=waited, patience=PATIENCE, left=left)


def _ask(queue: EventQueue, record: Recorder, name: str) -> str | None:
    event = ServiceEvent(10, "greet", name)
    record.write(SENT, event.uuid)
    try:
        answer = queue.await_response(event).event
    except TimeoutExpired:
        record.write(TIMED_OUT, event.uuid)
        return None
    if answer.uuid == event.uuid and answer.payload == greeting(name):
        record.write(ANSWERED, event.uuid)
    return answer.payload
