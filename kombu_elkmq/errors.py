"""Our errors as Kombu sorts them: what a new connection can help against, what only the caller can, and AMQP's own."""

from __future__ import annotations

from typing import Any

from amqp import exceptions as amqp
from kombu.exceptions import ChannelError, OperationalError

from elkmq.errors import (
    AuthenticationError,
    EventQueueError,
    LeaseLost,
    QueueClosed,
    QueueFull,
    ServerConnectionError,
    ServerError,
    ServerReadOnly,
    WrongKeyType,
)


class LoginRefused(AuthenticationError):
    """An `AuthenticationError` of a connection that is being made: a worker tries again, at growing intervals, as Celery is set to."""


RECOVERABLE_CONNECTION_ERRORS = (
    LoginRefused,
    ServerConnectionError,
    ServerReadOnly,
    LeaseLost,
    QueueClosed,
    amqp.RecoverableConnectionError,
    OSError,
)
"""Another attempt, over a new connection, may work."""

CONNECTION_ERRORS = (*RECOVERABLE_CONNECTION_ERRORS, AuthenticationError, WrongKeyType, amqp.ConnectionError)
"""The connection cannot be used, or not be had. A worker tries anew, also where somebody put something else in a queue's place:
until that is mended; a producer hears of it at once."""

RECOVERABLE_CHANNEL_ERRORS = ()
"""None: Kombu would try again at once, without an end and a pause (``Connection.ensure``), while a server is out of memory or a queue full."""

CHANNEL_ERRORS = (QueueFull, ServerError, ChannelError, amqp.ChannelError)
"""This one operation was refused. Celery's consumer does not restart for it."""

__all__ = [
    "CHANNEL_ERRORS", "CONNECTION_ERRORS", "RECOVERABLE_CHANNEL_ERRORS", "RECOVERABLE_CONNECTION_ERRORS", "EventQueueError",
    "LoginRefused", "OperationalError", "locked", "no_route", "not_alone", "not_found", "precondition_failed", "reserved",
    "tag_in_use",
]  # fmt: skip


def not_found(what: str, method: tuple[int, int]) -> Any:
    """404, as a broker of AMQP says it."""
    return amqp.NotFound(f"NOT_FOUND - no {what}; nothing was changed; declare it first", method, "", 404)


def precondition_failed(why: str, method: tuple[int, int]) -> Any:
    """406."""
    return amqp.PreconditionFailed(f"PRECONDITION_FAILED - {why}", method, "", 406)


def locked(queue: str, method: tuple[int, int]) -> Any:
    """405."""
    return amqp.ResourceLocked(
        f"RESOURCE_LOCKED - queue {queue!r} is exclusive to another connection; nothing was changed; use that connection, or "
        "a queue of another name", method, "", 405,
    )  # fmt: skip


def not_alone(queue: str) -> Any:
    """403: one of the consumers would have to be the only one."""
    return amqp.AccessRefused(
        f"ACCESS_REFUSED - queue {queue!r} is consumed exclusively, or was to be and has consumers; nothing was changed; wait for "
        "their end", (60, 20), "", 403,
    )  # fmt: skip


def reserved(queue: str, method: tuple[int, int]) -> Any:
    """403: a name that no queue may have."""
    return amqp.AccessRefused(
        f"ACCESS_REFUSED - queue name {queue!r} is reserved; nothing was changed; choose another", method, "", 403
    )


def tag_in_use(tag: str) -> Any:
    """530, of this channel only."""
    return amqp.NotAllowed(
        f"NOT_ALLOWED - consumer tag {tag!r} is used on this channel already; nothing was changed; choose another, or cancel that "
        "consumer", (60, 20), "", 530,
    )  # fmt: skip


def no_route(exchange: str, key: str) -> Any:
    """312: a mandatory message that no binding leads anywhere."""
    return amqp.ChannelError(
        f"NO_ROUTE - no queue is bound to exchange {exchange!r} for routing key {key!r}; the message is nowhere; "
        "bind a queue or publish without mandatory",
        (60, 40), "Channel.basic_publish", 312,
    )  # fmt: skip
