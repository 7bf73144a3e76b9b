"""Messages that live for seconds and that nobody acknowledges, such as Celery's events: they are settled together."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection, Exchange, Queue

from elkmq import EventQueue
from tests.kombu.conftest import Inbox
from tests.kombu.test_costs import commands
from tests.kombu.test_transport import declared, queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import Program, eventually

READER = """
import sys
from kombu import Connection, Exchange, Queue
import kombu_elkmq
url, name = sys.argv[1:]
with Connection(url) as connection:
    queue = Queue(name, Exchange(""), routing_key=name, message_ttl=0.9)
    with connection.Consumer([queue], callbacks=[lambda body, message: print("seen", body, flush=True)], no_ack=True):
        while True:
            connection.drain_events()
"""


def own(name: str) -> Queue:
    """A queue as Celery has one for each reader of events."""
    return Queue(name, Exchange(f"{name}-events", type="fanout"), auto_delete=True, durable=False, message_ttl=5)


def brief(name: str, ttl: float = 5) -> Queue:
    return queue_of(name, message_ttl=ttl)


def test_they_are_settled_together(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    inbox = Inbox(connection, brief(name), no_ack=True)
    producer = connection.Producer()
    producer.publish("warm", routing_key=name)
    inbox.wait(1)
    server.client().config_resetstat()
    for n in range(20):  # each by itself, as events come
        producer.publish(n, routing_key=name)
        inbox.wait(n + 2)
    assert not {"xack", "xdel"} & set(commands(server))
    for n in range(100):
        producer.publish(n, routing_key=name)
    inbox.wait(121)
    assert inbox.nothing_comes()
    connection.default_channel.session.taker.flush()
    assert commands(server)["xack"] == 1


def test_who_closes_leaves_nothing_of_what_was_seen(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    one, other = make_connection(), make_connection()
    inbox = Inbox(one, brief(name), no_ack=True)
    for n in range(5):
        one.Producer().publish(n, routing_key=name)
    assert inbox.wait(5) == list(range(5))
    one.release()
    with EventQueue(name, fast_server.url) as queue:
        assert queue.stats().completed == 5
    witness = Inbox(other, brief(name), no_ack=True)
    assert witness.nothing_comes()


def test_what_a_killed_process_saw_is_handed_to_nobody(
    make_connection: Callable[..., Connection], make_program: Callable[..., Program], fast_server: Server, name: str
) -> None:
    url = fast_server.url.replace("redis", "elkmq", 1) + "?lease=3"
    connection = make_connection(url)
    declared(connection, brief(name, 0.9))
    program = make_program(READER, url, name)
    with EventQueue(name, fast_server.url) as queue:
        eventually(lambda: len(queue.stats().consumers) == 1, why="the reader to be there")
        for n in range(5):
            connection.Producer().publish(n, routing_key=name)
        program.wait_for("seen 4")
        program.kill()
        inbox = Inbox(connection, brief(name, 0.9), no_ack=True)
        while queue.stats().expired < 5:
            assert inbox.nothing_comes()
    assert inbox.bodies == []
    assert inbox.nothing_comes()


def test_an_event_leaves_no_mark(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    inbox = Inbox(connection, own(name), no_ack=True)
    producer = connection.Producer(exchange=own(name).exchange)
    producer.publish("warm")
    inbox.wait(1)
    server.client().config_resetstat()
    producer.publish("x")
    assert commands(server).get("set", 0) == 0
    assert inbox.wait(2) == ["warm", "x"]


def test_an_event_whose_answer_was_lost_is_read_once(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    inbox = Inbox(make_connection(), own(name), no_ack=True)
    proxy = make_proxy(fast_server.url)
    producer = make_connection(proxy.url).Producer(exchange=own(name).exchange)
    producer.publish("first")
    proxy.swallow("reply", b"precious")
    producer.publish("precious")
    proxy.wait_until_swallowed()
    producer.publish("last")
    # A copy of it that came twice would be before the last.
    assert inbox.wait(3) == ["first", "precious", "last"]
    assert fast_server.client().xinfo_stream(f"{name}(event_stream)").get("entries-added", 4) == 4
    assert inbox.nothing_comes()


def test_an_event_published_twice_with_one_message_id_is_read_once(connection: Connection, name: str) -> None:
    inbox = Inbox(connection, own(name), no_ack=True)
    producer = connection.Producer(exchange=own(name).exchange)
    for body in ("a", "b", "a"):
        producer.publish(body, message_id=f"{name}-{body}")
    producer.publish("last")
    assert inbox.wait(3) == ["a", "b", "last"]
    found = own(f"{name}-got")(connection.default_channel)
    found.declare()
    for _ in range(2):
        producer.publish("c", exchange=found.exchange.name, message_id=f"{name}-c")
    message = found.get(no_ack=True)
    assert message is not None
    assert message.payload == "c"
    assert found.get(no_ack=True) is None
