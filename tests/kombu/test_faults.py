"""What breaks under a Kombu connection, and what its user notices: nothing, as long as it takes less than the lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from elkmq.errors import LeaseLost, ServerConnectionError
from kombu_elkmq.wires import GOODBYE
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import declared, queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import Program, eventually

CONSUMER = """
import sys
from kombu import Connection, Exchange, Queue
import kombu_elkmq
url, name, prefetch, how = sys.argv[1:]
with Connection(url) as connection:
    def receive(body, message):
        print("start", body, flush=True)
        if how == "ack":
            message.ack()
            print("acked", body, flush=True)
        if how == "line":
            sys.stdin.readline()
            message.ack()
            print("acked", body, flush=True)
    with connection.Consumer([Queue(name, Exchange(""), routing_key=name)], callbacks=[receive]) as consumer:
        consumer.qos(prefetch_count=int(prefetch))
        print("consuming", flush=True)
        while True:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                pass
"""


def test_cut_connections_are_not_noticed(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    reader, writer = make_connection(proxy.url), make_connection(proxy.url)
    inbox = Inbox(reader, queue_of(name), prefetch=7)
    producer = writer.Producer()
    for n in range(60):
        producer.publish(n, routing_key=name)
        if n % 7 == 3:
            assert proxy.cut() >= 2
        if n % 5 == 4:
            inbox.wait(n - 3)
    assert inbox.wait(60) == list(range(60)) or sorted(inbox.bodies) == list(range(60))
    assert inbox.nothing_comes()
    assert not any(message.delivery_info["redelivered"] for message in inbox.messages)
    reader.default_channel.session.taker.flush()
    stats = writer.default_channel.session
    assert stats.run(stats.routing.queue_look(name))[2:5] == (0, 0, 0)


def test_a_connection_that_is_closed_while_it_is_owed_nothing_is_replaced(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """It can be read for ever: who waits for messages came back at once each time, and used all of a core."""
    connection = make_connection()
    inbox = Inbox(connection, Queue(name), ack=False, prefetch_count=1)
    producer = make_connection().Producer(routing_key=name)
    producer.publish("held")
    inbox.wait(1)
    waiter = connection.connection.waiter
    eventually(
        lambda: inbox.nothing_comes(0.05) and not waiter.outstanding, why="nothing to be waited for: there is no room"
    )
    closed = waiter.client_id
    assert fast_server.client().client_kill_filter(_id=closed) == 1
    eventually(lambda: inbox.nothing_comes(0.05) and waiter.client_id not in (None, closed), why="another connection")
    inbox.messages[0].ack()
    producer.publish("next")
    inbox.wait(2)


def test_a_half_open_connection_is_found_and_replaced(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    reader, writer = make_connection(proxy.url, socket_timeout=0.5, socket_connect_timeout=0.5), make_connection()
    inbox = Inbox(reader, queue_of(name), ack=False, prefetch=3)
    writer.Producer().publish("before", routing_key=name)
    inbox.wait(1)
    assert inbox.nothing_comes()  # it waits in a blocking read
    proxy.blackhole()
    inbox.messages[0].ack()
    writer.Producer().publish("meanwhile", routing_key=name)
    accepted = proxy.accepted
    with pytest.raises(TimeoutError):
        while True:
            reader.drain_events(timeout=0.05)
            break
    eventually(lambda: _drained(reader) and proxy.accepted > accepted, why="an attempt to connect anew")
    proxy.heal()
    assert inbox.wait(2)[1] == "meanwhile"
    inbox.messages[1].ack()
    reader.default_channel.session.taker.flush()
    assert not inbox.messages[1].delivery_info["redelivered"]


def _drained(connection: Connection) -> bool:
    try:
        connection.drain_events(timeout=0.05)
    except TimeoutError:
        return True
    return False


def test_a_server_that_restarts(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server(appendonly=True, appendfsync="always")
    reader, writer = make_connection(server.url), make_connection(server.url)
    inbox = Inbox(reader, queue_of(name), ack=False, prefetch=2)
    for n in range(4):
        writer.Producer().publish(n, routing_key=name)
    inbox.wait(2)
    server.restart()
    for message in inbox.messages:
        message.ack()
    assert inbox.wait(4) == [0, 1, 2, 3]
    writer.Producer().publish("after", routing_key=name)
    inbox.messages[2].ack()
    assert inbox.wait(5)[-1] == "after"
    assert not any(message.delivery_info["redelivered"] for message in inbox.messages)


@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_publish_whose_answer_is_lost_arrives_once(
    make_connection: Callable[..., Connection],
    make_proxy: Callable[[str], Proxy],
    fast_server: Server,
    name: str,
    side: Any,
) -> None:
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url)
    declared(connection, queue_of(name))
    connection.Producer().publish("first", routing_key=name)
    proxy.swallow(side, b"precious")
    connection.Producer().publish("precious", routing_key=name)
    proxy.wait_until_swallowed()
    assert fast_server.client().xlen(f"{name}(event_stream)") == 2


def test_a_publish_that_failed_and_is_repeated_by_its_caller_arrives_once(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url, publish_timeout=0.2)
    declared(connection, queue_of(name))
    connection.Producer().publish("first", routing_key=name)
    proxy.swallow("reply", b"precious")
    proxy_refuses = connection.default_channel.session.command
    original = proxy_refuses.endpoint.connect

    def refused(*given: Any) -> Any:
        proxy.cut(refuse=True)
        return original(*given)

    proxy_refuses.endpoint.connect = refused
    with pytest.raises(connection.connection_errors) as caught:
        connection.Producer().publish("precious", routing_key=name, headers={"id": 1})
    assert isinstance(caught.value, ServerConnectionError)
    proxy.heal()
    make_connection(proxy.url).Producer().publish("precious", routing_key=name, headers={"id": 1})
    assert fast_server.client().xlen(f"{name}(event_stream)") == 2
    make_connection(proxy.url).Producer().publish("precious", routing_key=name, headers={"id": 1})
    assert fast_server.client().xlen(f"{name}(event_stream)") == 3


def test_a_killed_consumer_costs_one_message_a_second_run(
    make_connection: Callable[..., Connection], make_program: Callable[..., Program], fast_server: Server, name: str
) -> None:
    url = fast_server.url.replace("redis", "elkmq", 1) + "?lease=1"
    connection = make_connection(lease=1)
    declared(connection, queue_of(name))
    for n in range(20):
        connection.Producer().publish(n, routing_key=name)
    program = make_program(CONSUMER, url, name, "100", "line")
    for n in range(5):
        program.wait_for(f"start {n}")
        program.send("")
    program.wait_for("start 5")
    # Its acknowledgements were sent before: no reply of the server is awaited.
    eventually(lambda: fast_server.client().xlen(f"{name}(event_stream)") == 15, why="five acknowledgements")
    program.kill()
    inbox = Inbox(connection, queue_of(name), prefetch=10)
    inbox.wait(15, timeout=10)
    assert sorted(inbox.bodies) == list(range(5, 20))
    assert inbox.nothing_comes()


def test_a_stopped_consumer_learns_that_it_lost_its_lease(
    make_connection: Callable[..., Connection], make_program: Callable[..., Program], fast_server: Server, name: str
) -> None:
    url = fast_server.url.replace("redis", "elkmq", 1) + "?lease=1"
    connection = make_connection(lease=1)
    declared(connection, queue_of(name))
    for n in range(10):
        connection.Producer().publish(n, routing_key=name)
    program = make_program(CONSUMER, url, name, "100", "line")
    program.wait_for("start 0")
    program.pause()
    inbox = Inbox(connection, queue_of(name))
    inbox.wait(10, timeout=10)
    assert sorted(inbox.bodies) == list(range(10))
    program.send("")
    program.resume()
    program.wait(status=1)
    assert "LeaseLost" in program.errors
    assert "start 1" not in program.lines


def test_a_forgotten_database_does_not_make_a_consumer_deaf(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    reader, writer = make_connection(server.url, lease=1), make_connection(server.url)
    inbox = Inbox(reader, queue_of(name))
    writer.Producer().publish(1, routing_key=name)
    inbox.wait(1)
    server.client().flushall()
    with pytest.raises(LeaseLost):
        while True:
            _drained(reader)
    reader.collect()
    reader.ensure_connection(max_retries=1)
    again = Inbox(reader, queue_of(name))
    writer.Producer().publish(2, routing_key=name)
    assert again.wait(1) == [2]


def test_an_exchange_that_the_server_forgot_is_declared_again(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection = make_connection(server.url)
    exchange = Exchange(name, type="fanout")
    producer = connection.Producer(exchange=exchange)
    producer.publish("x")
    server.client().flushall()
    producer.publish("to nobody, and no error")
    assert Inbox(make_connection(server.url), Queue(f"{name}-q", exchange)).nothing_comes(0.1)


def test_an_outage_longer_than_the_lease_surfaces(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    reader = make_connection(proxy.url, lease=1)
    Inbox(reader, queue_of(name))
    proxy.cut(refuse=True)
    with pytest.raises(reader.connection_errors):
        while True:
            _drained(reader)
    proxy.heal()
    reader.collect()
    reader.ensure_connection(max_retries=1)
    inbox = Inbox(reader, queue_of(name))
    reader.Producer().publish("x", routing_key=name)
    assert inbox.wait(1) == ["x"]


def test_an_outage_longer_than_the_lease_is_told_though_nobody_waited_when_it_was_noticed(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    reader = make_connection(proxy.url, lease=1)
    inbox = Inbox(reader, queue_of(name))
    assert inbox.nothing_comes()
    session = inbox.consumer.channel.session
    proxy.cut(refuse=True)
    eventually(lambda: _drained(reader) and session.pump.mending, why="a connection that is being mended")
    eventually(lambda: session.failed, why="the end of its patience")
    proxy.heal()
    # Not a new connection, on which nobody consumes.
    with pytest.raises(ServerConnectionError, match=r"lease|refused|reset|reach"):
        reader.drain_events(timeout=1)
    with Inbox(reader, queue_of(name)).consumer:
        reader.Producer().publish("after", routing_key=name)
        reader.drain_events(timeout=10)


def test_an_acknowledgement_is_told_however_long_the_connection_is_away_while_the_lease_holds(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    proxy = make_proxy(fast_server.url)
    reader, writer = make_connection(proxy.url, lease=20), make_connection()
    inbox = Inbox(reader, queue_of(name), ack=False)
    writer.Producer().publish("x", routing_key=name)
    inbox.wait(1)
    reader.default_channel.session.taker._retry_for = 0.02
    accepted = proxy.accepted
    proxy.cut(refuse=True)
    inbox.messages[0].ack()
    # Attempts to connect are further and further apart: by the sixth, the call has been given up.
    eventually(lambda: _drained(reader) and proxy.accepted > accepted + 5, why="attempts to connect")
    proxy.heal()
    left = fast_server.client()
    eventually(lambda: _drained(reader) and left.xlen(f"{name}(event_stream)") == 0, why="the acknowledgement")
    assert inbox.nothing_comes()


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_what_was_acknowledged_in_an_outage_is_told_before_the_rest_is_given_back(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str, how: str
) -> None:  # fmt: skip
    """An orderly end while a connection is being mended: it waits for that, and the consumer's acknowledgements go first."""
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url.replace("://", "://default:any@"))  # whoever logs in waits for an answer
    queues = [queue_of(name), queue_of(f"{name}-2")] if how == "cancel" else [queue_of(name)]
    inbox = Inbox(connection, *queues, ack=False, prefetch=10)
    other = make_connection()
    for n in range(6):
        other.Producer().publish(n, routing_key=queues[n % len(queues)].name)
    inbox.wait(6)
    session = connection.default_channel.session
    if how == "cancel":
        proxy.cut(refuse=True)
    else:
        proxy.stall()
    session.taker.drop()
    while not session.pump.mending:
        inbox.nothing_comes(timeout=0.01)
    for message in inbox.messages[:4]:
        message.ack()
    assert session.pump.mending
    healing = threading.Timer(0.3, proxy.heal)
    healing.start()
    if how == "cancel":
        inbox.consumer.cancel()
        for message in inbox.messages[4:]:
            message.ack()
    connection.release()
    healing.join()
    second = Inbox(other, *queues)
    left = [] if how == "cancel" else sorted(inbox.bodies[4:6])
    assert sorted(second.wait(len(left))) == left
    assert second.nothing_comes()


def test_a_server_that_is_gone_for_good_is_waited_for_once(
    make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server, name: str
) -> None:
    """A worker that ends cancels one queue after the other: it does not wait a lease for each."""
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url, lease=3)
    inbox = Inbox(connection, queue_of(name), queue_of(f"{name}-2"))
    assert inbox.nothing_comes()
    session = connection.default_channel.session
    proxy.cut(refuse=True)
    tags = list(inbox.consumer._active_tags.values())
    with pytest.raises(ServerConnectionError):
        connection.default_channel.basic_cancel(tags[0])
    assert session.taker._retry_for <= GOODBYE
    with pytest.raises(ServerConnectionError):
        connection.default_channel.basic_cancel(tags[1])
    proxy.heal()
