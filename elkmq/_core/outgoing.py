"""From what a caller says about an event to what goes to the server; all checks on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from elkmq._core.entry import Outgoing
from elkmq.errors import InvalidEvent, InvalidOption, JSONDumpError, JSONParseError
from elkmq.event import ServiceEvent, known_as, within_limit
from elkmq.options import MAX_PRIORITY, Seconds, milliseconds, shown, whole

T = TypeVar("T")

BATCH = 500
"""Events per script: an enqueue of more is split, each part accepted whole or not at all. Bounds how long a script runs."""

MOST_TEXT = 16 * 1024 * 1024
"""Characters or bytes after which a batch is split too: a server takes 1 GB from a client at once, if that."""


@dataclass(frozen=True, slots=True)
class Send:
    """An event to enqueue, with how.

    ``queue``: name of another queue, in ``Delivery.complete``; None: the same. ``delay``: before it is handed out.
    ``priority``: 0 to 255, higher is more urgent. ``ttl``: time to live from its enqueue; None: the queue's. ``headers``:
    anything JSON can carry. ``dedupe_id``: what it is known by; None: its uuid (an event that
    came out of a queue is known by a new id, so that it can be put back); '': it is accepted however often it comes.
    """

    event: ServiceEvent
    queue: str | None = None
    delay: Seconds = 0.0
    priority: int = 0
    ttl: Seconds | None = None
    headers: Mapping[str, Any] | None = None
    dedupe_id: str | None = None


def outgoing(send: Send) -> Outgoing:
    """Check an event and how it is to be enqueued.

    Raises:
        InvalidEvent: It is not a `ServiceEvent`, or takes more than `MAX_EVENT_BYTES` with its headers.
        InvalidOption: An option makes no sense.
        JSONDumpError: The headers cannot be written as JSON.
    """
    event = checked(send.event)
    delay, priority = 0, 0
    if send.delay != 0 or type(send.delay) is bool:
        delay = milliseconds("delay", send.delay)
    if send.priority != 0 or type(send.priority) is not int:
        priority = whole("priority", send.priority, 0, MAX_PRIORITY)
    fields: tuple[bytes | str | int, ...] = ()
    if send.ttl is not None:
        fields += ("ttl", milliseconds("ttl", send.ttl, least=0.001))
    headers = b"" if send.headers is None else headers_json(send.headers)
    if headers:
        fields += ("headers", headers)
    uuid = f"{event.request_uuid:032x}"
    unique = (known_as(event) or uuid) if send.dedupe_id is None else _dedupe_id(send.dedupe_id)
    if unique not in ("", uuid):
        fields += ("unique", unique)
    data = event.to_json()
    if headers:
        within_limit(len(data) + len(headers))
    return Outgoing(data, unique, delay, priority, "", fields)


def parcels(events: Iterable[ServiceEvent | Send]) -> Iterator[list[Outgoing]]:
    """Check the events of a batch one by one, and split it where they are large with their headers."""
    parcel: list[Outgoing] = []
    size = 0
    for event in events:
        send = event if isinstance(event, Send) else Send(event)
        if send.queue is not None:
            raise InvalidOption(
                f"queue is {shown(send.queue)}; nothing was sent; an event for another queue goes with `Delivery.complete`, or "
                "is enqueued at that queue."
            )
        found = outgoing(send)
        own = len(found.json) + sum(len(part) for part in found.fields if isinstance(part, bytes))
        if parcel and size + own > MOST_TEXT:
            yield parcel
            parcel, size = [], 0
        parcel.append(found)
        size += own
    if parcel:
        yield parcel


def plain(events: Sequence[ServiceEvent | Send]) -> list[tuple[str, bytes]] | None:
    """(unique id, JSON) of events that are enqueued with nothing said about them; None where something is."""
    pairs: list[tuple[str, bytes]] = []
    for event in events:
        if type(event) is not ServiceEvent or event._known_as is not None:
            return None
        pairs.append((f"{event.request_uuid:032x}", event.to_json()))
    return pairs


def checked(event: object) -> ServiceEvent:
    """Return the event. Raises: InvalidEvent: it is something else."""
    if not isinstance(event, ServiceEvent):
        raise InvalidEvent(f"a {type(event).__name__} is not an event; nothing was sent; give a ServiceEvent.")
    return event


def _dedupe_id(value: object) -> str:
    if not isinstance(value, str) or len(value) > 255 or not value.isprintable() or "|" in value:
        raise InvalidOption(
            f"dedupe_id is {shown(value)}; nothing was sent; give printable text of at most 255 characters without '|'."
        )
    return value


def headers_json(headers: Mapping[str, Any]) -> bytes:
    """Write headers as JSON. Raises: JSONDumpError."""
    if not isinstance(headers, Mapping):
        raise JSONDumpError(f"headers is {shown(headers)}, not a mapping; nothing was sent; give a dict.")
    try:
        return json.dumps(dict(headers), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise JSONDumpError(f"the headers cannot be written as JSON ({exc}); nothing was sent; correct them.") from None


def read_headers(data: bytes | None) -> dict[str, Any]:
    """Read headers from an entry. Raises: JSONParseError."""
    if data is None:
        return {}
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise JSONParseError("the entry's headers are not a JSON object; correct its producer.")
    return found


def each(items: Iterable[T]) -> Iterable[T]:
    """The items. Raises: InvalidOption: it is nothing that has any, or text, whose letters nobody means."""
    if isinstance(items, str | bytes | bytearray) or not isinstance(items, Iterable):
        raise InvalidOption(f"a {type(items).__name__} is no list of items; nothing was sent; give several, or [one].")
    return items


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Split into lists of ``size`` at most; lists of events are shorter where their payloads are large."""
    batch: list[T] = []
    text = 0
    for item in each(items):
        payload = getattr(item.event if isinstance(item, Send) else item, "payload", None)
        own = len(payload) if isinstance(payload, str) else 0
        if batch and text + own > MOST_TEXT:
            yield batch
            batch, text = [], 0
        batch.append(item)
        text += own
        if len(batch) == size:
            yield batch
            batch, text = [], 0
    if batch:
        yield batch
