"""More of what Kombu offers over any broker: retries, failover while running, buffers, mixins, every compression."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, ChannelError, NotAllowed
from kombu import Connection, Exchange, Producer, Queue
from kombu.compression import encoders
from kombu.exceptions import OperationalError
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu.pools import connections, producers

from tests.kombu.conftest import Inbox, broker_url, needs_batches
from tests.kombu.test_transport import declared, queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


def test_ensure_repeats_over_a_new_connection_and_adds_the_message_once(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url, publish_timeout=0.2, socket_connect_timeout=1)
    producer = connection.Producer()
    producer.publish("before", routing_key=name)
    proxy.cut(refuse=True)
    seen: list[BaseException] = []

    def errback(error: BaseException, interval: float) -> None:
        seen.append(error)
        proxy.heal()

    publish = connection.ensure(producer, producer.publish, errback=errback, max_retries=3, interval_start=0)
    publish("once", routing_key=name)
    assert seen
    assert all(isinstance(error, connection.recoverable_connection_errors) for error in seen)
    assert fast_server.client().xlen(f"{name}(event_stream)") == 2


def test_a_publish_with_retry_gives_up_when_told(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url, publish_timeout=0.1)
    producer = connection.Producer()
    producer.publish("before", routing_key=name)
    proxy.cut(refuse=True)
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    with pytest.raises(OperationalError):
        producer.publish("never", routing_key=name, retry=True, retry_policy=policy)
    proxy.heal()
    assert fast_server.client().xlen(f"{name}(event_stream)") == 1


def test_a_connection_goes_to_the_next_url_when_its_server_is_gone(
    make_server: Callable[..., Server], name: str
) -> None:
    first, second = make_server(), make_server()
    urls = f"{broker_url(first.url)};{broker_url(second.url)}"
    with Connection(urls, transport_options={"publish_timeout": 0.5}) as connection:
        producer = connection.Producer()
        policy = {"max_retries": 5, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
        producer.publish("one", routing_key=name, retry=True, retry_policy=policy)
        first.kill()
        producer.publish("two", routing_key=name, retry=True, retry_policy=policy)
        assert second.client().xlen(f"{name}(event_stream)") == 1
        assert Inbox(connection, queue_of(name)).wait(1) == ["two"]


def test_pools_of_connections_and_producers(fast_server: Server, name: str) -> None:
    connection = Connection(broker_url(fast_server.url))
    with producers[connection].acquire(block=True) as producer:
        producer.publish("pooled", routing_key=name, declare=[queue_of(name)])
    with connections[connection].acquire(block=True) as pooled:
        assert Inbox(pooled, queue_of(name)).wait(1) == ["pooled"]
    producers[connection].force_close_all()
    connections[connection].force_close_all()


def test_a_simple_buffer_keeps_nothing_back(connection: Connection, name: str) -> None:
    buffer = connection.SimpleBuffer(name)
    for n in range(3):
        buffer.put(n)
    assert [buffer.get(timeout=5).payload for _ in range(3)] == [0, 1, 2]
    with pytest.raises(buffer.Empty):
        buffer.get_nowait()
    buffer.clear()
    buffer.close()


@pytest.mark.parametrize("compression", sorted(encoders()))
def test_every_compression(connection: Connection, name: str, compression: str) -> None:
    body = {"text": "dobře " * 500}
    queue = declared(connection, queue_of(name))
    connection.Producer().publish(body, routing_key=name, compression=compression)
    message = queue.get()
    assert message is not None
    assert message.payload == body
    message.ack()


def test_a_body_that_cannot_be_read_goes_to_the_error_callback(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name))
    connection.Producer().publish(
        "no json at all", routing_key=name, content_type="application/json", content_encoding="utf-8"
    )
    errors: list[Any] = []

    def refuse(message: Any, error: BaseException) -> None:
        errors.append(error)
        message.reject()

    with connection.Consumer([queue], callbacks=[lambda *_: None], on_decode_error=refuse):
        connection.drain_events(timeout=5)
    assert len(errors) == 1


def test_a_serializer_that_is_not_accepted_is_refused(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name))
    connection.Producer().publish({"x": 1}, routing_key=name, serializer="pickle")
    message = queue.get(accept=["json"])
    assert message is not None
    with pytest.raises(Exception, match="pickle"):
        message.decode()


def test_unbind_and_bind_again(connection: Connection, name: str) -> None:
    exchange = Exchange(name, type="topic")
    queue = Queue(name, exchange, routing_key="a.#")(connection.default_channel)
    queue.declare()
    producer = connection.Producer(exchange=exchange)
    queue.unbind_from(exchange, "a.#")
    producer.publish("unbound", routing_key="a.b")
    queue.bind_to(exchange, "b.*")
    producer.publish("bound", routing_key="b.c")
    message = queue.get(no_ack=True)
    assert message is not None
    assert message.payload == "bound"
    assert queue.get() is None
    exchange(connection.default_channel).delete()
    queue.delete()


def test_recover_on_the_same_consumer_brings_everything_again(connection: Connection, name: str) -> None:
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=5)
    for n in range(3):
        connection.Producer().publish(n, routing_key=name)
    inbox.wait(3)
    inbox.messages[1].ack()
    inbox.consumer.recover(requeue=True)
    inbox.wait(5)
    assert inbox.bodies[3:] == [0, 2]
    assert all(message.delivery_info["redelivered"] for message in inbox.messages[3:])


def test_ack_of_several_at_once(connection: Connection, fast_server: Server, name: str) -> None:
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=5)
    for n in range(4):
        connection.Producer().publish(n, routing_key=name)
    inbox.wait(4)
    inbox.messages[2].ack(multiple=True)
    client = fast_server.client()
    eventually(lambda: client.xlen(f"{name}(event_stream)") == 1, why="three to be acknowledged together")
    assert [message.acknowledged for message in inbox.messages][2]


class Echo(ConsumerProducerMixin):  # type: ignore[misc]
    """Answers what it gets, and goes on after its connection broke."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer([queue_of(self.name)], callbacks=[self.receive], prefetch_count=1)]

    def receive(self, body: Any, message: Any) -> None:
        self.producer.publish(
            f"re: {body}",
            routing_key=message.properties["reply_to"],
            correlation_id=message.properties["correlation_id"],
        )
        message.ack()


def test_rpc_over_a_mixin_whose_server_goes_away(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    service = Echo(make_connection(proxy.url, lease=1), name)
    thread = threading.Thread(target=service.run, kwargs={"_tokens": 1})
    thread.start()
    try:
        client = make_connection()
        inbox = Inbox(client, queue_of(f"{name}-replies"))
        client.Producer().publish("one", routing_key=name, reply_to=f"{name}-replies", correlation_id="1")
        assert inbox.wait(1) == ["re: one"]
        proxy.cut(refuse=True)
        accepted = proxy.accepted
        proxy.wait_for_accepted(accepted + 5, timeout=20)
        proxy.heal()
        client.Producer().publish("two", routing_key=name, reply_to=f"{name}-replies", correlation_id="2")
        assert inbox.wait(2, timeout=20)[1] == "re: two"
        assert inbox.messages[1].properties["correlation_id"] == "2"
    finally:
        service.should_stop = True
        thread.join(20)
    assert not thread.is_alive()


def test_a_mixin_stops_where_its_connection_is_given_up(make_connection: Callable[..., Connection], name: str) -> None:
    class Worker(ConsumerMixin):  # type: ignore[misc]
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
            return [consumer([queue_of(name)], callbacks=[lambda *_: None])]

    worker = Worker(make_connection())
    with pytest.raises(socket.timeout):
        for _ in worker.consume(limit=None, timeout=0.2):
            pass


def test_mandatory_to_a_queue_that_is_not_there(connection: Connection, fast_server: Server, name: str) -> None:
    returned: list[Any] = []
    producer = connection.Producer(on_return=lambda *found: returned.append(found))
    producer.publish("x", routing_key=name, mandatory=True)
    ((error, exchange, key, _),) = returned
    assert ("NO_ROUTE" in str(error), exchange, key) == (True, "", name)
    other = connection.channel()
    with pytest.raises(ChannelError, match="NO_ROUTE"):
        Producer(other).publish("x", routing_key=name, mandatory=True)
    assert not fast_server.client().exists(f"{name}(event_stream)")
    queue = declared(connection, queue_of(name))
    producer.publish("arrives", routing_key=name, mandatory=True)
    assert len(returned) == 1
    assert queue.get().payload == "arrives"


@needs_batches
def test_mandatory_in_a_batch(connection: Connection, name: str) -> None:
    returned: list[Any] = []
    producer = connection.Producer(on_return=lambda *found: returned.append(found[2]))
    queue = declared(connection, queue_of(name))
    batch = producer.channel.create_publish_batch()
    for key in (name, f"{name}-typo", name):
        batch.publish(producer.channel.prepare_message(key), "", key, mandatory=True)
    batch.flush()
    assert returned == [f"{name}-typo"]
    assert queue.queue_declare(passive=True).message_count == 2


def test_an_exclusive_consumer_is_the_only_one(make_connection: Callable[..., Connection], name: str) -> None:
    one, other = make_connection(), make_connection()
    queue = declared(one, queue_of(name))
    tag = one.default_channel.basic_consume(name, exclusive=True)
    for exclusive in (True, False):
        with pytest.raises(AccessRefused):
            other.channel().basic_consume(name, exclusive=exclusive)
        with pytest.raises(AccessRefused):
            one.channel().basic_consume(name, exclusive=exclusive)
    queue(other.default_channel).queue_declare(passive=True)
    assert queue(other.default_channel).get() is None
    one.default_channel.basic_cancel(tag)
    other.close()
    shared = make_connection()
    shared.channel().basic_consume(name)
    with pytest.raises(AccessRefused):
        one.default_channel.basic_consume(name, exclusive=True)
    shared.close()
    one.default_channel.basic_consume(name, exclusive=True)


def test_an_exclusive_consumer_that_was_cancelled_with_messages_in_hand_lets_others_in(
    make_connection: Callable[..., Connection], name: str
) -> None:
    one = make_connection()
    inbox = Inbox(one, queue_of(name), ack=False)
    inbox.consumer.cancel()
    channel = one.default_channel
    messages: list[Any] = []
    tag = channel.basic_consume(name, exclusive=True, callback=messages.append)
    one.Producer().publish("x", routing_key=name)
    one.drain_events(timeout=5)
    channel.basic_cancel(tag)
    make_connection().default_channel.basic_consume(name)
    messages[0].ack()


def test_a_consumer_tag_is_used_once_on_a_channel(connection: Connection, name: str) -> None:
    declared(connection, queue_of(name))
    channel = connection.default_channel
    channel.basic_consume(name, consumer_tag="t")
    with pytest.raises(NotAllowed):
        channel.basic_consume(name, consumer_tag="t")
    channel.basic_cancel("t")
    channel.basic_consume(name, consumer_tag="t")
