"""What an operation costs at the server, by its own count: the table in docs/celery.md."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection, Exchange, Queue

from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import declared, queue_of
from tests.servers import Server

MESSAGES = 200


def commands(server: Server) -> dict[str, int]:
    stats = server.client().info("commandstats")
    found = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
    return {
        name: calls
        for name, calls in found.items()
        if not name.startswith(("config", "info", "client", "hello", "select"))
    }


def test_publish_costs_four_commands_and_one_round_trip(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    declared(connection, queue_of(name))
    producer = connection.Producer()
    producer.publish("warm", routing_key=name)
    server.client().config_resetstat()
    for n in range(MESSAGES):
        producer.publish(n, routing_key=name)
    found = commands(server)
    assert found.pop("evalsha") == MESSAGES
    assert found == {"mget": MESSAGES, "xadd": MESSAGES, "set": MESSAGES}


def test_fanout_to_five_queues_is_one_round_trip(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    exchange = Exchange(name, type="fanout")
    for n in range(5):
        declared(connection, Queue(f"{name}-{n}", exchange))
    producer = connection.Producer(exchange=exchange)
    producer.publish("warm")
    server.client().config_resetstat()
    producer.publish("x")
    found = commands(server)
    assert (found["evalsha"], found["xadd"], found["hget"]) == (1, 5, 1)


def test_consume_and_ack(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    inbox = Inbox(connection, queue_of(name), prefetch=100)
    producer = connection.Producer()
    producer.publish("warm", routing_key=name)
    inbox.wait(1)
    for n in range(MESSAGES):
        producer.publish(n, routing_key=name)
    server.client().config_resetstat()
    inbox.wait(MESSAGES + 1)
    connection.default_channel.session.taker.flush()
    # A settle: EVALSHA and 3 or 4 inside; a take, shared by many, some 10.
    assert sum(commands(server).values()) / MESSAGES <= 6
