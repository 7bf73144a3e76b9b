"""After a lost connection: what was handed out and never came is fetched, and nothing that came is fetched again."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from kombu import Connection

from elkmq.errors import LeaseLost
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


def nothing_left(connection: Connection, name: str) -> None:
    """Every acknowledgement arrived, and nothing was put back."""
    session = connection.default_channel.session
    session.taker.flush()
    assert session.run(session.routing.queue_look(name))[2:5] == (0, 0, 0)


def test_a_read_that_answers_after_the_recovery_brings_nothing_twice(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    """The connection of takes breaks while a blocking read is served: the recovery brings the message first, it is done
    and acknowledged, and only then comes the read's own reply."""
    proxy = make_proxy(fast_server.url)
    reader, writer = make_connection(proxy.url), make_connection()
    inbox = Inbox(reader, queue_of(name), prefetch=4)
    proxy.hold(b"\r\nXREADGROUP\r\n")
    assert inbox.nothing_comes()
    writer.Producer().publish("once", routing_key=name)
    session = reader.default_channel.session
    session.taker.drop()
    assert inbox.wait(1) == ["once"]
    session.taker.flush()
    proxy.heal()
    writer.Producer().publish("next", routing_key=name)
    inbox.wait(2)
    assert inbox.nothing_comes()
    assert inbox.bodies == ["once", "next"]
    nothing_left(reader, name)


def test_everything_is_fetched_however_many_replies_were_lost(
    make_connection: Callable[..., Connection], name: str
) -> None:
    reader, writer = make_connection(fetch_limit=2), make_connection()
    inbox = Inbox(reader, queue_of(name), prefetch=3)
    for n in range(9):
        writer.Producer().publish(n, routing_key=name)
    session = reader.default_channel.session
    # In its name: replies that it never sees.
    for _ in range(4):
        session.run(session.readers[name].verbs.take(session.name, 2))
    session.taker.drop()
    inbox.wait(9)
    assert inbox.nothing_comes()
    assert Counter(inbox.bodies) == Counter(range(9))
    nothing_left(reader, name)


def _drained(connection: Connection) -> bool:
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.01)
    return True


def test_what_a_lost_connection_is_handed_later_is_fetched_too(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """A server that does not know yet that a connection is gone serves the blocking read on it, after the recovery."""
    reader = make_connection(lease=3)
    inbox = Inbox(reader, queue_of(name), ack=False)
    assert inbox.nothing_comes()
    session = reader.default_channel.session
    session.waiter.drop()
    assert inbox.nothing_comes()
    session.pump.blocking.end()
    eventually(lambda: _drained(reader) and session.pump.blocking.under_way, why="the next blocking read")
    client = fast_server.client()
    # In its name, as the old connection would have read.
    session.taker.flush()
    held = client.pipeline()
    held.xadd(f"{name}(event_stream)", _copied(make_connection(), client, name))
    held.xreadgroup("elkmq", session.name, {f"{name}(event_stream)": ">"}, count=1)
    held.execute()
    inbox.wait(1, timeout=15)


def _copied(connection: Connection, client: Any, name: str) -> dict[bytes, bytes]:
    """The fields of a message."""
    connection.Producer().publish("late", routing_key=f"{name}-other")
    ((_, fields),) = client.xrange(f"{name}-other(event_stream)")
    return dict(fields)


def test_acknowledged_on_other_threads_while_connections_break(
    make_connection: Callable[..., Connection],
    make_proxy: Callable[[str], Proxy],
    fast_server: Server,
    name: str,
    closing: ExitStack,
) -> None:
    proxy = make_proxy(fast_server.url)
    reader, writer = make_connection(proxy.url), make_connection()
    inbox = Inbox(reader, queue_of(name), ack=False, prefetch=50)
    done = threading.Event()

    def acknowledge(part: int) -> None:
        n = part
        while not done.is_set():
            if len(inbox.messages) > n:
                inbox.messages[n].ack()
                n += 2

    closing.callback(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=acknowledge, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    try:
        producer = writer.Producer()
        for n in range(400):
            producer.publish(n, routing_key=name)
            if n % 40 == 20:
                proxy.cut()
            _drained(reader)
        inbox.wait(400)
        assert inbox.nothing_comes()
        eventually(lambda: all(message.acknowledged for message in inbox.messages), why="all to be acknowledged")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert Counter(inbox.bodies) == Counter(range(400))
    eventually(lambda: _drained(reader) and fast_server.client().xlen(f"{name}(event_stream)") == 0, why="all acks")
    nothing_left(reader, name)


def test_what_was_recovered_beyond_the_prefetch_goes_back(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """celery#6500, after a reconnection: the replies of a take and of its repetition both came."""
    reader, writer = make_connection(), make_connection()
    inbox = Inbox(reader, queue_of(name), prefetch=2, ack=False)
    for n in range(6):
        writer.Producer().publish(n, routing_key=name)
    session = reader.default_channel.session
    inbox.wait(1)
    session.run(session.readers[name].verbs.take(session.name, 2))
    session.taker.drop()
    inbox.wait(2)
    assert inbox.nothing_comes()
    session.taker.flush()
    stats = session.run(session.routing.queue_look(name))
    assert (stats.ready, stats.unacked) == (4, 2)
    assert not any(message.headers.get("x-delivery-count") for message in inbox.messages)


def test_who_consumes_a_queue_that_was_deleted_hears_of_it_at_once(
    make_connection: Callable[..., Connection], connection: Connection, name: str
) -> None:
    own = make_connection(lease=3600)  # no heartbeat is to find it first
    inbox = Inbox(own, queue_of(name))
    assert inbox.nothing_comes(0.1)
    queue = queue_of(name)(connection.default_channel)
    queue.delete()
    queue.declare()
    connection.Producer().publish("x", routing_key=name)
    with pytest.raises(LeaseLost, match="deleted"):
        inbox.wait(1)
    assert Inbox(make_connection(), queue_of(name)).wait(1) == ["x"]
