"""The result of a task that a plain event called, sent as the response.

The event's sender awaits it with `kombu_elkmq.tasks.call`, `EventQueue.await_response`, or the original's in Rust. It is sent
where the task ran, in a pool process too, as soon as Celery says how it ended; a task that is tried again is not answered
yet. Whoever called a task that the worker does not know, or in a way that cannot be read, is told so at once. A task with ``acks_late`` is answered and acknowledged in one step, so neither can be without the other.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from elkmq.event import ServiceEvent
from kombu_elkmq.events import ASKED, DELIVERY, IS_EVENT

if TYPE_CHECKING:
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")


def succeeded(sender: Any = None, result: Any = None, **_: Any) -> None:
    """Send the result of a task that an event called as the response (``task_success``)."""
    if not header(getattr(sender, "request", None), IS_EVENT):
        return
    try:
        payload = json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        failed(sender, TypeError(f"the task is done, and its result cannot be sent as JSON: {error}"), done=True)
        return
    _respond(sender, sender.name, payload, late=bool(sender.acks_late))


def failed(sender: Any = None, exception: BaseException | None = None, *, done: bool = False, **_: Any) -> None:
    """Tell the event's sender that the task failed for good (``task_failure``)."""
    from elkmq._core.serving import FAILURE, failure

    if not header(getattr(sender, "request", None), IS_EVENT):
        return
    error = exception if exception is not None else RuntimeError("the task failed")
    late = sender.acks_late and (done or sender.acks_on_failure_or_timeout is not False)
    _respond(sender, FAILURE, failure(error), late=bool(late))


def _respond(task: Any, action: str, payload: str, *, late: bool) -> None:
    request = task.request
    timeout = int(header(request, IS_EVENT))
    try:
        event = ServiceEvent(timeout, task.name, uuid=UUID(request.id))
        response = ServiceEvent.create_response(event, action, payload).to_json()
        delivery = header(request, DELIVERY)
        with task.app.producer_pool.acquire(block=True) as producer:
            session = producer.channel.session
            # A retry is a message of its own, which the requester does not wait for.
            if late and delivery and not request.retries:
                queue, consumer, lane, id_, keep = delivery
                call = session.verbs(queue).complete(
                    consumer, (lane.encode(), id_.encode()), keep=bool(keep), response=response,
                    request_uuid=request.id, timeout=timeout,
                )  # fmt: skip
                outcome = session.run(call).outcome
                if outcome == "mine":
                    return
                if outcome == "lost":
                    log.error(
                        "task %s was done here after its lease was lost; its requester is answered by whoever has it now",
                        request.id,
                    )
                    return
            queue = delivery[0] if delivery else (request.delivery_info or {}).get("routing_key")
            session.run(session.verbs(queue).respond(request.id, timeout, response, header(request, ASKED)))
    except Exception:
        log.exception("the result of task %s could not be sent as a response; its requester waits in vain", task.name)


def unknown(message: Any = None, **_: Any) -> None:
    """Tell the event's sender that the worker knows no such task (``task_unknown``)."""
    timeout = message.headers.get(IS_EVENT)
    if timeout:
        queue, event = message.delivery_info["routing_key"], (int(timeout), message.headers["id"])
        error = LookupError(f"the worker of {queue!r} knows no task of this name")
        refused(message.channel.session, queue, event, error, message.headers.get(ASKED))


def refused(session: Session, queue: str, event: tuple[int, str], error: Exception, asked: int | None) -> None:
    """Answer an event, known by its timeout and uuid, that no task runs for, and go on.

    :param asked: the server's milliseconds at which it was accepted
    """
    from elkmq._core.serving import FAILURE, failure

    try:
        timeout, uuid = event
        response = ServiceEvent(timeout, FAILURE, failure(error), uuid=UUID(uuid))
        session.post(session.verbs(queue).respond(str(response.uuid), timeout, response.to_json(), asked), _sent)
    except Exception:
        log.exception("a caller of %s could not be told that its call was refused; it waits in vain", queue)


def _sent(outcome: Any) -> None:
    if isinstance(outcome, Exception):
        log.error("a caller could not be told that its call was refused; it waits in vain: %s", outcome)


def header(request: Any, name: str) -> Any:
    """A header of the message that a task was called by."""
    found = getattr(request, name, None)
    if found is None:
        found = (getattr(request, "headers", None) or {}).get(name)
    return found
