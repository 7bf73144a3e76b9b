"""A message as a consumer gets it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kombu.compression import decompress
from kombu.serialization import registry
from kombu.transport import base
from kombu.utils import json as kombu_json

from elkmq._core import clock
from elkmq._core.entry import Entry, number
from elkmq.errors import EventQueueError
from elkmq.event import ServiceEvent
from kombu_elkmq import codec, events

if TYPE_CHECKING:
    from kombu_elkmq.reader import Reader


_JSON = "application/json"


class Message(base.Message):
    """Kombu's message, with what ElkMQ knows of it.

    ``headers`` has, besides the producer's, ``x-acquired-count`` (times it was handed out before) and
    ``x-delivery-count`` (times it failed before), as in RabbitMQ, where they are above 0.
    """

    def __init__(
        self, *, body: Any, channel: Any, delivery_tag: int, content_type: str | None, content_encoding: str | None,
        delivery_info: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any],
    ) -> None:  # fmt: skip
        # Not Kombu's: half the time, on the way of every message.
        self.errors = []
        self.channel = channel
        self.delivery_tag = delivery_tag
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.delivery_info = delivery_info
        self.headers = headers
        self.properties = properties
        self._decoded_cache = None
        self._state = "RECEIVED"
        self.accept = None
        compression = headers.get("compression")
        if compression:
            try:
                body = decompress(body, compression)  # type: ignore[no-untyped-call]
            except Exception:  # noqa: BLE001 - Kombu reports it to the consumer's decode error handler
                self.errors.append(sys.exc_info())
        self.body = body

    def _decode(self) -> Any:
        # Celery decodes every message twice, here only to see of which protocol it is. Of JSON in which Kombu's hook would find
        # nothing to do (a key can be spelled with \\u too), and decoded by Kombu's own function, the result is the same.
        body, accept = self.body, self.accept
        if (
            self.content_type == _JSON and accept is not None and _JSON in accept and type(body) is bytes
            and b"__type__" not in body and b"\\u" not in body and registry._decoders.get(_JSON) is kombu_json.loads
        ):  # fmt: skip
            try:
                return codec.quick_loads(body.decode())
            except (ValueError, RecursionError):
                pass  # Kombu says it in its own way
        return super()._decode()  # type: ignore[no-untyped-call]


def message_of(reader: Reader, entry: Entry, channel: Any, tag: int, consumer: str | None) -> Message:
    """Read a message from an entry's fields.

    :raises ValueError: they cannot be read; so does `EventQueueError`
    """
    fields, queue = entry.fields, reader.queue
    kombu = fields.get(b"kombu")
    if kombu is None:
        event = ServiceEvent.from_json(fields[b"event"])
        decoded = events.as_task(event, fields, entry.timestamp, queue, clock.now() * 1000 + reader.server_ahead)
    else:
        decoded = codec.decode(fields[b"event"], kombu, fields.get(b"body"), queue)
    headers = decoded.headers
    if events.DELIVERY in headers:  # an event, or one that its task has sent again to retry
        headers[events.DELIVERY] = reader.name_of((entry.lane, entry.id))
    info: dict[str, Any] = {
        "exchange": decoded.exchange,
        "routing_key": decoded.routing_key,
        "priority": decoded.properties.get("priority", 0),
        "redelivered": False,
    }
    if consumer is not None:
        info["consumer_tag"] = consumer
    handed_out, failed = fields.get(b"handed_out"), fields.get(b"failed")
    if handed_out or failed:
        info["redelivered"] = True
        if handed_out:
            headers["x-acquired-count"] = number(handed_out, 0)
        if failed:
            headers["x-delivery-count"] = number(failed, 0)
    properties = decoded.properties
    properties["delivery_tag"] = tag
    properties["delivery_info"] = info
    return Message(
        body=decoded.body,
        channel=channel,
        delivery_tag=tag,
        content_type=decoded.content_type,
        content_encoding=decoded.content_encoding,
        delivery_info=info,
        headers=headers,
        properties=properties,
    )


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EventQueueError)
"""What `message_of` raises for an entry that is no message."""
