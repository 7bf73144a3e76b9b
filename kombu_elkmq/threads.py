"""Celery's pools of threads, which are handed tasks that wait for a place there: these are looked at again before they start.

Elsewhere what was not started waits in the session's buffer, which a lost lease empties. A pool of threads has a queue of its own
for all that was prefetched, one of green threads for one task; what comes from there after the process was stopped, or could not
send heartbeats, for long may be others' by then.
"""

from __future__ import annotations

import logging
from typing import Any

from elkmq._core import clock
from elkmq.errors import EventQueueError, LeaseLost
from kombu_elkmq.delivery import Held

log = logging.getLogger("kombu_elkmq")

POOLS = ("celery.concurrency.thread", "celery.concurrency.gevent", "celery.concurrency.eventlet")
"""Where tasks wait for a place: of green threads one at a time, since a full pool of them holds the consumer up."""


def received(sender: Any = None, request: Any = None, **_: Any) -> None:
    """A task is on its way to a pool (``task_received``): before it starts there, it is looked at again."""
    if type(getattr(sender, "pool", None)).__module__ not in POOLS:
        return
    message = request.message
    held = getattr(message.channel, "unacked", {}).get(message.delivery_tag)
    if not isinstance(held, Held):
        return
    if hasattr(request, "_on_ack"):
        # Celery would have its main thread do it, and this one go on: a SIGKILL, or a task that holds Python's global lock,
        # would come between. The channel may be used from any thread.
        request._on_ack = message.ack_log_error
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
