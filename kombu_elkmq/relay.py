"""Dead letters on their way to a dead letter exchange.

A message dies at the server, and in the same step stands in its queue's outbox. Whoever reads the queue, or killed the
message, takes it from there: it records the death in the headers, publishes it with an id made of the entry's, so that
two relays at once add one message, and then removes it from the outbox.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from elkmq._core.entry import Entry, number
from elkmq._core.entry import Outgoing as Event
from elkmq._core.verbs import Verbs
from elkmq.errors import EventQueueError
from kombu_elkmq import codec
from kombu_elkmq.deaths import Reason, goes_in_circles, record_death
from kombu_elkmq.declarations import DEFAULT_EXCHANGE
from kombu_elkmq.errors import CHANNEL_ERRORS
from kombu_elkmq.message import UNREADABLE
from kombu_elkmq.publishing import as_outgoing

if TYPE_CHECKING:
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

_REASONS: dict[bytes, Reason] = {
    b"rejected": "rejected", b"expired": "expired", b"maxlen": "maxlen", b"delivery_limit": "delivery_limit",
}  # fmt: skip


class Relay:
    """The part of a `Session` that sends dead letters on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[str, Verbs] = {}

    def look(self, reader: Reader) -> None:
        """There may be something in a queue's outbox."""
        self.look_at(reader.queue, reader.verbs)

    def look_at(self, queue: str, verbs: Verbs) -> None:
        """There may be something in the outbox of a queue that is not read here."""
        self._waiting[queue] = verbs
        self._session.wake()

    @property
    def waiting(self) -> bool:
        """Whether there may be something to relay."""
        return bool(self._waiting)

    def run(self) -> None:
        """Relay what there is; where the server is away, later: nobody's loop waits for it."""
        if not self._session.pump.mending:
            self.finish()

    def finish(self) -> None:
        """Relay what there is before the caller goes on."""
        while self._waiting:
            queue, verbs = self._waiting.popitem()
            try:
                self.empty(queue, verbs)
            except EventQueueError as error:
                log.warning("dead letters of %s wait in its outbox, they are sent on later: %s", queue, error)

    def empty(self, queue: str, verbs: Verbs) -> None:
        """Relay everything in a queue's outbox.

        :raises EventQueueError: the rest is still there
        """
        while entries := self._session.run(verbs.outbox(100)):
            for entry in entries:
                self._send(queue, entry)
            self._session.run(verbs.relayed([entry.id for entry in entries]))

    def _send(self, queue: str, entry: Entry) -> None:
        fields = entry.fields
        exchange = fields.get(b"exchange", b"").decode()
        exchange = "" if exchange == DEFAULT_EXCHANGE else exchange
        if b"event" not in fields:
            return
        unique = f"dlx-{queue}-{fields.get(b'entry', entry.id).decode()}"
        try:
            kombu = fields.get(b"kombu")
            if kombu is None:
                raise ValueError("a plain event")
            decoded = codec.decode(fields[b"event"], kombu, fields.get(b"body"), queue)
        except UNREADABLE:
            # Not a message of Kombu: it goes on as it is.
            key = fields.get(b"routing_key", b"").decode() or queue
            rest = tuple(part for name in (b"kombu", b"body") if name in fields for part in (name, fields[name]))
            self._publish(exchange, key, {}, lambda _: Event(fields[b"event"], unique, 0, 0, "", rest))
            return
        key = fields.get(b"routing_key", b"").decode() or decoded.routing_key
        properties = dict(decoded.properties)
        expiration = properties.pop("expiration", None)
        headers = record_death(
            decoded.headers, queue=queue, reason=_REASONS.get(fields.get(b"reason", b""), "rejected"), exchange=decoded.exchange,
            routing_keys=[decoded.routing_key], died=number(fields.get(b"died"), 0) / 1000, expiration=expiration,
        )  # fmt: skip
        message = as_outgoing(decoded.body, headers, properties, decoded)

        def event_for(target: str) -> Event:
            made = codec.encode(message, exchange, key, target)
            extra: tuple[bytes | str | int, ...] = ("kombu", made.kombu or b"{}")
            if made.body is not None:
                extra += ("body", made.body)
            priority = self._session.publisher.lane_of(message, target)
            return Event(made.event, unique, 0, priority, "", extra)

        self._publish(exchange, key, headers, event_for)

    def _publish(self, exchange: str, key: str, headers: dict[str, Any], event_for: Any) -> None:
        session = self._session
        for _ in range(20):
            queues: tuple[str, ...] = (key,)
            versions: tuple[tuple[str, str], ...] = ()
            if exchange:
                try:
                    queues, versions = session.routes.route(exchange, key, headers)
                except CHANNEL_ERRORS as error:  # no such exchange: RabbitMQ drops the message then too
                    log.warning("a dead letter was dropped: %s", error)
                    return
            queues = tuple(queue for queue in queues if not goes_in_circles(headers, queue))
            if not queues:
                return
            events = [(index, event_for(queue)) for index, queue in enumerate(queues)]
            receipts = session.spread(queues, versions, events)
            if receipts is not None:
                for queue, receipt in zip(queues, receipts, strict=True):
                    if receipt.startswith(b"!"):
                        self.look_at(queue, session.verbs(queue))
                return
            session.routes.forget(exchange)
