"""A Kombu message as an entry of the queue, and back.

An entry has the event that any ElkMQ client can read, and up to two fields that only Kombu needs:

=========  ==============================================================================================
field      holds
=========  ==============================================================================================
``event``  ``action``: the task name, else the message type; ``payload``: the body; ``request_uuid``: the task id
           where it is a uuid; ``timeout``: the expiration in seconds, 65535 where there is none
``kombu``  as JSON, what is not the default of `_PROPERTIES` and of `kombu_elkmq.headers`; ``{}`` where nothing is
``body``   the body's bytes where they are not UTF-8, or would grow by a quarter in JSON; the payload is null then
=========  ==============================================================================================

A body is stored as it is, never in base64, and comes back as the same bytes. An entry with no ``kombu`` field is a plain
event of another client: `kombu_elkmq.events` makes a task call of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from elkmq.event import ServiceEvent, plainly_an_event
from kombu_elkmq.headers import compact_task_headers, expand_task_headers, uuid_number

__all__ = ["Decoded", "Entry", "Outgoing", "decode", "encode"]

NO_LIMIT = 65_535
"""The event's timeout where the message has no expiration: the largest there is."""

_GROWTH = 1.25
_plain_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_BRACKETS = frozenset("{[")
_V4 = 0x4000_8000_0000_0000_0000
_NOT_V4 = ~0xF000_C000_0000_0000_0000

# Property -> its letter in the ``kombu`` field and its default.
_PROPERTIES: dict[str, tuple[str, Any]] = {
    "delivery_mode": ("d", 2),
    "correlation_id": ("i", None),
    "reply_to": ("y", None),
    "expiration": ("x", None),
    "message_id": ("m", None),
    "timestamp": ("s", None),
    "type": ("T", None),
    "user_id": ("u", None),
    "app_id": ("a", None),
    "cluster_id": ("l", None),
}
_BY_LETTER = {letter: name for name, (letter, _) in _PROPERTIES.items()}
_NOT_SENT = frozenset({"delivery_info", "delivery_tag", "body_encoding", "priority"})


class Outgoing:
    """What `Channel.prepare_message` makes of a body and its headers, on its way to `Channel.basic_publish`."""

    __slots__ = ("body", "content_encoding", "content_type", "headers", "priority", "properties")

    def __init__(  # noqa: PLR0917 (Kombu calls prepare_message with these by position)
        self,
        body: str | bytes,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> None:
        self.body = body
        self.priority = priority or 0
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.headers = headers if headers is not None else {}
        self.properties = properties if properties is not None else {}


class Entry(NamedTuple):
    """The fields of an entry, in the order in which they are written."""

    event: bytes
    kombu: bytes | None
    body: bytes | None

    def fields(self) -> list[bytes]:
        """Names and values in turn, as XADD takes them."""
        found = [b"event", self.event]
        if self.kombu is not None:
            found += (b"kombu", self.kombu)
        if self.body is not None:
            found += (b"body", self.body)
        return found


class Decoded(NamedTuple):
    """What a Kombu `Message` is made of."""

    body: bytes
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str


def encode(message: Outgoing, exchange: str, routing_key: str, queue: str, eta: str | None = None) -> Entry:
    """Write a message as an entry of ``queue``.

    :param eta: when the task is due, as in its headers, where the broker waits for it; the worker does not see it as
        ``eta`` then, or it would wait once more
    """
    headers, properties = message.headers, message.properties
    extra: dict[str, Any] = {}
    action, number = "", None
    task = headers.get("task")
    if type(task) is str and type(headers.get("id")) is str:
        action = task
        number = uuid_number(headers["id"])
        rest = compact_task_headers(headers, extra, id_is_event=number is not None, eta=eta)
        if rest:
            extra["h"] = rest
        if properties.get("correlation_id") == headers["id"]:
            extra["i"] = True
    else:
        action = str(properties.get("type") or "")
        if headers:
            extra["h"] = headers
    _compact_properties(properties, extra)
    if message.content_type != "application/json":
        extra["c"] = message.content_type
    if message.content_encoding != "utf-8":
        extra["e"] = message.content_encoding
    if message.priority:
        extra["p"] = message.priority
    if exchange:
        extra["X"] = exchange
    if routing_key != queue:
        extra["k"] = routing_key
    if number is None:
        number = int.from_bytes(os.urandom(16), "big") & _NOT_V4 | _V4
    payload, raw = _payload(message.body)
    event = (
        f'{{"request_uuid":{number},"timeout":{_timeout(properties.get("expiration"))},'
        f'"action":{encode_basestring(action)},"payload":{payload}}}'
    )
    # Never left out: it tells a message with default properties from a plain event.
    return Entry(event.encode("utf-8", "replace"), _dumps(extra) if extra else b"{}", raw)


def decode(event: bytes, kombu: bytes, body: bytes | None, queue: str) -> Decoded:
    """Read a message from an entry: its event, its ``kombu`` field, its ``body`` field where it has one.

    :raises ValueError: where the ``kombu`` field is not what `encode` writes; the entry is not for any handler
    :raises JSONParseError: where the event is none
    """
    plain = plainly_an_event(event)
    if plain is not None:  # nearly all are, and the rest of the way is shorter then
        found, _, task, payload = plain.groups(b"")
        action, number, text = task.decode(), int(found), payload.replace(b'\\"', b'"')
    else:
        read = ServiceEvent.from_json(event)
        action, number, text = read.action, read.request_uuid, (read.payload or "").encode()
    extra = _loads(kombu)
    if type(extra) is not dict:
        raise ValueError("the kombu field is not an object")
    headers = extra.get("h", {})
    if type(headers) is not dict:
        raise ValueError("the headers are not an object")
    properties: dict[str, Any] = {"delivery_mode": 2, "priority": extra.get("p", 0)}
    if "t" in extra:
        expand_task_headers(headers, extra, action, number)
    for letter, value in extra.items():
        name = _BY_LETTER.get(letter)
        if name is not None:
            properties[name] = value
    if properties.get("correlation_id") is True:
        properties["correlation_id"] = headers.get("id")
    others = extra.get("P")
    if type(others) is dict:
        properties.update(others)
    return Decoded(
        text if body is None else body,
        extra.get("c", "application/json"),
        extra.get("e", "utf-8"),
        headers,
        properties,
        extra.get("X", ""),
        extra.get("k", queue),
    )


def _compact_properties(properties: Mapping[str, Any], extra: dict[str, Any]) -> None:
    others = {}
    for name, value in properties.items():
        known = _PROPERTIES.get(name)
        if known is None:
            if name not in _NOT_SENT and value is not None:
                others[name] = value
        elif value != known[1] and known[0] not in extra and (value != "" or name != "reply_to"):
            extra[known[0]] = value
    if others:
        extra["P"] = others


def _payload(body: str | bytes) -> tuple[str, bytes | None]:
    """The body as JSON for the event, or null and the bytes for the field of their own."""
    if isinstance(body, str):
        if not body.isascii():
            try:
                body.encode()
            except UnicodeEncodeError:  # half a surrogate pair, which a JSON text of UTF-8 cannot hold
                return "null", body.encode("utf-8", "surrogatepass")
        text = body
    else:
        body = bytes(body)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return "null", body
    quoted = encode_basestring(text)
    if len(quoted) > len(text) * _GROWTH + 16:
        return "null", text.encode()
    return quoted, None


def _timeout(expiration: object) -> int:
    """The event's timeout: the expiration in whole seconds, rounded up, as far as 16 bits go."""
    if expiration is None:
        return NO_LIMIT
    try:
        return min(max(-(-int(str(expiration)) // 1000), 1), NO_LIMIT)
    except ValueError:
        return NO_LIMIT


def _dumps(extra: dict[str, Any]) -> bytes:
    try:
        text = _plain_dumps(extra)
    except TypeError:  # dates, uuids, bytes: Kombu's own notation, which says of what type they were
        from kombu.utils.json import dumps

        text = str(dumps(extra))  # type: ignore[no-untyped-call]
    return text.encode("utf-8", "surrogatepass")


def _loads(kombu: bytes) -> Any:
    text = kombu.decode("utf-8", "surrogatepass")
    if '"__type__"' in text:
        from kombu.utils.json import loads

        return loads(text)  # type: ignore[no-untyped-call]
    return quick_loads(text)


def quick_loads(text: str) -> Any:
    """What `json.loads` gives, of short texts at half its cost.

    :raises ValueError: it is not JSON; so does `RecursionError`
    """
    if text[:1] in _BRACKETS:
        try:
            found, end = _scan(text, 0)
            if end == len(text):
                return found
        except StopIteration:
            pass  # which is no error of anybody else's
    return json.loads(text)
