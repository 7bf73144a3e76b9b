"""Messages that live for seconds and that nobody acknowledges, such as Celery's events: they are settled together."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection, Queue

from elkmq import EventQueue
from tests.kombu.conftest import Inbox
from tests.kombu.test_costs import commands
from tests.kombu.test_transport import declared, queue_of
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
