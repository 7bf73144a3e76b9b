"""Publishing: one round trip a message, or a batch of them, whatever the number of queues; and each message once.

A publish whose answer was lost is repeated with the same unique id, so that it adds one entry. Where its caller is told
of the failure and publishes once more, over another connection perhaps, a memory of failed publishes finds the id again
by what was in the message.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from elkmq._core.entry import Outgoing as Event
from elkmq.errors import EventQueueError, ServerConnectionError, ServerError
from elkmq.keys import is_reserved
from kombu_elkmq import codec
from kombu_elkmq.declarations import MOST
from kombu_elkmq.errors import no_route, precondition_failed, reserved
from kombu_elkmq.eta import delay_ms
from kombu_elkmq.handover import Handover
from kombu_elkmq.steps import WINDOW

if TYPE_CHECKING:
    from kombu_elkmq.channel import Channel
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

REMEMBERED = 10_000
ATTEMPTS = 20
"""Times a route is looked up anew for one message, where it keeps changing."""

_uncertain: dict[bytes, tuple[str, float]] = {}
"""What failed with an unknown outcome -> its unique id and when that is forgotten at the server. Of this process."""


@functools.lru_cache(maxsize=1000)
def _refuse_reserved(queue: str) -> None:
    """Raise 403 where a routing key of the default exchange names what no queue may be called."""
    if is_reserved(queue):
        raise reserved(queue, (60, 40))


class Publisher:
    """How a session publishes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._producer = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._handover = Handover(session)

    def publish(self, messages: list[tuple[codec.Outgoing, str, str, bool]]) -> list[bool]:
        """Publish (message, exchange, routing key, mandatory), all or none; for each, whether it went to a queue.

        :raises EventQueueError: nothing was published, or it is not known whether it was
        """
        session = self._session
        session.look_for_unused()
        if len(messages) == 1 and not _uncertain and not messages[0][1] and not messages[0][3] and messages[0][2]:
            return [self._straight(messages[0][0], messages[0][2])]
        ids = [self._unique_id(message, exchange, key) for message, exchange, key, _ in messages]
        for _ in range(ATTEMPTS):
            routed, queues, versions, events = self._routed(messages, ids)
            if not events and not versions:
                return routed
            takers = self._takers(messages, ids, queues, events)
            sent = [each for each in events if each[0] not in takers] if takers else events
            try:
                receipts = self._spread(queues, versions, sent, messages)
            except EventQueueError as error:
                # Where queues are on several nodes, one may have the message though another refused it.
                unsure = isinstance(error, ServerConnectionError) or (session.endpoint.cluster and len(queues) > 1)
                if unsure and sent:
                    self._remember(messages, ids)
                raise
            if receipts is not None:
                for index, event in events if takers else ():
                    if index in takers:
                        takers[index].session.deliveries.handed.add(takers[index], event)
                self._send_on([(queues[index], receipt) for (index, _), receipt in zip(sent, receipts, strict=True)])
                if _uncertain:
                    for unique in ids:
                        _forget(unique)
                if (
                    b"~" in receipts
                    and len(messages) == 1
                    and not takers
                    and all(receipt == b"~" for receipt in receipts)
                ):
                    return [False]
                return routed
            for exchange, _ in versions:
                session.routes.forget(exchange)
        raise ServerError(
            "could not publish the message: its route changed again and again; nothing was published; try again in a moment."
        )

    def _takers(
        self,
        messages: list[tuple[codec.Outgoing, str, str, bool]],
        ids: list[str],
        queues: list[str],
        events: list[tuple[int, Event]],
    ) -> dict[int, Reader]:
        """Readers of this process that are handed the message, by the index of their queues."""
        message, exchange, _, mandatory = messages[0]
        if len(messages) > 1 or mandatory or (_uncertain and _is_uncertain(ids[0])):
            return {}
        return self._handover.takers(message, exchange, queues, events)

    def _spread(
        self,
        queues: list[str],
        versions: list[tuple[str, str]],
        events: list[tuple[int, Event]],
        messages: list[tuple[codec.Outgoing, str, str, bool]],
    ) -> list[bytes] | None:
        """Publish through the server if the route is still right; else None. A route to nowhere may be old as well."""
        session = self._session
        if not events:
            return [] if session.hold(versions) else None
        window = self._window(messages)
        indexes = [index for index, _ in events]
        return self._handover.sending(queues, indexes, lambda: session.spread(queues, versions, events, window))

    def _straight(self, message: codec.Outgoing, queue: str) -> bool:
        """One message to the queue its routing key names, as most are; whether it went there."""
        _refuse_reserved(queue)
        unique = self._unique_id(message, "", queue)
        session = self._session
        try:
            event = self._event(message, "", queue, queue, unique)
            window = self._window([(message, "", queue, False)]) if "expiration" in message.properties else None
            call = session.routing.enqueue(queue, (event,), window=window)
            receipts = self._handover.sending((queue,), (0,), lambda: session.run(call))
        except ServerConnectionError:
            self._remember([(message, "", queue, False)], [unique])
            raise
        if receipts[0].startswith(b"!"):
            self._send_on([(queue, receipts[0])])
        return receipts[0] != b"~"

    def _send_on(self, receipts: Iterable[tuple[str, bytes]]) -> None:
        """Have what was pushed out of full queues at their dead letter exchanges before the caller goes on, as RabbitMQ has."""
        session = self._session
        full = [queue for queue, receipt in receipts if receipt.startswith(b"!")]
        for queue in full:
            session.relay.look_at(queue, session.verbs(queue))
        if full and not session.attended:
            session.relay.finish()

    def _routed(
        self, messages: list[tuple[codec.Outgoing, str, str, bool]], ids: list[str]
    ) -> tuple[list[bool], list[str], list[tuple[str, str]], list[tuple[int, Event]]]:
        session = self._session
        position: dict[str, int] = {}
        versions: dict[str, str] = {}
        events: list[tuple[int, Event]] = []
        routed = []
        for (message, exchange, key, mandatory), unique in zip(messages, ids, strict=True):
            if exchange:
                queues, seen = session.routes.route(exchange, key, message.headers)
                versions.update(seen)
            else:
                _refuse_reserved(key)
                # No queue is called '', as in RabbitMQ.
                queues = (key,) if key and (not mandatory or self._is_there(key, position)) else ()
            if not queues and not mandatory and session.options.unroutable_queue:
                queues = (session.options.unroutable_queue,)
            routed.append(bool(queues))
            previous: tuple[str, Event] | None = None
            for queue in queues:
                if previous is not None and key not in (queue, previous[0]):
                    event = previous[1]
                else:
                    event = self._event(message, exchange, key, queue, unique)
                    previous = (queue, event)
                events.append((position.setdefault(queue, len(position)), event))
        return routed, list(position), list(versions.items()), events

    def _is_there(self, queue: str, known: Mapping[str, int]) -> bool:
        """Whether somebody declared a queue, or used it. Only for mandatory messages to its name: others make it by being sent."""
        session = self._session
        return queue in known or session.run(session.routing.queue_look(queue, who=session.name)).state != "absent"

    def _event(self, message: codec.Outgoing, exchange: str, key: str, queue: str, unique: str) -> Event:
        options = self._session.options
        headers = message.headers
        delay, eta = 0, None
        if headers.get("eta") and options.eta_in_broker and "task" in headers:
            wait = delay_ms(headers, time.time())
            if wait is not None:
                delay, eta = wait, str(headers["eta"])
        entry = codec.encode(message, exchange, key, queue, eta)
        fields: tuple[bytes | str | int, ...] = ("kombu", entry.kombu) if entry.kombu is not None else ()
        if entry.body is not None:
            fields += ("body", entry.body)
        ttl = _milliseconds(message.properties.get("expiration"))
        # An expired task is its worker's to discard: that makes its state REVOKED, which whoever awaits its result is told.
        # Where the queue has a dead letter exchange, its owner wants it there instead.
        if ttl is not None and not (
            "task" in headers and headers.get("expires") and queue not in self._session.relaying
        ):
            fields += ("ttl", ttl + delay)  # which is about how long it may wait to be handed out
        priority = 0
        if message.priority or options.priority_lowest_first:
            priority = self.lane_of(message, queue)
        return Event(entry.event, unique, delay, priority, "", fields)

    def _window(self, messages: list[tuple[codec.Outgoing, str, str, bool]]) -> int:
        """Milliseconds for which the server remembers that it has them. Of what lives for seconds, as Celery's events do, marks
        that last for minutes would be most of what the server holds.
        """
        longest, least = WINDOW, round(2 * self._session.options.publish_timeout * 1000)
        ttls = [
            None if "task" in message.headers else _milliseconds(message.properties.get("expiration"))
            for message, *_ in messages
        ]
        return min(longest, max(least, *(longest if ttl is None else 2 * ttl for ttl in ttls)))

    def lane_of(self, message: codec.Outgoing, queue: str) -> int:
        """A message's priority, as the queue has priorities: the highest number is read first."""
        options = self._session.options
        highest = self._session.max_priorities.get(queue, options.max_priority)
        priority = max(0, min(int(message.priority), highest))
        return highest - priority if options.priority_lowest_first else priority

    # -- once

    def _unique_id(self, message: codec.Outgoing, exchange: str, key: str) -> str:
        given = message.properties.get("message_id")
        if isinstance(given, str) and 0 < len(given) <= 255 and given.isprintable() and "|" not in given:
            return given
        if _uncertain:
            found = _uncertain.get(_fingerprint(message, exchange, key))
            if found is not None and found[1] > time.monotonic():
                return found[0]
        return f"{self._producer}{next(self._numbers):x}"

    def _remember(self, messages: list[tuple[codec.Outgoing, str, str, bool]], ids: list[str]) -> None:
        now = time.monotonic()
        for old in [each for each, (_, ends) in _uncertain.items() if ends <= now]:
            del _uncertain[old]
        for (message, exchange, key, _), unique in zip(messages, ids, strict=True):
            if len(_uncertain) < REMEMBERED:
                _uncertain[_fingerprint(message, exchange, key)] = (unique, now + WINDOW / 1000)


def _forget(unique: str) -> None:
    for each in [each for each, (known, _) in _uncertain.items() if known == unique]:
        del _uncertain[each]


def _is_uncertain(unique: str) -> bool:
    return any(known == unique for known, _ in _uncertain.values())


def _fingerprint(message: codec.Outgoing, exchange: str, key: str) -> bytes:
    content = (
        exchange, key, message.body, message.content_type, message.content_encoding, message.priority,
        sorted(message.headers.items(), key=lambda item: str(item[0])),
        sorted((name, value) for name, value in message.properties.items() if not name.startswith("delivery_")),
    )  # fmt: skip
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()


def _milliseconds(expiration: object) -> int | None:
    if expiration is None:
        return None
    try:
        found = max(0, int(str(expiration)))
    except ValueError:
        found = MOST + 1
    if found > MOST:
        raise precondition_failed(
            f"expiration {str(expiration)[:40]!r} of a message is no number of milliseconds from 0 to {MOST}; the message was not "
            "published; give one", (60, 40),
        )  # fmt: skip
    return found


class Batch:
    """What `Producer.batch()` of Kombu 5.7 collects: sent in one round trip when it is full, or flushed."""

    def __init__(self, channel: Channel, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._messages: list[tuple[codec.Outgoing, str, str, bool]] = []

    def publish(
        self, message: codec.Outgoing, exchange: str = "", routing_key: str = "", mandatory: bool = False, **_: Any
    ) -> None:
        """Add a message."""
        self._messages.append((message, exchange or "", routing_key or "", bool(mandatory)))
        if len(self._messages) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Send what was collected, all or none.

        :raises kombu.exceptions.BatchPublishError: it failed; if the outcome is unknown, the same messages can be
            published again within two minutes without any being there twice
        """
        from kombu.exceptions import BatchPublishError

        messages, self._messages = self._messages, []
        if not messages:
            return
        try:
            routed = self.channel.session.publisher.publish(messages)
        except EventQueueError as error:
            raise BatchPublishError(str(error)) from error
        for (message, exchange, key, mandatory), arrived in zip(messages, routed, strict=True):
            if mandatory and not arrived:
                self.channel.returned(no_route(exchange, key), exchange, key, message)

    def discard(self) -> None:
        """Forget what was not sent."""
        self._messages.clear()

    def close(self) -> None:
        """Forget what was not sent."""
        self._messages.clear()


def as_outgoing(
    body: bytes, headers: Mapping[str, Any], properties: Mapping[str, Any], decoded: codec.Decoded
) -> codec.Outgoing:
    """A message that is published once more, as a dead letter is."""
    return codec.Outgoing(
        body,
        properties.get("priority"),
        decoded.content_type,
        decoded.content_encoding,
        dict(headers),
        dict(properties),
    )
