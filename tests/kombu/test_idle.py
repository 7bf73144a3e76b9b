"""A consumer with nothing to do costs little, and misses nothing by that."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection

from elkmq._core import clock
from kombu_elkmq import upkeep
from tests.kombu.conftest import Inbox
from tests.kombu.test_costs import commands
from tests.kombu.test_transport import queue_of
from tests.servers import Server
from tests.waiting import eventually


def drained(inbox: Inbox, happened: Callable[[], bool]) -> bool:
    return inbox.nothing_comes(0.05) and happened()


def test_chores_of_a_queue_where_nothing_happens_are_looked_for_and_not_done(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    inbox = Inbox(make_connection(server.url, lease=1), queue_of(name))
    # Each time that they are done there is a sample of the counters.
    eventually(lambda: drained(inbox, lambda: server.client().llen(f"{name}(rates)") == 1), why="the first chores")
    server.client().config_resetstat()
    eventually(lambda: drained(inbox, lambda: commands(server).get("exists", 0) >= 3), why="three looks")
    found = commands(server)
    assert "lpush" not in found
    assert found["zrange"] < found["zadd"]  # nor is each heartbeat for the leases of others, where there are none


def test_they_are_done_where_something_is_left_over(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    client = fast_server.client()
    inbox = Inbox(make_connection(lease=1), queue_of(name))
    eventually(lambda: drained(inbox, lambda: client.llen(f"{name}(rates)") == 1), why="the first chores")
    client.lpush(f"{name}(message_queue)", "0-1")  # what a client of elk-mq 0.1 leaves
    eventually(lambda: drained(inbox, lambda: not client.exists(f"{name}(message_queue)")), why="it to be gone")


def test_settings_that_nobody_told_of_are_noticed(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    client = fast_server.client()
    connection = make_connection(lease=1)
    inbox = Inbox(connection, queue_of(name))
    reader = connection.default_channel.session.readers[name]
    eventually(lambda: drained(inbox, lambda: client.llen(f"{name}(rates)") == 1), why="the first chores")
    client.set(f"{name}(settings)", "format=1\nttl=60000\n")
    eventually(lambda: drained(inbox, lambda: reader.ttl == 60_000), why="the reader to know")
    assert not reader.plain


def test_one_connection_of_a_process_looks_at_unused_queues_for_the_others(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    consuming, publishing = make_connection(server.url), make_connection(server.url)
    inbox = Inbox(consuming, queue_of(name))
    producer = publishing.Producer()
    producer.publish("warm", routing_key=name)
    inbox.wait(1)
    consuming.default_channel.session.sweep_at = 0.0
    server.client().config_resetstat()
    eventually(lambda: drained(inbox, lambda: commands(server).get("smembers") == 1), why="a look")
    consuming.default_channel.session.taker.flush()
    publishing.default_channel.session.unused_at = 0.0  # a lease went by
    producer.publish("x", routing_key=name)
    assert commands(server)["smembers"] == 1
    session = publishing.default_channel.session
    session.unused_at, session.unused_soon = 0.0, True  # a queue that was declared here may be unused by now
    producer.publish("y", routing_key=name)
    assert commands(server)["smembers"] == 2


def test_of_two_connections_that_consume_one_looks_once_a_lease(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    inboxes = [Inbox(make_connection(server.url), queue_of(f"{name}-{n}")) for n in range(2)]
    sessions = [inbox.connection.default_channel.session for inbox in inboxes]

    def looks() -> int:
        for inbox, session in zip(inboxes, sessions, strict=True):
            assert inbox.nothing_comes(0)
            session.taker.flush()
        return commands(server).get("smembers", 0)

    assert looks() == 2
    upkeep._looked.pop(sessions[0].place)
    for session in sessions:
        session._sweep_in_a_lease(clock.now() - session.options.lease)
    assert looks() == 3
    assert looks() == 3
