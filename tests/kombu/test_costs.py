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
    assert found == {"evalsha": 1, "hget": 1, "mget": 1, "xadd": 5, "set": 5}


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
    found = commands(server)
    assert [found.pop(name) for name in ("evalsha", "xpending", "xack", "xdel")] == [MESSAGES] * 4
    assert set(found) <= {"xreadgroup"}  # no take by script: one read brings half of the prefetch or more
    assert found["xreadgroup"] <= MESSAGES / 50 + 2


def test_messages_that_come_one_at_a_time_cost_one_read_each(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    """The wait that follows a message is the next one's read, however soon that comes."""
    server = make_server()
    connection = make_connection(server.url)
    inbox = Inbox(connection, queue_of(name), prefetch=100)
    producer = connection.Producer()
    for n in range(3):
        producer.publish("warm", routing_key=name)
        inbox.wait(n + 1)
    server.client().config_resetstat()
    for n in range(20):
        producer.publish(n, routing_key=name)
        inbox.wait(n + 4)
    connection.default_channel.session.taker.flush()
    found = commands(server)
    assert found["evalsha"] == 40  # publishing and acknowledging
    assert found["xreadgroup"] <= 21


def test_queues_without_settings_are_read_together(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    queues = [queue_of(f"{name}-{n}") for n in range(40)]
    inbox = Inbox(connection, *queues, prefetch=200)
    producer = connection.Producer()
    for queue in queues:
        producer.publish("warm", routing_key=queue.name)
    inbox.wait(40)
    assert inbox.nothing_comes()
    for _ in range(10):
        for queue in queues:
            producer.publish("x", routing_key=queue.name)
    connection.default_channel.session.taker.flush()
    server.client().config_resetstat()
    inbox.wait(440)
    connection.default_channel.session.taker.flush()
    found = commands(server)
    assert found["evalsha"] == 400  # the acknowledgements
    # Each queue by itself would make 40 at least.
    assert found["xreadgroup"] <= 30


def test_a_queue_that_is_consumed_first_needs_no_take(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    queues = [queue_of(f"{name}-{n}") for n in range(40)]
    producer = connection.Producer()
    for queue in queues:
        declared(connection, queue)
        for n in range(5):
            producer.publish(n, routing_key=queue.name)
    server.client().config_resetstat()
    Inbox(make_connection(server.url), *queues, prefetch=200).wait(200)
    found = commands(server)
    assert "zscore" not in found  # each take looks whether its consumer is registered
    assert found["xreadgroup"] <= 30


def test_what_comes_back_is_handed_out_before_what_waits(make_connection: Callable[..., Connection], name: str) -> None:
    connection = make_connection()
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=2)
    producer = connection.Producer()
    for n in range(10):
        producer.publish(n, routing_key=name)
    inbox.wait(2)
    for message in inbox.messages[:2]:
        message.requeue()
    while len(inbox.bodies) < 12:
        inbox.wait(len(inbox.bodies) + 1)
        inbox.messages[-1].ack()
    assert sorted(inbox.bodies[2:4]) == [0, 1]
    assert inbox.bodies[4:] == list(range(2, 10))


def test_what_others_send_back_comes_in_its_order_though_a_plain_read_brings_more_with_it(
    make_connection: Callable[..., Connection], name: str
) -> None:
    one, other = make_connection(), make_connection()
    producer = one.Producer()
    declared(one, queue_of(name))
    for n in range(8):
        producer.publish(n, routing_key=name)
    inbox = Inbox(one, queue_of(name), ack=False, prefetch=2)
    holder = Inbox(other, queue_of(name), ack=False, prefetch=2)
    assert (inbox.wait(2), holder.wait(2)) == ([0, 1], [2, 3])
    for message in holder.messages:
        message.requeue()
    other.release()
    inbox.messages[0].ack()
    inbox.messages[1].ack()
    while len(inbox.bodies) < 8:
        inbox.wait(len(inbox.bodies) + 1)
        inbox.messages[-1].ack()
    assert sorted(inbox.bodies[2:4]) == [2, 3]
    assert inbox.bodies[4:] == [4, 5, 6, 7]
