"""AMQP's channel, as Kombu and Celery use it."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elkmq._core.entry import Entry, Taken
from elkmq.errors import EventQueueError, QueueClosed
from kombu_elkmq import codec
from kombu_elkmq import message as messages
from kombu_elkmq.delivery import Held
from kombu_elkmq.errors import no_route, not_alone, precondition_failed, tag_in_use
from kombu_elkmq.handover import HERE
from kombu_elkmq.publishing import Batch
from kombu_elkmq.reader import Reader, Subscription
from kombu_elkmq.topology import Topology

if TYPE_CHECKING:
    from kombu_elkmq.session import Session


class QoS:
    """The prefetch of a channel. Celery replaces ``can_consume`` under ``worker_disable_prefetch``."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.prefetch_count = 0

    def can_consume(self) -> bool:
        """Whether the channel may be given another message."""
        return not self.prefetch_count or len(self.channel.unacked) < self.prefetch_count


class Channel(Topology):
    """A channel of a session: its consumers, its prefetch, its unacknowledged messages."""

    Message = messages.Message
    supports_batch_publish = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connection: Session | None = session
        self.channel_id = session.next_channel_id()
        self.closed = False
        self.unacked: dict[int, Held] = {}
        self.no_ack_consumers = set()
        self.events: dict[str, set[Callable[..., Any]]] = defaultdict(set)
        self.qos = QoS(self)
        self._tags = itertools.count(1)
        self._consumers: dict[str, str] = {}
        self._getters: set[str] = set()

    def next_tag(self) -> int:
        """A delivery tag."""
        return next(self._tags)

    def room(self) -> int:
        """How many messages more it may be given."""
        qos = self.qos
        if "can_consume" in qos.__dict__:
            return 1 if qos.can_consume() else 0
        return qos.prefetch_count - len(self.unacked) if qos.prefetch_count else self.session.options.fetch_limit

    # -- publishing

    def prepare_message(
        self, body: Any, priority: Any = None, content_type: Any = None, content_encoding: Any = None, headers: Any = None,
        properties: Any = None,
    ) -> codec.Outgoing:  # fmt: skip
        """What `basic_publish` takes."""
        return codec.Outgoing(body, priority, content_type, content_encoding, headers, properties)

    def basic_publish(
        self, message: codec.Outgoing, exchange: str = "", routing_key: str = "", mandatory: bool = False, immediate: bool = False,
        **_: Any,
    ) -> None:  # fmt: skip
        """Publish, and know that the server has it.

        :raises EventQueueError: it has not, or that is not known; publishing the same again adds it at most once
        """
        self._usable()
        exchange, routing_key = exchange or "", routing_key or ""
        (arrived,) = self.session.publisher.publish([(message, exchange, routing_key, bool(mandatory))])
        if mandatory and not arrived:
            self.returned(no_route(exchange, routing_key), exchange, routing_key, message)

    def returned(self, error: Exception, exchange: str, routing_key: str, message: codec.Outgoing) -> None:
        """A mandatory message that went nowhere: to those who listen, else to the caller as an error."""
        listeners = self.events["basic_return"]
        if not listeners:
            raise error
        for listener in list(listeners):
            listener(error, exchange, routing_key, message)

    def create_publish_batch(self, max_size: int = 100) -> Batch:
        """For `Producer.batch()`."""
        return Batch(self, max_size)

    # -- consuming

    def basic_consume(
        self, queue: str = "", consumer_tag: str = "", no_local: bool = False, no_ack: bool = False, exclusive: bool = False,
        nowait: bool = False, callback: Callable[[Any], object] | None = None, arguments: Any = None, **_: Any,
    ) -> str:  # fmt: skip
        """Have messages of a queue handed to ``callback``; returns the consumer's tag."""
        self._usable()
        tag = str(consumer_tag or uuid.uuid4())
        if tag in self._consumers:
            raise tag_in_use(tag)
        found = self._look(queue, (60, 20))
        reader = self.session.reader(queue)
        self._alone(reader, found.alone, bool(exclusive))
        reader.subscriptions.append(Subscription(self, tag, bool(no_ack), callback or (lambda _: None)))
        reader.hungry = True
        self._consumers[tag] = queue
        if no_ack:
            self.no_ack_consumers.add(tag)
        self.session.changed()
        return tag

    def _alone(self, reader: Reader, other: str, exclusive: bool) -> None:
        """Raise 403 where a consumer that is to be the only one is not."""
        session = self.session
        refused = bool(other) or (exclusive and bool(reader.subscriptions))
        if not refused and exclusive:
            link = session.wires_of(reader.queue).consuming()
            refused = not link.run(reader.verbs.consume_alone(session.name, on=True))
            reader.alone = not refused
        if refused:
            if not reader.subscriptions and not reader.known and reader.queue not in session.exclusive:
                session.release(reader)
            raise not_alone(reader.queue)

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, **_: Any) -> None:
        """End a consumer. What it was handed stays its own; what it has not seen goes back at once."""
        queue = self._consumers.pop(consumer_tag, None)
        self.no_ack_consumers.discard(consumer_tag)
        reader = self.session.readers.get(queue) if queue is not None else None
        if reader is None:
            return
        reader.subscriptions = [s for s in reader.subscriptions if s.channel is not self or s.tag != consumer_tag]
        if not reader.subscriptions:
            self.session.last_consumer_went(reader)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, a_global: bool = False, **_: Any) -> None:
        """Set how many unacknowledged messages the channel may have; 0: no limit. Costs no round trip."""
        self.qos.prefetch_count = prefetch_count or 0
        self.session.wake()

    def basic_get(self, queue: str = "", no_ack: bool = False, **_: Any) -> Any:
        """One message of a queue, or None where nothing is ready."""
        self._usable()
        session = self.session
        self._look(queue, (60, 70))
        reader = session.reader(queue)
        while True:
            if reader.buffer and reader.buffer[0].lane != HERE:  # that is for those who consume
                entry = reader.buffer.popleft()
            else:
                found = self._take_one(reader)
                if found is None:
                    return None
                entry = found
            delivered, tag = (entry.lane, entry.id), self.next_tag()
            if reader.repeated(entry):
                session.deliveries.settle(reader, delivered)
                continue
            try:
                message = messages.message_of(reader, entry, self, tag, None)
            except messages.UNREADABLE as error:
                session.deliveries.unreadable(reader, entry, error)
                continue
            if no_ack:
                session.deliveries.settle(reader, delivered)
            else:
                self.unacked[tag] = Held(reader, delivered)
            return message

    def _take_one(self, reader: Reader) -> Entry | None:
        session = self.session
        link = session.wires_of(reader.queue).consuming()
        taken: Taken = link.run(reader.verbs.take(session.name, 1))
        if not taken.entries and session.look_around():
            taken = link.run(reader.verbs.take(session.name, 1))  # what expired elsewhere may have come here
        if taken.outbox and reader.relays:
            session.relay.look(reader)
            session.deliveries.send_on()
        if not taken.entries:
            return None
        entry = taken.entries[0]
        reader.known.add((entry.lane, entry.id))
        return entry

    def message_to_python(self, raw_message: Any) -> Any:
        """Messages are made whole when they are delivered."""
        return raw_message

    # -- acknowledging

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Done with a message, or with all up to it; nobody waits for the server."""
        if multiple:
            for tag in [tag for tag in self.unacked if tag <= delivery_tag or not delivery_tag]:
                held = self.unacked.pop(tag)
                self.session.deliveries.settle(held.reader, held.delivered)
            return
        one = self._held(delivery_tag)
        if one is not None:
            self.session.deliveries.settle(one.reader, one.delivered)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Refuse a message: into the dead letters, or (``requeue``) back to the queue, which counts as a failure."""
        held = self._held(delivery_tag)
        if held is None:
            return
        if requeue:
            self.session.deliveries.requeue(held.reader, [held.delivered], failed=True)
        else:
            self.session.deliveries.reject(held.reader, held.delivered)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """RabbitMQ's reject of several."""
        tags = [tag for tag in self.unacked if tag <= delivery_tag] if multiple else [delivery_tag]
        for tag in tags:
            self.basic_reject(tag, requeue=requeue)

    def basic_recover(self, requeue: bool = True) -> None:
        """Send back everything that this channel's consumers hold."""
        for reader, delivered in self.session.deliveries.of_channel(self).items():
            self.session.deliveries.requeue(reader, delivered, failed=False)
        self.unacked.clear()

    def _held(self, tag: int) -> Held | None:
        held = self.unacked.pop(tag, None)
        if held is None and not (self.closed or self.session.closed):
            raise precondition_failed(
                f"unknown delivery tag {tag}; it was settled before, or came over another channel", (60, 80)
            )
        if held is not None and held.reader.lost:
            return None
        return held

    # -- life

    def flow(self, active: bool = True) -> None:
        """Go on, or (False) take no more; Kombu's `Consumer.qos` does the rest."""
        if active:
            self.qos.__dict__.pop("can_consume", None)
        else:
            self.qos.can_consume = lambda: False  # type: ignore[method-assign]

    def close(self) -> None:
        """End its consumers and send back what they hold."""
        if self.closed:
            return
        self.closed = True
        session = self.session
        try:
            if session.connected:
                for tag in list(self._consumers):
                    self.basic_cancel(tag)
                self.basic_recover()
                session.deliveries.flush()  # no pass of an event loop may follow
                session.push()
                session.deliveries.send_on()
        except EventQueueError:
            pass  # the server takes it all back when the lease is over
        if self in session.channels:
            session.channels.remove(self)
        self.connection = None

    def _usable(self) -> None:
        if self.closed:
            raise QueueClosed("the channel is closed; nothing was sent; open a new one.")
