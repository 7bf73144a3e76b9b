"""For Celery apps: a task called like a function, with a deadline; and tasks that are checked before they start.

    from kombu_elkmq.tasks import CheckedTask, call

    @app.task(base=CheckedTask)
    def price(article): ...

    call(price.s("A17"), timeout=2.5)      # its result, or TimeoutExpired, or RequestFailed

Neither needs a result backend. What happens when is in ``docs/celery.md``.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from celery.canvas import Signature
from celery.exceptions import Ignore, Reject
from celery.worker.request import Request

from elkmq import EventQueue, Options, ServiceEvent
from elkmq._core.serving import FAILURE, failure_text
from elkmq.errors import EventQueueError, InvalidOption, JSONDumpError, RequestFailed
from elkmq.event import MAX_TIMEOUT
from elkmq.options import Seconds, seconds
from kombu_elkmq import urls
from kombu_elkmq.delivery import Held
from kombu_elkmq.events import DELIVERY
from kombu_elkmq.responses import header
from kombu_elkmq.transport import SecureTransport, Transport

__all__ = ["CheckedTask", "call"]

log = logging.getLogger("kombu_elkmq")

_UNKEPT = frozenset({
    "countdown", "eta", "expires", "link", "link_error", "chord", "headers", "time_limit", "soft_time_limit", "reply_to", "shadow",
})  # fmt: skip
"""Options of a signature that say more than where a task goes."""

_queues: dict[tuple[int, str], tuple[Any, EventQueue]] = {}
"""(App, queue) -> the app and its requester, over which all calls of a process are awaited. Usable after a fork as well."""


def call(signature: Signature, timeout: Seconds = 10.0, **options: Any) -> Any:
    """Call a task and return its result.

    The call is handed to no worker once ``timeout`` seconds are over, and what is left of them when a worker gets it is the
    task's hard time limit. With ``acks_late`` the result is sent and the call acknowledged in one step. Arguments and result
    are JSON.

    :param signature: one task with its arguments, as ``task.s(...)``; it is routed as `Task.apply_async` would
    :param options: ``queue``, ``priority`` and what else routes a task
    :raises TimeoutExpired: no result came in time; the task is not started any more, but may be running until its time limit
    :raises RequestFailed: the task raised; the text says what
    :raises JSONDumpError: the arguments are not JSON; nothing was sent
    :raises InvalidOption: the signature has an option that would not be kept, such as ``countdown`` or ``link``; nothing was sent
    """
    span = seconds("timeout", timeout, least=0.001, most=MAX_TIMEOUT)
    name, app = signature.task, signature.app
    if isinstance(signature, Signature) and type(signature) is not Signature:
        raise TypeError(f"{name} is several tasks; nothing was sent; give the signature of one.")
    given = {**signature.options, **options}
    if unkept := sorted(_UNKEPT & {option for option, value in given.items() if value}):
        raise InvalidOption(
            f"task {name} is called with {unkept[0]!r}, which a call with a deadline does not keep; nothing was sent; leave it out, or "
            "use apply_async."
        )
    route = app.amqp.router.route(given, name, signature.args, signature.kwargs)
    queue = route.get("queue")
    event = ServiceEvent(max(1, math.ceil(span)), name, _payload(signature.args, signature.kwargs))
    requester = _requester(app, getattr(queue, "name", queue) or route["routing_key"])
    response = requester.await_response(event, timeout=span, priority=int(route.get("priority") or 0)).event
    if response.action == FAILURE:
        raise RequestFailed(f"task {name} failed: {failure_text(response.payload)}.")
    return json.loads(response.payload or "null")


def _payload(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    try:
        return json.dumps({"args": list(args), "kwargs": dict(kwargs)}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise JSONDumpError(f"the arguments of the call are not JSON ({error}); nothing was sent.") from error


def _requester(app: Any, queue: str) -> EventQueue:
    found = _queues.get((id(app), queue))
    if found is None:
        with app.connection_for_write() as connection:
            transport = connection.transport
            if not isinstance(transport, Transport):
                raise InvalidOption(
                    f"the broker is {connection.transport_cls}, not elkmq://; nothing was sent; call it with apply_async."
                )
            url, typed, options = urls.address_of(connection, tls=isinstance(transport, SecureTransport))
        keys = Options(global_keyprefix=options.global_keyprefix)
        found = _queues.setdefault((id(app), queue), (app, EventQueue(queue, url, options=keys, **typed)))
    return found[1]


class CheckedRequest(Request):  # type: ignore[misc]
    """Celery's request, which tells the process that runs the task which delivery it is."""

    def __init__(self, message: Any, **given: Any) -> None:
        super().__init__(message, **given)
        held = getattr(message.channel, "unacked", {}).get(message.delivery_tag)
        self._request_dict[DELIVERY] = held.reader.name_of(held.delivered) if isinstance(held, Held) else None


class CheckedTask(Task):  # type: ignore[misc]
    """A task that is acknowledged when it is done, and starts only if it is still its worker's to do.

    Right before the body runs, in the process that runs it, the server is asked whether the delivery is still this worker's
    and was not completed, which costs a round trip. Where it is not, since the worker was stopped or cut off for longer than
    its lease and another one has the task, the body does not run.
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    Request = "kombu_elkmq.tasks:CheckedRequest"

    def call(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, timeout: Seconds = 10.0, **options: Any
    ) -> Any:  # fmt: skip
        """Call it and return its result: see `call`."""
        return call(self.signature(tuple(args), dict(kwargs or {})), timeout, **options)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:  # noqa: ARG002 - as Celery calls it
        """Celery calls it right before the body. An override has to call it too.

        :raises Ignore: the body is not to run
        """
        delivery = header(self.request, DELIVERY)
        if not delivery or not self.acks_late:
            return
        queue, consumer, lane, id_, _ = delivery
        try:
            with self.app.producer_pool.acquire(block=True) as producer:
                session = producer.channel.session
                ours = session.run(session.verbs(queue).start(consumer, (lane.encode(), id_.encode())))
        except EventQueueError as error:
            log.warning("whether task %s is still to be done here could not be asked, it goes back: %s", task_id, error)
            raise Reject(error, requeue=True) from error
        if not ours:
            log.warning("task %s was not started: it is not this worker's any more", task_id)
            raise Ignore
