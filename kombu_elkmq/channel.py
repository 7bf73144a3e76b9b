"""AMQP's channel, as Kombu and Celery use it."""

from __future__ import annotations

import itertools
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from amqp import exceptions as amqp
from amqp.protocol import queue_declare_ok_t
from kombu.transport import base

from elkmq._core import clock
from elkmq.errors import EventQueueError, QueueClosed
from elkmq.keys import looks_like_a_key
from kombu_elkmq import codec, declarations
from kombu_elkmq import message as messages
from kombu_elkmq.delivery import Held
from kombu_elkmq.errors import no_route, not_found, precondition_failed
from kombu_elkmq.publishing import Batch
from kombu_elkmq.reader import Subscription

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


class Channel(base.StdChannel):  # type: ignore[misc]
    """A channel of a session: its consumers, its prefetch, its unacknowledged messages."""

    Message = messages.Message
    supports_batch_publish = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connection: Session | None = session
        self.channel_id = session.next_channel_id()
        self.closed = False
        self.unacked: dict[int, Held] = {}
        self.no_ack_consumers: set[str] = set()
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

    # -- exchanges

    def exchange_declare(
        self, exchange: str = "", type: str = "direct", passive: bool = False, durable: bool = False, auto_delete: bool = False,  # noqa: A002
        nowait: bool = False, arguments: Mapping[str, Any] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        """Declare an exchange; raises 404 (passive) or 406 (it is different)."""
        if not exchange:
            return
        if passive:
            if not self.session.routes.exists(exchange):
                raise not_found(f"exchange {exchange!r}", (40, 10))
            return
        self.session.routes.declare(
            exchange, type or "direct", durable=bool(durable), auto_delete=bool(auto_delete), arguments=arguments or {}
        )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False, **_: Any) -> None:
        """Delete an exchange; raises 406 where it has bindings and ``if_unused``."""
        self.session.routes.delete(exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Lead what ``source`` gets on to ``destination``."""
        self.session.routes.bind(source, destination, routing_key or "", arguments or {}, to_exchange=True)

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Do not any more."""
        self.session.routes.unbind(source, destination, routing_key or "", arguments or {}, to_exchange=True)

    # -- queues

    def queue_declare(
        self, queue: str = "", passive: bool = False, durable: bool = False, exclusive: bool = False, auto_delete: bool = False,
        nowait: bool = False, arguments: Mapping[str, Any] | None = None, **_: Any,
    ) -> Any:  # fmt: skip
        """Declare a queue; returns its name, ready messages and live consumers. Raises 404, 406."""
        session = self.session
        if passive:
            found = session.run(session.routing.queue_look(queue))
            if found.state == "absent":
                raise not_found(f"queue {queue!r}", declarations.DECLARE)
            return queue_declare_ok_t(queue, found.ready, found.consumers)
        queue = queue or f"amq.gen-{uuid.uuid4()}"
        if looks_like_a_key(queue) or "{" in queue or "}" in queue:
            raise amqp.AccessRefused(
                f"ACCESS_REFUSED - queue name {queue!r} is reserved; nothing was changed; choose another",
                declarations.DECLARE,
                "",
                403,
            )
        read = declarations.read(queue, arguments or {}, session.options, short_lived=bool(auto_delete or exclusive))
        settings = dict(read.settings)
        if auto_delete or exclusive:
            settings["auto_delete"] = "1"
        found = session.run(session.routing.queue_declare(queue, read.text, settings, read.expires))
        if found.state == "differs":
            raise precondition_failed(
                f"queue {queue!r} was declared with {found.arguments} and now with {read.text}; nothing was changed; declare it as "
                "before, or delete it first", declarations.DECLARE,
            )  # fmt: skip
        return queue_declare_ok_t(queue, found.ready, found.consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Bind a queue to an exchange; to the default exchange it is bound already."""
        if exchange:
            self.session.routes.bind(exchange, queue, routing_key or "", arguments or {}, to_exchange=False)

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Take a binding away."""
        if exchange:
            self.session.routes.unbind(exchange, queue, routing_key or "", arguments or {}, to_exchange=False)

    def queue_purge(self, queue: str, nowait: bool = False, **_: Any) -> int:
        """Remove what is ready; what is in flight, or not due yet, stays. Returns how many. Raises 404."""
        session = self.session
        if session.run(session.routing.queue_look(queue)).state == "absent":
            raise not_found(f"queue {queue!r}", (50, 30))
        from elkmq._core.verbs import Verbs

        verbs = Verbs(session.routing.queue(queue), counting=session.counting)
        removed, more = 0, True
        while more:
            n, more = session.run(verbs.purge())
            removed += n
        return removed

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False, **_: Any
    ) -> int:
        """Delete a queue and its bindings; returns how many ready messages it held. Raises 406."""
        session = self.session
        reader = session.readers.get(queue)
        if reader is not None and not reader.subscriptions and not reader.known:
            session.release(reader)
        held = session.run(session.routing.queue_delete(queue, if_unused=if_unused, if_empty=if_empty, tombstone=False))
        if held == -1:
            raise precondition_failed(f"queue {queue!r} is in use; it was not deleted; cancel its consumers", (50, 40))
        if held == -2:
            raise precondition_failed(f"queue {queue!r} is not empty; it was not deleted; purge it", (50, 40))
        self._routes_changed()
        return max(held, 0)

    def _routes_changed(self) -> None:
        self.session.routes.forget_all()

    def after_reply_message_received(self, queue: str) -> None:
        """The one reply that a queue was made for came: it goes, and later ones to it are dropped."""
        session = self.session
        session.run(session.routing.queue_delete(queue, if_unused=False, if_empty=False, tombstone=True))
        self._routes_changed()

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """(queue, exchange, routing key) of every binding."""
        return [(each.destination, each.source, each.key) for each in self.session.routes.bindings()]

    get_bindings = list_bindings

    def prepare_queue_arguments(self, arguments: Any, **given: Any) -> Any:
        """Kombu's names of queue arguments as RabbitMQ's."""
        return base.to_rabbitmq_queue_arguments(arguments or {}, **given)

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
            return tag
        if self.session.run(self.session.routing.queue_look(queue)).state == "absent":
            raise not_found(f"queue {queue!r}", (60, 20))
        reader = self.session.reader(queue)
        reader.subscriptions.append(Subscription(self, tag, bool(no_ack), callback or (lambda _: None)))
        reader.hungry = True
        self._consumers[tag] = queue
        if no_ack:
            self.no_ack_consumers.add(tag)
        self.session.changed()
        return tag

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
        if session.run(session.routing.queue_look(queue)).state == "absent":
            raise not_found(f"queue {queue!r}", (60, 70))
        reader = session.reader(queue)
        while True:
            if reader.buffer:
                entry = reader.buffer.popleft()
            else:
                entries = session.consuming().run(reader.verbs.take(session.name, 1)).entries
                if not entries:
                    return None
                entry = entries[0]
                reader.known.add((entry.lane, entry.id))
            delivered, tag = (entry.lane, entry.id), self.next_tag()
            try:
                message = messages.message_of(reader, entry.fields, entry.timestamp, self, tag, None)
            except messages.UNREADABLE as error:
                session.deliveries.reject(reader, delivered, "unreadable", str(error))
                continue
            if no_ack:
                session.deliveries.settle(reader, delivered)
            else:
                self.unacked[tag] = Held(reader, delivered)
            return message

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
        held = self._held(delivery_tag)
        if held is not None:
            self.session.deliveries.settle(held.reader, held.delivered)

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
        except EventQueueError:
            pass  # the server takes it all back when the lease is over
        if self in session.channels:
            session.channels.remove(self)
        self.connection = None

    def _usable(self) -> None:
        if self.closed:
            raise QueueClosed("the channel is closed; nothing was sent; open a new one.")


__all__ = ["Channel", "QoS", "clock", "math"]
