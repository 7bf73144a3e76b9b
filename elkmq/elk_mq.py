"""The Python module of elk-mq 0.1, on ElkMQ: ``import elkmq.elk_mq as elk_mq`` is all that changes.

Two classes with the original's constructors, methods, return types and errors: every failure is a `RuntimeError` with
the original's text (``EmptyQueue``, ``TimeoutExpired``, ``ConnectionError("…")``), and an argument of the wrong type is a
`TypeError`. Each of these errors is one of `elkmq.errors` as well.

What differs, for the better: connections are kept, a wait is no poll and lets other threads run, and nothing the original
panics over (`SystemError`: a timeout of 0, a malformed url) is worse than a `RuntimeError`. A request
whose time is over is not handed out. Names of queues are checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import elkmq.event as core
from elkmq import errors

__all__ = ["EventQueue", "ServiceEvent"]

T = TypeVar("T")

_RETRY_FOR = 1.0
"""Seconds: the original fails at once; a kept connection that the server has closed since is to be replaced first."""


class ServiceEvent:
    """An event with accessor methods. ``payload`` has to be given, as None if there is none.

    Args:
        timeout: Whole seconds, 1 to 65535.
        action: Any text.
        payload: Any text, or None.

    Raises:
        TypeError: An argument is of another type.
        OverflowError: The timeout does not fit 16 bits.
        RuntimeError: The timeout is 0.
    """

    __slots__ = ("_event",)

    def __init__(self, timeout: int, action: str, payload: str | None) -> None:
        seconds = _seconds(timeout)
        if seconds == 0:
            raise errors.InvalidEvent("timeout may not be zero")
        self._event = core.ServiceEvent(seconds, _text(action), None if payload is None else _text(payload))

    @classmethod
    def create_response(cls, event: ServiceEvent, action: str, payload: str | None) -> ServiceEvent:
        """An event with the uuid and the timeout of the one that it answers."""
        text = None if payload is None else _text(payload)
        return _wrapped(core.ServiceEvent.create_response(_event(event), _text(action), text))

    def uuid(self) -> str:
        """The uuid, hyphenated and in lower case."""
        return str(self._event.uuid)

    def timeout(self) -> int:
        """The timeout in seconds."""
        return self._event.timeout

    def action(self) -> str:
        """The action."""
        return self._event.action

    def payload(self) -> str | None:
        """The payload, or None."""
        return self._event.payload

    def to_dict(self) -> dict[str, Any]:
        """A dict of ``uuid`` (as text), ``timeout``, ``action`` and ``payload``."""
        return self._event.to_dict()

    def __repr__(self) -> str:
        event, payload = self._event, "None"
        if event.payload is not None:
            payload = f"Some(\n        {_quoted(event.payload)},\n    )"
        fields = {"request_uuid": event.request_uuid, "timeout": event.timeout, "action": _quoted(event.action)}
        lines = "".join(f"    {name}: {value},\n" for name, value in {**fields, "payload": payload}.items())
        return f"ServiceEvent {{\n{lines}}}"


class EventQueue:
    """A client of the queue of that name.

    Args:
        queue_name: The queue's name.
        connection_url: Where Redis is; the original's ``redis+unix://PATH?db=…&user=…&pass=…`` is understood too.

    Raises:
        RuntimeError: The url or the name makes no sense.
    """

    __slots__ = ("_queue",)

    def __init__(self, queue_name: str, connection_url: str) -> None:
        from elkmq import EventQueue as Queue

        self._queue = Queue(_text(queue_name), _url(_text(connection_url)), retry_for=_RETRY_FOR)

    def enqueue(self, event: ServiceEvent) -> int:
        """Add an event; returns Redis' timestamp in milliseconds. The same event twice is two entries."""
        wanted, once = _event(event), uuid4().hex  # so a retry after a broken connection is told from a second call
        return _run(lambda: self._queue.enqueue(wanted, dedupe_id=once), "EnqueueError")

    def dequeue(self) -> tuple[int, ServiceEvent]:
        """Take the oldest event, or raise ``RuntimeError("EmptyQueue")``."""
        return _pair(_run(self._queue.dequeue, "DequeueError"))

    def dequeue_blocking(self, timeout: int) -> tuple[int, ServiceEvent]:
        """Wait up to ``timeout`` seconds (0: without end) for an event, or raise ``RuntimeError("EmptyQueue")``."""
        seconds = _seconds(timeout)
        return _pair(_run(lambda: self._queue.dequeue_blocking(seconds), "DequeueError"))

    def enqueue_response(self, event: ServiceEvent) -> None:
        """Send the response to whoever awaits one for its uuid."""
        wanted = _event(event)
        _run(lambda: self._queue.enqueue_response(wanted), "EnqueueError")

    def await_response(self, event: ServiceEvent) -> tuple[int, ServiceEvent]:
        """Enqueue the event and wait for its response, or raise ``RuntimeError("TimeoutExpired")``."""
        wanted = _event(event)
        return _pair(_run(lambda: self._queue.await_response(wanted), "EnqueueError"))


def _run(call: Callable[[], T], otherwise: str) -> T:
    """The result of the call; its errors keep their class and get the original's text."""
    try:
        return call()
    except errors.EventQueueError as exc:
        raise type(exc)(_original_text(exc, otherwise)) from exc


def _original_text(exc: errors.EventQueueError, otherwise: str) -> str:
    for kind, name in _NAMES:
        if kind is errors.AuthenticationError and "wants a password" in str(exc):
            continue  # the original had connected: the command is refused
        if isinstance(exc, kind):
            return f"{name}({_quoted(str(exc))})" if name.endswith("Error") else name
    return f"{otherwise}({_quoted(str(exc))})"


_NAMES = (
    (errors.EmptyQueue, "EmptyQueue"),
    (errors.TimeoutExpired, "TimeoutExpired"),
    (errors.ServerConnectionError, "ConnectionError"),
    (errors.AuthenticationError, "ConnectionError"),
    (errors.InvalidOption, "ConnectionError"),  # no such database
    (errors.JSONDumpError, "JSONDumpError"),
    (errors.JSONParseError, "JSONParseError"),
)

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _quoted(text: str) -> str:
    """The text as Rust shows it."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text) + '"'


def _wrapped(event: core.ServiceEvent) -> ServiceEvent:
    wrapped = ServiceEvent.__new__(ServiceEvent)
    wrapped._event = event
    return wrapped


def _pair(stamped: tuple[int, core.ServiceEvent]) -> tuple[int, ServiceEvent]:
    timestamp, event = stamped
    return timestamp, _wrapped(event)


def _seconds(timeout: object) -> int:
    seconds = operator.index(timeout)  # type: ignore[arg-type]
    if not 0 <= seconds <= core.MAX_TIMEOUT:
        raise OverflowError(f"{seconds} is not a number of seconds from 0 to {core.MAX_TIMEOUT}")
    return seconds


def _text(value: object) -> str:
    if not isinstance(value, str):
        _refuse("PyString", value)
    value.encode()  # raises the UnicodeEncodeError that the original raises
    return value


def _event(value: object) -> core.ServiceEvent:
    if not isinstance(value, ServiceEvent):
        _refuse("ServiceEvent", value)
    return value._event


def _refuse(wanted: str, value: object) -> NoReturn:
    raise TypeError(f"Expected type that converts to {wanted} but received {type(value).__name__}")


def _url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme != "redis+unix":
        return url
    path, question, query = rest.partition("?")
    names = {"user": "username", "pass": "password"}
    options = [(names.get(name, name), value) for name, value in parse_qsl(query, keep_blank_values=True)]
    return f"unix://{path}{question}{urlencode(options)}"
