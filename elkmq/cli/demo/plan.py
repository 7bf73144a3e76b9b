"""What the demo and its processes agree on."""

from __future__ import annotations

LEASE = 3.0
"""Seconds; short, so that the demo need not wait long for what a killed process held."""

EVENTS = 500
"""Events of one producer."""

TASKS = 400
"""Celery tasks."""

WORK = 0.01
"""Seconds that a consumer works on an event, or a worker on a task."""

SLOW = 2.0
"""Seconds that the slow handler takes."""

RETRY_FOR = 5.0
"""Seconds for which a process tries to mend its connection: it ends soon when the demo and its server were killed."""


def greeting(name: str | None) -> str:
    """The response to a request."""
    return f"Hello, {name}!"
