"""What was reported of Kombu's ``redis://``, shown not to happen here. Each test names the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.pidbox import Mailbox

from elkmq._core.call import script
from tests.kombu.conftest import Inbox
from tests.kombu.test_faults import CONSUMER
from tests.kombu.test_transport import declared, queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.topology import Sentinel
from tests.waiting import Program, eventually


@pytest.mark.parametrize("priority", [0, 5], ids=["read", "taken"])
def test_a_consumer_that_dies_between_being_handed_messages_and_seeing_them_loses_none(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy],
    make_program: Callable[..., Program], fast_server: Server, name: str, priority: int,
) -> None:  # fmt: skip
    """celery#4354: a message was lost between the pop and the bookkeeping."""
    connection = make_connection(lease=1)
    declared(connection, queue_of(name))
    for n in range(5):
        connection.Producer().publish(n, routing_key=name, priority=priority)
    proxy = make_proxy(fast_server.url)
    # Where a priority is in use the queue has settings.
    proxy.swallow("reply", script("take").sha.encode() + b"\r\n$1" if priority else b"XREADGROUP")
    # It acknowledges none, though it should be back and ask again before it is killed.
    program = make_program(CONSUMER, proxy.url.replace("redis", "elkmq", 1) + "?lease=1", name, "100", "line")
    proxy.wait_until_swallowed()
    program.kill()
    inbox = Inbox(connection, queue_of(name))
    inbox.wait(5)
    assert sorted(inbox.bodies) == list(range(5))
    assert inbox.nothing_comes()


def test_a_message_that_kills_every_consumer_ends_as_a_dead_letter(
    make_connection: Callable[..., Connection], make_program: Callable[..., Program], fast_server: Server, name: str
) -> None:
    """celery#9082, of a whole process: its death is noticed by the lease, not by a parent."""
    url = fast_server.url.replace("redis", "elkmq", 1) + "?lease=1"
    keeper = make_connection(lease=1, delivery_limit=1)
    declared(keeper, queue_of(name))
    keeper.Producer().publish("poison", routing_key=name)
    for _ in range(2):
        program = make_program(CONSUMER, f"{url}&delivery_limit=1", name, "1", "line")
        program.wait_for("start poison")
        program.kill()
    inbox = Inbox(keeper, queue_of(name))
    client = fast_server.client()

    def dead() -> bool:
        assert inbox.nothing_comes(0.1)
        return bool(client.xlen(f"{name}(dead_letters)"))

    eventually(dead, 20, "the dead letter")
    ((_, fields),) = client.xrange(f"{name}(dead_letters)")
    assert fields[b"reason"] == b"delivery_limit"


def test_a_reply_that_comes_before_anybody_listens_is_kept(
    make_connection: Callable[..., Connection], name: str
) -> None:
    """celery#2678: a reply of remote control was lost, since its reader subscribed a moment later."""
    asking, asked = make_connection(), make_connection()
    mailbox = Mailbox(name, type="direct")
    node = mailbox(asked).Node("node@here", channel=asked.default_channel)
    node.handlers["hello"] = lambda _, **given: "hello back"
    node.listen()
    box = mailbox(asking)
    reply_queue = box.reply_queue(asking.default_channel)
    reply_queue.declare()
    box._publish("hello", {}, destination=["node@here"], reply_ticket="t", channel=asking.default_channel, timeout=5)
    asked.drain_events(timeout=5)  # it has answered; nobody has ever consumed the reply queue
    replies = box._collect("t", limit=1, timeout=5, channel=asking.default_channel)
    assert replies == [{"node@here": "hello back"}]


def test_a_consumer_leaves_a_server_that_became_a_replica(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server],
    make_sentinel: Callable[..., Sentinel], name: str,
) -> None:  # fmt: skip
    """celery#7946: after a failover it stayed on what is a read-only replica now, alive but deaf."""
    primary = make_server()
    replica = make_server(replica_of=primary)
    sentinel = make_sentinel(primary)
    replica.wait_until_in_sync()
    sentinel.wait_for_replicas(1)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/0?service={sentinel.name}"
    reader, writer = make_connection(url), make_connection(url)
    inbox = Inbox(reader, queue_of(name), ack=False)
    writer.Producer().publish("before", routing_key=name)
    inbox.wait(1)
    with primary.client() as client:
        client.wait(1, 5000)
    sentinel.failover()
    with primary.client() as client:
        # Sentinel gets round to this after 8 s or more; until then the old primary takes writes, and they are lost.
        client.replicaof("127.0.0.1", replica.port)
    inbox.messages[0].ack()
    writer.Producer().publish("after", routing_key=name)
    assert inbox.wait(2, timeout=30) == ["before", "after"]
    inbox.messages[1].ack()
    assert inbox.nothing_comes()
    reader.default_channel.session.taker.flush()
    with replica.client() as client:
        assert client.xlen(f"{name}(event_stream)") == 0


def test_the_length_of_a_queue_says_what_is_ready_and_what_is_in_flight(
    connection: Connection, fast_server: Server, name: str
) -> None:
    """celery#8556: what was in flight was in no count."""
    from elkmq import EventQueue

    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=2)
    for n in range(5):
        connection.Producer().publish(n, routing_key=name)
    inbox.wait(2)
    assert queue_of(name)(connection.default_channel).queue_declare(passive=True).message_count == 3
    with EventQueue(name, fast_server.url) as queue:
        stats = queue.stats()
    assert (stats.ready, stats.in_flight) == (3, 2)


def test_reply_queues_leave_no_bindings(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """kombu#294, celery#6089: each caller's queue and binding stayed for ever."""
    exchange = Exchange(f"{name}-replies", type="direct")
    for n in range(5):
        with make_connection() as connection:
            queue = Queue(f"{name}-{n}", exchange, routing_key=str(n), auto_delete=True, durable=False)
            inbox = Inbox(connection, queue)
            connection.Producer().publish(n, exchange=exchange, routing_key=str(n))
            assert inbox.wait(1) == [n]
            inbox.consumer.cancel()
    client: Any = fast_server.client()
    assert client.hlen(f"elkmq(exchange:{name}-replies)") == 2  # its definition and its version
    assert not list(client.scan_iter(f"elkmq(bindings:{name}-*"))
    assert not [
        key for key in client.scan_iter(f"{name}-[0-9]*") if b"(settings)" not in key and b"(enqueued" not in key
    ]
