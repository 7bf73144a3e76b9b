"""Kombu's own surface on real servers: what a producer or consumer of plain Kombu does."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection, Exchange, Queue
from kombu.mixins import ConsumerMixin

from elkmq.errors import InvalidOption
from tests.kombu.conftest import Inbox, broker_url, needs_batches
from tests.servers import Server
from tests.waiting import eventually


def queue_of(name: str, **options: Any) -> Queue:
    return Queue(name, Exchange(""), routing_key=name, **options)


def declared(connection: Connection, queue: Queue) -> Queue:
    bound = queue(connection.default_channel)
    bound.declare()
    return bound


def test_publish_and_consume_on_every_server(
    server: Server, make_connection: Callable[..., Connection], name: str
) -> None:
    connection = make_connection(server.url)
    queue = queue_of(name)
    inbox = Inbox(connection, queue)
    with connection.Producer() as producer:
        for n in range(30):
            producer.publish({"n": n}, routing_key=name)
    assert inbox.wait(30) == [{"n": n} for n in range(30)]
    connection.default_channel.session.taker.flush()
    assert queue(connection.default_channel).queue_declare(passive=True).message_count == 0


@pytest.mark.parametrize(
    ("kind", "key", "matches"),
    [("direct", "a.b", ["a.b"]), ("topic", "a.*", ["a.b", "a.c"]), ("fanout", "", ["a.b", "x", "a.c"])],
)
def test_exchanges(connection: Connection, name: str, kind: str, key: str, matches: list[str]) -> None:
    exchange = Exchange(f"{name}-ex", type=kind)
    inbox = Inbox(connection, Queue(name, exchange, routing_key=key))
    with connection.Producer() as producer:
        for each in ("a.b", "x", "a.c"):
            producer.publish(each, exchange=exchange, routing_key=each, declare=[exchange])
    inbox.wait(len(matches))
    assert inbox.bodies == matches
    assert inbox.messages[0].delivery_info["routing_key"] == "a.b"
    assert inbox.messages[0].delivery_info["exchange"] == f"{name}-ex"
    assert inbox.nothing_comes()


def test_headers_exchange(connection: Connection, name: str) -> None:
    exchange = Exchange(f"{name}-ex", type="headers")
    inbox = Inbox(connection, Queue(name, exchange, binding_arguments={"x-match": "all", "kind": "a", "n": 1}))
    with connection.Producer() as producer:
        producer.publish("no", exchange=exchange, headers={"kind": "a"})
        producer.publish("yes", exchange=exchange, headers={"kind": "a", "n": 1})
    assert inbox.wait(1) == ["yes"]
    assert inbox.nothing_comes()


def test_exchange_bound_to_exchange(connection: Connection, name: str) -> None:
    outer, inner = Exchange(f"{name}-outer", type="fanout"), Exchange(f"{name}-inner", type="topic")
    channel = connection.default_channel
    inner(channel).declare()
    outer(channel).declare()
    inbox = Inbox(connection, Queue(name, inner, routing_key="a.#"))
    inner(channel).bind_to(outer)
    with connection.Producer() as producer:
        producer.publish("one", exchange=outer, routing_key="a.b.c")
        producer.publish("two", exchange=outer, routing_key="b")
    assert inbox.wait(1) == ["one"]
    inner(channel).unbind_from(outer)
    with connection.Producer() as producer:
        producer.publish("three", exchange=outer, routing_key="a")
    assert inbox.nothing_comes()


def test_a_producer_elsewhere_learns_of_new_and_removed_bindings(
    make_connection: Callable[..., Connection], name: str
) -> None:
    reader, writer = make_connection(), make_connection()
    exchange = Exchange(f"{name}-ex", type="direct")
    producer = writer.Producer(exchange=exchange)
    producer.publish("to nobody", routing_key="k")
    inbox = Inbox(reader, Queue(name, exchange, routing_key="k"))
    producer.publish("to one", routing_key="k")
    assert inbox.wait(1) == ["to one"]
    other = Inbox(reader, Queue(f"{name}-2", exchange, routing_key="k"))
    producer.publish("to two", routing_key="k")
    assert inbox.wait(2)[-1] == "to two"
    assert other.wait(1) == ["to two"]
    Queue(name, exchange, routing_key="k")(reader.default_channel).unbind_from(exchange, "k")
    producer.publish("to the other", routing_key="k")
    assert other.wait(2)[-1] == "to the other"
    assert inbox.nothing_comes()


def test_a_fanout_waits_for_a_reader_that_is_away(make_connection: Callable[..., Connection], name: str) -> None:
    """celery#5317: an event was lost because nobody listened at that moment."""
    exchange = Exchange(f"{name}-ex", type="fanout")
    queue = Queue(name, exchange)
    with make_connection() as first:
        declared(first, queue)
        first.Producer().publish("kept", exchange=exchange)
    assert Inbox(make_connection(), queue).wait(1) == ["kept"]


def test_reject_requeue_and_what_comes_back_says_so(connection: Connection, name: str) -> None:
    inbox = Inbox(connection, queue_of(name), ack=False)
    connection.Producer().publish("again", routing_key=name)
    inbox.wait(1)
    assert not inbox.messages[0].delivery_info["redelivered"]
    inbox.messages[0].requeue()
    inbox.wait(2)
    assert inbox.messages[1].delivery_info["redelivered"]
    assert inbox.messages[1].headers["x-delivery-count"] == 1
    inbox.messages[1].reject()
    assert inbox.nothing_comes()
    session = connection.default_channel.session
    session.taker.flush()
    dead = session.run(session.readers[name].verbs.dead_letters())
    assert [entry.fields[b"reason"] for entry in dead] == [b"rejected"]


def test_get(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name))
    assert queue.get() is None
    connection.Producer().publish({"a": 1}, routing_key=name)
    message = queue.get()
    assert message is not None
    assert message.payload == {"a": 1}
    assert queue.get() is None
    message.requeue()
    again = queue.get(no_ack=True)
    assert again is not None
    assert again.payload == {"a": 1}
    assert queue.get() is None


def test_what_is_not_there(connection: Connection, name: str) -> None:
    channel = connection.default_channel
    with pytest.raises(NotFound, match="no queue"):
        queue_of(name)(channel).queue_declare(passive=True)
    with pytest.raises(NotFound, match="no queue"):
        channel.queue_purge(name)
    with pytest.raises(NotFound, match="no exchange"):
        channel.exchange_declare(name, passive=True)
    with pytest.raises(NotFound, match="no exchange"):
        connection.Producer().publish("x", exchange=name)
    with pytest.raises(NotFound, match="no exchange"):
        channel.queue_bind(name, exchange=f"{name}-ex")


def test_declared_differently(connection: Connection, name: str) -> None:
    declared(connection, queue_of(name, message_ttl=5))
    declared(connection, queue_of(name, message_ttl=5))
    with pytest.raises(PreconditionFailed, match="x-message-ttl"):
        declared(connection, queue_of(name, message_ttl=6))
    channel = connection.default_channel
    channel.exchange_declare(name, type="topic")
    channel.exchange_declare(name, type="topic")
    with pytest.raises(PreconditionFailed, match="topic"):
        channel.exchange_declare(name, type="fanout")


def test_purge_and_delete(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name))
    producer = connection.Producer()
    for n in range(3):
        producer.publish(n, routing_key=name)
    with pytest.raises(PreconditionFailed, match="not empty"):
        queue.delete(if_empty=True)
    assert queue.purge() == 3
    consumer = connection.Consumer([queue], callbacks=[lambda *_: None])
    consumer.consume()
    with pytest.raises(PreconditionFailed, match="in use"):
        queue.delete(if_unused=True)
    consumer.cancel()
    queue.delete(if_unused=True, if_empty=True)
    with pytest.raises(NotFound):
        queue.queue_declare(passive=True)


def test_prefetch_is_never_exceeded(connection: Connection, name: str) -> None:
    """celery#6500: prefetch grew past its limit."""
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=2)
    producer = connection.Producer()
    for n in range(5):
        producer.publish(n, routing_key=name)
    assert inbox.wait(2) == [0, 1]
    assert inbox.nothing_comes()
    counts = connection.default_channel.session
    stats = counts.run(counts.routing.queue_look(name))
    assert (stats.ready, stats.unacked) == (3, 2)
    inbox.messages[0].ack()
    assert inbox.wait(3) == [0, 1, 2]
    assert inbox.nothing_comes()


def test_acked_before_the_next_callback_starts(connection: Connection, fast_server: Server, name: str) -> None:
    inbox = Inbox(connection, queue_of(name), prefetch=100)
    producer = connection.Producer()
    for n in range(20):
        producer.publish(n, routing_key=name)
    inbox.wait(7)
    client = fast_server.client()
    eventually(lambda: client.xlen(f"{name}(event_stream)") == 13, why="seven acknowledgements to arrive, unasked for")


def test_recover_and_close_hand_back(make_connection: Callable[..., Connection], name: str) -> None:
    first, second = make_connection(), make_connection()
    inbox = Inbox(first, queue_of(name), ack=False, prefetch=10)
    for n in range(4):
        first.Producer().publish(n, routing_key=name)
    inbox.wait(4)
    first.default_channel.basic_recover()
    inbox.wait(8)
    inbox.messages[4].ack()
    first.release()
    other = Inbox(second, queue_of(name))
    other.wait(3, timeout=5)
    assert sorted(other.bodies) == [1, 2, 3]
    assert all("x-delivery-count" not in message.headers for message in other.messages)


def test_no_ack_gives_back_what_was_not_seen(make_connection: Callable[..., Connection], name: str) -> None:
    first, second = make_connection(), make_connection()
    for n in range(5):
        first.Producer().publish(n, routing_key=name, declare=[queue_of(name)])
    inbox = Inbox(first, queue_of(name), no_ack=True)
    assert inbox.wait(2) == [0, 1]
    first.release()
    assert Inbox(second, queue_of(name), no_ack=True).wait(3) == [2, 3, 4]


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_serializers_and_compression(
    connection: Connection, name: str, serializer: str, compression: str | None
) -> None:
    if serializer in ("yaml", "msgpack"):
        pytest.importorskip(serializer)
    body = {"text": "žluťoučký kůň 🐎", "n": [1, 2.5, None]}
    inbox = Inbox(connection, queue_of(name), accept=[serializer])
    connection.Producer().publish(body, routing_key=name, serializer=serializer, compression=compression)
    assert inbox.wait(1) == [body]


def test_binary_bodies_come_back_to_the_byte(connection: Connection, name: str) -> None:
    body = bytes(range(256)) * 3 + pickle.dumps({"x": 1})
    queue = declared(connection, queue_of(name))
    connection.Producer().publish(body, routing_key=name, content_type="application/data", content_encoding="binary")
    message = queue.get()
    assert message is not None
    assert message.body == body


def test_non_ascii_names_and_headers(connection: Connection, name: str) -> None:
    queue = f"{name}-žluť 馬"
    inbox = Inbox(connection, queue_of(queue))
    connection.Producer().publish("x", routing_key=queue, headers={"klíč": "hodnota"}, correlation_id="é", reply_to="ř")
    inbox.wait(1)
    message = inbox.messages[0]
    assert message.headers["klíč"] == "hodnota"
    assert message.properties["correlation_id"] == "é"
    assert message.properties["reply_to"] == "ř"


def test_simple_queue(connection: Connection, name: str) -> None:
    queue = connection.SimpleQueue(name)
    queue.put({"a": 1})
    queue.put({"a": 2})
    assert queue.qsize() == 2
    message = queue.get(timeout=5)
    assert message.payload == {"a": 1}
    message.ack()
    message = queue.get(timeout=5)
    assert message.payload == {"a": 2}
    message.ack()
    with pytest.raises(queue.Empty):
        queue.get(block=False)
    with pytest.raises(queue.Empty):
        queue.get(timeout=0.1)
    queue.close()


def test_consumer_mixin(make_connection: Callable[..., Connection], name: str) -> None:
    class Worker(ConsumerMixin):  # type: ignore[misc]
        def __init__(self, connection: Connection) -> None:
            self.connection = connection
            self.seen: list[Any] = []

        def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
            return [consumer([queue_of(name)], callbacks=[self.receive])]

        def receive(self, body: Any, message: Any) -> None:
            self.seen.append(body)
            message.ack()
            self.should_stop = len(self.seen) == 3

    writer = make_connection()
    for n in range(3):
        writer.Producer().publish(n, routing_key=name, declare=[queue_of(name)])
    worker = Worker(make_connection())
    thread = threading.Thread(target=worker.run)
    thread.start()
    thread.join(10)
    assert worker.seen == [0, 1, 2]


def test_mandatory(connection: Connection, name: str) -> None:
    exchange = Exchange(name, type="direct")
    returned: list[Any] = []
    producer = connection.Producer(exchange=exchange)
    with pytest.raises(Exception, match="NO_ROUTE") as caught:
        producer.publish("x", routing_key="nowhere", mandatory=True)
    assert isinstance(caught.value, connection.channel_errors)
    listening = connection.Producer(exchange=exchange, on_return=lambda *given: returned.append(given))
    listening.publish("x", routing_key="nowhere", mandatory=True)
    assert len(returned) == 1
    assert returned[0][1:3] == (name, "nowhere")


def test_unroutable_queue(make_connection: Callable[..., Connection], name: str) -> None:
    connection = make_connection(unroutable_queue=f"{name}-lost")
    connection.Producer(exchange=Exchange(name, type="direct")).publish("x", routing_key="nowhere")
    assert Inbox(connection, queue_of(f"{name}-lost")).wait(1) == ["x"]


@needs_batches
def test_batch(connection: Connection, fast_server: Server, name: str) -> None:
    producer = connection.Producer()
    fanout = Exchange(f"{name}-ex", type="fanout")
    inboxes = [Inbox(connection, Queue(f"{name}-{n}", fanout)) for n in range(2)]
    plain = Inbox(connection, queue_of(name))
    with producer.batch(max_size=50):
        for n in range(10):
            producer.publish(n, exchange=fanout, declare=[fanout])
            producer.publish(n, routing_key=name)
        assert (
            not fast_server.client().exists(f"{name}(event_stream)")
            or fast_server.client().xlen(f"{name}(event_stream)") == 0
        )
    assert plain.wait(10) == list(range(10))
    for inbox in inboxes:
        assert inbox.wait(10) == list(range(10))


def test_auto_delete_goes_with_its_last_consumer(connection: Connection, fast_server: Server, name: str) -> None:
    queue = queue_of(name, auto_delete=True, durable=False)
    one, two = Inbox(connection, queue), Inbox(connection, queue)
    one.consumer.cancel()
    queue(connection.default_channel).queue_declare(passive=True)
    two.consumer.cancel()
    with pytest.raises(NotFound):
        queue(connection.default_channel).queue_declare(passive=True)
    # What is still sent to it is dropped, and makes no queue again.
    connection.Producer().publish("late", routing_key=name)
    assert not fast_server.client().exists(f"{name}(event_stream)")


def test_two_channels_have_a_prefetch_each(connection: Connection, name: str) -> None:
    inboxes = []
    for n in range(2):
        channel = connection.channel()
        seen: list[Any] = []
        consumer = connection.Consumer(
            [queue_of(f"{name}-{n}")], channel=channel, callbacks=[lambda b, _, s=seen: s.append(b)]
        )
        consumer.qos(prefetch_count=n + 1)
        consumer.consume()
        inboxes.append(seen)
    for n in range(8):
        connection.Producer().publish(n, routing_key=f"{name}-{n % 2}")
    with pytest.raises(socket.timeout):
        while True:
            connection.drain_events(timeout=0.3)
    assert [len(seen) for seen in inboxes] == [1, 2]


def test_one_connection_serves_one_waiting_thread(connection: Connection, name: str) -> None:
    Inbox(connection, queue_of(name))
    errors: list[BaseException] = []

    def drain() -> None:
        try:
            connection.drain_events(timeout=5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: errors, why="the second one to be told")
    assert "two threads" in str(errors[0])
    connection.Producer().publish("end", routing_key=name)
    for thread in threads:
        thread.join(10)


def test_urls_and_failover(make_server: Callable[..., Server], name: str) -> None:
    server = make_server(password="se/cret@")
    good = broker_url(server.url)
    with Connection(f"elkmq://127.0.0.1:1/0;{good}?lease=10") as connection:
        connection.ensure_connection(max_retries=3, interval_start=0)
        connection.SimpleQueue(name).put("x")
        assert "se/cret" not in connection.as_uri()
        assert "cret" not in repr(connection)
        info = dict(connection.info())
        assert "cret" not in str(info["hostname"])
    with Connection(f"elkmq+socket://:{'se%2Fcret%40'}@{server.socket}") as connection:
        assert connection.SimpleQueue(name).get(timeout=5).payload == "x"
    with pytest.raises(InvalidOption, match="lease"):
        Connection("elkmq://localhost", transport_options={"leese": 1}).connect()
    with pytest.raises(connection_refused()):
        Connection("elkmq://127.0.0.1:1/0").connect()
    with (
        Connection(good.replace("se%2Fcret%40", "wrong")) as connection,
        pytest.raises(Exception, match="refused") as caught,
    ):
        connection.connect()
    assert "wrong" not in str(caught.value)


def connection_refused() -> tuple[type[BaseException], ...]:
    return tuple(Connection("elkmq://").connection_errors)
