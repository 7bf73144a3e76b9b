"""What a process publishes to a queue of its own reaches the reader there without the server, and nobody can tell."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Connection, Exchange, Producer, Queue
from kombu.asynchronous import Hub

from elkmq import EventQueue
from elkmq.errors import ServerConnectionError
from kombu_elkmq.links import wait_readable
from kombu_elkmq.reader import Reader
from kombu_elkmq.session import Session
from tests.kombu.conftest import Inbox, needs_batches
from tests.kombu.test_costs import commands
from tests.servers import Server
from tests.waiting import Program, eventually

BINDS = """
import sys
from kombu import Connection, Exchange, Queue
import kombu_elkmq
url, name = sys.argv[1:]
with Connection(url) as connection:
    Queue(f"{name}-other", Exchange(name, type="topic"), routing_key="#")(connection.default_channel).declare()
"""

FORKS = """
import os, sys
from kombu import Connection, Exchange, Queue
import kombu_elkmq
from tests.waiting import eventually
url, name = sys.argv[1:]
exchange = Exchange(name, type="topic")
queue = Queue(name, exchange, routing_key="#", auto_delete=True, durable=False, message_ttl=5)
seen = []
with Connection(url) as connection, Connection(url) as other:
    with connection.Consumer([queue], callbacks=[lambda body, message: seen.append(body)], no_ack=True):
        producer = other.Producer(exchange=exchange)
        def until(done):
            while not done():
                connection.drain_events(timeout=20)
        producer.publish("first")
        until(lambda: "first" in seen)
        (reader,) = connection.connection.readers.values()
        heart = connection.connection._heart(reader)
        with heart._changed:
            heart._members[reader]._unseen, heart._beat_at = 100, 0.0
            heart._changed.notify()
        eventually(lambda: heart.alone(reader) >= other.connection.routes.known_since(name))
        producer.publish("before")
        print("handed", len(connection.connection.deliveries.handed), flush=True)
        until(lambda: "before" in seen)
        if os.fork() == 0:
            with Connection(url) as own:
                own.Producer(exchange=exchange).publish("child")
            os._exit(0)
        until(lambda: "child" in seen)
        producer.publish("after")
        until(lambda: "after" in seen)
        print(seen, flush=True)
"""


def own(name: str, exchange: str = "", **options: Any) -> Queue:
    """A queue as Celery has one for each reader of events."""
    topic = Exchange(exchange or name, type="topic")
    options = {"auto_delete": True, "durable": False, "message_ttl": 5, **options}
    return Queue(name, topic, routing_key="#", **options)


def stored(server: Server) -> int:
    """How many entries the server was sent since its statistics were reset."""
    return commands(server).get("xadd", 0)


class Pair:
    """A reader of a queue of its own, and a producer over another connection of the same process."""

    def __init__(self, make_connection: Callable[..., Connection], server: Server, name: str, **options: Any) -> None:
        self.server, self.name = server, name
        self.reading, self.writing = make_connection(server.url), make_connection(server.url)
        self.inbox = Inbox(self.reading, own(name), no_ack=True, **options)
        self.producer = self.writing.Producer(exchange=own(name).exchange)
        self.publish("warm")
        assert self.inbox.wait(1) == ["warm"]
        self.let_heart_look()
        self.inbox.bodies.clear()
        self.inbox.messages.clear()
        server.client().config_resetstat()

    @property
    def session(self) -> Session:
        found: Session = self.reading.default_channel.session
        return found

    @property
    def reader(self) -> Reader:
        return self.session.readers[self.name]

    def publish(self, body: Any, **options: Any) -> None:
        self.producer.publish(body, routing_key="a.b", **options)

    def let_heart_look(self) -> None:
        """Have it be known whether the reader is alone, and what its queue is set to, which the heart looks at once a lease."""
        heart = self.session._heart(self.reader)
        before = self.reader.confirmed
        with heart._changed:
            heart._members[self.reader]._unseen = 100
            heart._members[self.reader].at = heart._beat_at = 0.0
            heart._changed.notify()
        eventually(lambda: self.reader.confirmed > before, why="a heartbeat")

    def expect(self, bodies: list[Any], *, through_server: int) -> None:
        """That these were read, so many of them from the server."""
        assert self.inbox.wait(len(bodies)) == bodies
        assert stored(self.server) == through_server


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """One with nobody else's commands."""
    return make_server()


@pytest.fixture
def pair(make_connection: Callable[..., Connection], server: Server, name: str) -> Pair:
    return Pair(make_connection, server, name)


def test_a_publish_is_one_command_and_no_read(pair: Pair) -> None:
    before = pair.reader.seen()
    for n in range(20):
        pair.publish(n)
        pair.inbox.wait(n + 1)
    pair.expect(list(range(20)), through_server=0)
    found = commands(pair.server)
    assert found["hget"] == 20
    assert found.get("xreadgroup", 0) <= 1  # a wait that was over
    assert pair.reader.seen() == before  # nothing is to be settled


def test_a_binding_of_another_process_holds_from_the_next_publish_on(
    pair: Pair, make_program: Callable[..., Program], server: Server, name: str
) -> None:
    pair.publish("alone")
    pair.expect(["alone"], through_server=0)
    make_program(BINDS, server.url.replace("redis", "elkmq", 1), name).wait(20)
    pair.publish("both")
    assert pair.inbox.wait(2) == ["alone", "both"]
    with EventQueue(f"{name}-other", server.url) as queue:
        assert queue.stats().ready == 1
    pair.let_heart_look()
    server.client().config_resetstat()
    pair.publish("again both")
    pair.expect(["alone", "both", "again both"], through_server=1)  # the other's copy
    assert commands(server)["evalsha"] == 1
    with EventQueue(f"{name}-other", server.url) as queue:
        assert queue.stats().ready == 2


def test_who_was_alone_before_the_route_was_loaded_may_not_be_since(pair: Pair) -> None:
    """Its queue may have been deleted and made anew, by somebody who reads it as well: the heart has to look again."""
    pair.publish("known")
    pair.expect(["known"], through_server=0)
    pair.writing.default_channel.session.routes.forget_all()
    pair.publish("loaded anew")
    pair.expect(["known", "loaded anew"], through_server=1)
    pair.let_heart_look()
    pair.publish("looked again")
    pair.expect(["known", "loaded anew", "looked again"], through_server=1)


def test_what_is_not_bound_any_more_is_not_handed_over(pair: Pair) -> None:
    pair.inbox.consumer.queues[0].unbind_from(pair.producer.exchange, routing_key="#")
    pair.publish("nowhere")
    assert pair.inbox.nothing_comes()


def message_of(**options: Any) -> dict[str, Any]:
    return options


@pytest.mark.parametrize(
    "options",
    [
        message_of(body={"a": [1, None, "é"]}),
        message_of(body=b"\xff\x00", content_type="application/data", content_encoding="binary"),
        message_of(body="text " * 100, compression="gzip"),
        message_of(body="x", headers={"n": 1, "deep": {"a": [True]}}, correlation_id="c", reply_to="r", type="t"),
        message_of(body={"hostname": "w@h"}, delivery_mode=1, app_id="app", user_id="u", timestamp=17),
        message_of(body=[1], serializer="pickle"),
    ],
)
def test_it_looks_like_one_that_came_through_the_server(
    make_connection: Callable[..., Connection], server: Server, name: str, options: dict[str, Any]
) -> None:
    pair = Pair(make_connection, server, name, accept=["json", "pickle", "text/plain", "application/data"])
    pair.reader.confirmed -= pair.reader.lease
    pair.publish(**options)
    pair.let_heart_look()
    pair.inbox.wait(1)
    assert stored(server) == 1
    pair.publish(**options)
    pair.inbox.wait(2)
    assert stored(server) == 1

    def seen(message: Any) -> dict[str, Any]:
        found = dict(vars(message))
        found["properties"] = {**message.properties, "delivery_tag": None}
        return {**found, "delivery_tag": None, "payload": message.payload}

    one, other = pair.inbox.messages
    assert seen(one) == seen(other)
    assert other.delivery_tag == other.properties["delivery_tag"] == one.delivery_tag + 1


def test_order_is_kept_though_some_go_through_the_server(
    make_connection: Callable[..., Connection], server: Server, name: str
) -> None:
    pair = Pair(make_connection, server, name, prefetch=3)
    sent = 0
    for read in (1, 4, 2, 7, 3):
        for _ in range(6):  # more than there is room for
            pair.publish(sent)
            sent += 1
        while len(pair.inbox.bodies) < sent - read % 3:
            pair.reading.drain_events(timeout=10)
            if len(pair.inbox.bodies) % 4 == 0:
                pair.publish(sent)
                sent += 1
    assert pair.inbox.wait(sent) == list(range(sent))
    assert 0 < stored(server) < sent


def test_what_was_handed_over_is_not_overtaken_by_what_is_read(pair: Pair) -> None:
    pair.publish(0)
    pair.writing.Producer().publish(1, routing_key=pair.name)
    assert pair.session.waiter is not None
    wait_readable([pair.session.waiter.fd], 10)
    pair.session.waiter.look()  # nobody handed anything out since
    pair.expect([0, 1], through_server=1)


def test_who_waits_for_messages_is_woken(pair: Pair) -> None:
    assert not select.select([pair.session.pipe], [], [], 0)[0]
    pair.publish(0)
    assert select.select([pair.session.pipe], [], [], 0)[0]


def test_threads_that_publish_keep_their_order(
    make_connection: Callable[..., Connection], pair: Pair, server: Server, name: str
) -> None:
    each = 300

    def publish(thread: int) -> None:
        with Producer(make_connection(server.url), exchange=own(name).exchange) as producer:
            for n in range(each):
                producer.publish([thread, n], routing_key="a")

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    found = pair.inbox.wait(2 * each)
    for thread in threads:
        thread.join()
    assert [[n for thread, n in found if thread == which] for which in range(2)] == [list(range(each))] * 2
    assert pair.inbox.nothing_comes()


def test_a_forked_child_hands_nothing_to_its_parent_s_reader(
    make_program: Callable[..., Program], fast_server: Server, name: str
) -> None:
    program = make_program(FORKS, fast_server.url.replace("redis", "elkmq", 1), name)
    program.wait_for("handed 1", 30)
    program.wait_for("['first', 'before', 'child', 'after']", 30)


def acking(pair: Pair) -> None:
    pair.reading.Consumer([own(pair.name)], callbacks=[lambda _, message: message.ack()]).consume()
    eventually(lambda: pair.inbox.nothing_comes(0.05) and not pair.reader.hungry, why="a look at the queue")


def lost(pair: Pair) -> None:
    pair.reader.confirmed -= pair.reader.lease * 0.7  # the heart could not reach the server for so long


def paused(pair: Pair) -> None:
    with EventQueue(pair.name, pair.server.url) as queue:
        queue.pause()
    eventually(lambda: pair.inbox.nothing_comes(0.05) and pair.reader.state == "paused", why="the pause")


def set_otherwise(pair: Pair) -> None:
    with EventQueue(pair.name, pair.server.url) as queue:
        queue.configure(max_length=10)
    pair.let_heart_look()
    eventually(lambda: pair.inbox.nothing_comes(0.05) and not pair.reader.own, why="the settings")


@pytest.mark.parametrize("change", [acking, lost, paused, set_otherwise])
def test_to_whom_it_goes_through_the_server(pair: Pair, change: Callable[[Pair], None]) -> None:
    change(pair)
    pair.server.client().config_resetstat()
    pair.publish("x")
    assert stored(pair.server) >= 1
    assert not pair.reader.buffer
    assert not pair.session.deliveries.handed


@pytest.mark.parametrize(
    "options",
    [{"expiration": 60}, {"priority": 3}, {"mandatory": True}, {"message_id": "m"}, {"headers": {"task": "t", "id": "i"}}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_what_goes_through_the_server(pair: Pair, options: dict[str, Any]) -> None:
    pair.publish("x", **options)
    assert stored(pair.server) >= 1  # for a priority that was not used before there is a wake token too
    assert pair.inbox.wait(1) == ["x"]


def test_what_is_sent_straight_to_the_queue_goes_through_the_server_and_is_not_overtaken(pair: Pair) -> None:
    straight = pair.writing.Producer()
    for n in range(10):
        straight.publish(2 * n, routing_key=pair.name)
        pair.publish(2 * n + 1)
    pair.expect(list(range(20)), through_server=20)


@needs_batches
def test_a_batch_goes_through_the_server(pair: Pair) -> None:
    channel = pair.writing.default_channel
    batch = channel.create_publish_batch()
    for n in range(2):
        batch.publish(channel.prepare_message(f"{n}", content_type="application/json"), pair.name, "a")
    batch.flush()
    pair.expect([0, 1], through_server=2)


def test_a_reader_that_shares_its_queue_gets_what_the_server_gives_it(pair: Pair, name: str) -> None:
    with EventQueue(name, pair.server.url) as queue, queue.consumer() as consumer:
        assert consumer.get(timeout=0) is None
        pair.let_heart_look()
        pair.server.client().config_resetstat()
        pair.publish("x")
        assert stored(pair.server) == 1


def test_it_is_handed_to_all_readers_of_the_process(
    make_connection: Callable[..., Connection], pair: Pair, server: Server, name: str
) -> None:
    others = [Inbox(make_connection(server.url), own(f"{name}-{n}", name), no_ack=True) for n in range(2)]
    pair.publish("through the server")
    for inbox in (pair.inbox, *others):
        inbox.wait(1)
    pair.let_heart_look()
    server.client().config_resetstat()
    pair.publish("handed over")
    for inbox in (pair.inbox, *others):
        assert inbox.wait(2)[1] == "handed over"
    assert stored(server) == 0


def test_who_goes_with_its_queue_drops_what_it_was_handed(
    pair: Pair, server: Server, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        pair.publish(n)
        if n == 1:
            pair.session.deliveries.handed.take_in()
    assert stored(server) == 0
    link = pair.session.consuming()
    server.client().config_resetstat()
    pair.reader.subscriptions.clear()
    pair.session.deliveries.hand_back_buffered(pair.reader)
    link.flush()
    assert "evalsha" not in commands(server)
    pair.reading.release()
    assert not server.client().exists(f"{name}(event_stream)")
    assert pair.inbox.bodies == []
    pair.publish("nowhere")
    assert not caplog.records


def test_who_acknowledges_or_asks_is_not_given_what_was_handed_over(pair: Pair) -> None:
    channel = pair.reading.channel()
    for n in range(3):
        pair.publish(n)
    pair.session.deliveries.handed.take_in()
    assert channel.basic_get(pair.name) is None
    got: list[Any] = []
    pair.reading.Consumer([own(pair.name)], channel=channel, callbacks=[lambda body, _: got.append(body)]).consume()
    assert pair.inbox.wait(3) == [0, 1, 2]
    assert stored(pair.server) == 0
    assert not channel.unacked
    pair.publish(3)
    while len(pair.inbox.bodies) + len(got) < 4:
        pair.reading.drain_events(timeout=10)
    assert stored(pair.server) == 1


def test_its_time_to_live_is_kept(pair: Pair) -> None:
    pair.publish("old")
    pair.session.deliveries.handed.take_in()
    pair.reader.server_ahead += 5000  # so much later
    pair.publish("new")
    assert pair.inbox.wait(1) == ["new"]


def test_a_server_that_is_away_is_an_error_and_nothing_was_published(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server(appendonly=True)
    pair = Pair(make_connection, server, name)
    pair.writing = make_connection(server.url, publish_timeout=0.3)
    pair.producer = pair.writing.Producer(exchange=own(name).exchange)
    pair.publish("first")
    pair.inbox.wait(1)
    pair.let_heart_look()
    pair.publish("second")
    pair.expect(["first", "second"], through_server=1)
    server.kill()
    with pytest.raises(ServerConnectionError, match=r"nothing was (sent|published)"):
        pair.publish("third")
    server.start()
    assert pair.inbox.nothing_comes(0.1)
    pair.publish("third")
    assert pair.inbox.wait(3)[2:] == ["third"]
    assert pair.inbox.nothing_comes()


def test_on_an_event_loop(pair: Pair, closing: ExitStack) -> None:
    hub = Hub()
    closing.callback(hub.close)
    passes = hub.create_loop()
    pair.reading.transport.register_with_event_loop(pair.reading.connection, hub)

    def publish() -> None:
        for n in range(100):  # more than one pass hands out
            pair.publish(n)

    thread = threading.Thread(target=publish)
    hub.call_soon(thread.start)
    while len(pair.inbox.bodies) < 100:
        next(passes)
    thread.join()
    pair.expect(list(range(100)), through_server=0)
