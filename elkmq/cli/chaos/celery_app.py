"""The Celery app of the suite's workers and producers, told its part by the environment."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

import kombu_elkmq
from elkmq.cli.chaos.plan import KINDS, events_of, mine
from elkmq.cli.chaos.records import ENDED, READY, RESTARTED, Recorder
from elkmq.cli.chaos.work import begin, number_of
from elkmq.keys import FORMAT

kombu_elkmq.register()

TASK = "elkmq.chaos.run"

part = mine()
record = Recorder(part.folder, part.name)
app = Celery("elkmq.cli.chaos.celery_app", broker=part.url, set_as_current=True)
app.conf.update(
    broker_transport_options=part.transport_options,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_default_queue=part.queue,
    event_exchange=events_of(part.queue),
    task_ignore_result=True,
    task_acks_late=not KINDS[part.kind].early,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=max(1, part.prefetch // KINDS[part.kind].slots),
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    task_publish_retry_policy={"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
)


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def run(body: str) -> None:
    """Handle a message."""
    if seconds := begin(part, record, body):
        time.sleep(seconds)
    record.write(ENDED, number_of(body))


_times = 0


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: Any) -> None:
    """Note that the worker is at work; Celery says so again whenever it made its consumer anew."""
    global _times  # noqa: PLW0603 - a signal has no other place
    _times += 1
    record.write(READY if _times == 1 else RESTARTED, FORMAT)
