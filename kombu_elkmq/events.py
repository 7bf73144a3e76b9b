"""A plain event on a Celery queue, as another ElkMQ client sends it, made a task call.

``action`` is the task's name; ``payload`` is JSON: ``{"args": [...], "kwargs": {...}}``, or a bare list (args) or object
(kwargs), or nothing. Its timeout, counted from the enqueue, is when the call expires; what is left of it when the worker has
the message is the task's time limit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from elkmq._core.entry import number
from elkmq.event import ServiceEvent
from kombu_elkmq.codec import Decoded
from kombu_elkmq.headers import uuid_text

IS_EVENT = "elkmq_event"
"""Header that tells a task made of an event: its timeout in seconds."""

ASKED = "elkmq_asked"
"""Header with the server's milliseconds at which the event was accepted."""

REPLY_INBOX = "elkmq_reply_to"
"""Header with the inbox in which the response is awaited, where the event names one."""


DELIVERY = "elkmq_delivery"
"""Header that names the delivery to the process that runs the task: queue, consumer, lane, id, 1 where it is to be kept."""


def as_task(event: ServiceEvent, fields: Mapping[bytes, bytes], timestamp: int, queue: str, now: float) -> Decoded:
    """Read an event as a task message.

    :param now: the server's clock, in milliseconds
    :raises ValueError: its payload is not JSON for a call
    """
    args, kwargs = _arguments(event.payload)
    task_id = uuid_text(event.request_uuid)
    left = timestamp + number(fields.get(b"ttl"), event.timeout * 1000) - now
    # By this machine's clock, which is the one that Celery compares it with.
    expires = datetime.now(timezone.utc) + timedelta(milliseconds=left)
    headers: dict[str, Any] = {
        "lang": "py", "task": event.action, "id": task_id, "shadow": None, "eta": None, "expires": expires.isoformat(),
        "group": None, "group_index": None, "retries": 0, "timelimit": [max(1, math.ceil(left / 1000)), None],
        "root_id": task_id, "parent_id": None, "argsrepr": repr(tuple(args)), "kwargsrepr": repr(kwargs), "origin": None,
        "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
        IS_EVENT: event.timeout, ASKED: timestamp, DELIVERY: None,
    }  # fmt: skip
    if b"reply_to" in fields:
        headers[REPLY_INBOX] = fields[b"reply_to"].decode()
    body = json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    properties = {"delivery_mode": 2, "priority": 0, "correlation_id": task_id}
    return Decoded(body.encode(), "application/json", "utf-8", headers, properties, "", queue)


def _arguments(payload: str | None) -> tuple[list[Any], dict[str, Any]]:
    found = json.loads(payload) if payload else None
    if found is None:
        return [], {}
    if isinstance(found, list):
        return found, {}
    if not isinstance(found, dict):
        raise ValueError("the payload is neither a list nor an object")  # noqa: TRY004 - of the content, not of an argument
    if found and set(found) <= {"args", "kwargs"}:
        args, kwargs = found.get("args") or [], found.get("kwargs") or {}
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError("args is no list, or kwargs no object")
        return args, kwargs
    return [], found
