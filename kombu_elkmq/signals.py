"""Celery's signals that the transport listens to, in one place, once a process."""

from __future__ import annotations

import sys
from functools import cache

from kombu_elkmq import responses, threads


def listen() -> None:
    """Listen, where Celery is there: what a task that an event called comes to, and what waits in a pool."""
    if "celery" in sys.modules:
        _listen()
        if any(name in sys.modules for name in threads.POOLS):
            # Only there, since every task would take longer: a worker knows its pool before it connects.
            _listen_to_threads()


@cache
def _listen() -> None:
    from celery import signals

    signals.task_success.connect(responses.succeeded, weak=False)
    signals.task_failure.connect(responses.failed, weak=False)
    signals.task_unknown.connect(responses.unknown, weak=False)


@cache
def _listen_to_threads() -> None:
    from celery import signals

    signals.task_received.connect(threads.received, weak=False)
