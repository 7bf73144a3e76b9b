"""Celery's signals that the transport listens to, in one place, once a process."""

from __future__ import annotations

from functools import cache

from kombu_elkmq import responses, threads


@cache
def listen() -> None:
    """Listen, where Celery is there: what a task that an event called comes to, and what waits in a pool."""
    from celery import signals

    signals.task_success.connect(responses.succeeded, weak=False)
    signals.task_failure.connect(responses.failed, weak=False)
    signals.task_unknown.connect(responses.unknown, weak=False)
    signals.task_received.connect(threads.received, weak=False)
