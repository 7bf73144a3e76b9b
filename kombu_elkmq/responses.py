"""The result of a task that a plain event called, sent as the response.

The event's sender awaits it with `EventQueue.await_response`, or with the original's in Rust. It is sent where the task
ran, in a pool process too, as soon as Celery says how it ended; a task that is tried again is not answered yet.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

from elkmq.event import ServiceEvent
from kombu_elkmq.events import ASKED, IS_EVENT

log = logging.getLogger("kombu_elkmq")

_connected = False


def answer_events() -> None:
    """Listen to Celery's signals, where Celery is there. Called again, it does nothing."""
    global _connected  # noqa: PLW0603 - once a process
    if _connected:
        return
    _connected = True
    from celery import signals

    signals.task_success.connect(_succeeded, weak=False)
    signals.task_failure.connect(_failed, weak=False)


def _succeeded(sender: Any = None, result: Any = None, **_: Any) -> None:
    _respond(sender, sender.name, result)


def _failed(sender: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    from elkmq._core.serving import FAILURE, failure

    error = exception if exception is not None else RuntimeError("the task failed")
    _respond(sender, FAILURE, None, failure(error))


def _respond(task: Any, action: str, result: Any, payload: str | None = None) -> None:
    request = getattr(task, "request", None)
    timeout = _header(request, IS_EVENT)
    if not timeout:
        return
    try:
        if payload is None:
            payload = json.dumps(result, ensure_ascii=False)
        event = ServiceEvent(int(timeout), task.name, uuid=UUID(request.id))  # type: ignore[union-attr]
        response = ServiceEvent.create_response(event, action, payload)
        queue = (request.delivery_info or {}).get("routing_key")  # type: ignore[union-attr]
        with task.app.producer_pool.acquire(block=True) as producer:
            session = producer.channel.session
            asked = _header(request, ASKED)
            call = session.verbs(queue).respond(request.id, int(timeout), response.to_json(), asked)  # type: ignore[union-attr]
            session.run(call)
    except Exception:
        log.exception("the result of task %s could not be sent as a response; its requester waits in vain", task.name)


def _header(request: Any, name: str) -> Any:
    found = getattr(request, name, None)
    if found is None:
        found = (getattr(request, "headers", None) or {}).get(name)
    return found
