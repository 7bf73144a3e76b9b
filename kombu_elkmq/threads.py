"""Celery's pool of threads, which is handed all that was prefetched: what waits there is looked at again before it starts.

Elsewhere what was not started waits in the session's buffer, which a lost lease empties. A pool of threads has a queue of its own,
and what comes from there after the process was stopped, or could not send heartbeats, for long may be others' by then.
"""

from __future__ import annotations

import logging
from typing import Any

from elkmq._core import clock
from elkmq.errors import EventQueueError, LeaseLost
from kombu_elkmq.delivery import Held

log = logging.getLogger("kombu_elkmq")

_connected = False


def guard_threads() -> None:
    """Listen to Celery's signals, where Celery is there. Called again, it does nothing."""
    global _connected  # noqa: PLW0603 - once a process
    if _connected:
        return
    _connected = True
    from celery import signals

    signals.task_received.connect(_received, weak=False)


def _received(sender: Any = None, request: Any = None, **_: Any) -> None:
    from celery.concurrency.thread import TaskPool

    if not isinstance(getattr(sender, "pool", None), TaskPool):
        return
    message = request.message
    held = getattr(message.channel, "unacked", {}).get(message.delivery_tag)
    if not isinstance(held, Held):
        return
    accepted = request.on_accepted

    def on_accepted(pid: int, at: float) -> None:
        # On the thread that runs it. What is raised here keeps the pool from running the task.
        _sure(request, held)
        accepted(pid, at)

    request.on_accepted = on_accepted


def _sure(request: Any, held: Held) -> None:
    """See that a task is still its worker's to start. The server is asked only where no heartbeat says so.

    :raises LeaseLost: it is not, or nobody could say
    """
    reader = held.reader
    if not reader.lost and clock.now() - reader.confirmed < reader.lease * 2 / 3:
        return
    from celery.worker.state import task_ready

    try:
        with request.app.producer_pool.acquire(block=True) as producer:
            ours = not reader.lost and producer.channel.session.run(
                reader.verbs.start(reader.session.name, held.delivered)
            )
    except EventQueueError as error:
        log.warning("whether task %s is still to be done here could not be asked, it goes back: %s", request.id, error)
        task_ready(request)
        request.reject(requeue=True)
        raise LeaseLost(f"task {request.id} was not started; it goes back to its queue.") from error
    if not ours:
        log.warning("task %s was not started: it is not this worker's any more", request.id)
        task_ready(request)
        raise LeaseLost(f"task {request.id} was not started; another worker has it or gets it.")
