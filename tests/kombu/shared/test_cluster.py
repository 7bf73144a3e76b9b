"""The transport on a Cluster: what other modules show on one server, and what is different."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from amqp.exceptions import NotFound
from kombu import Connection, Exchange, Queue

from elkmq._core import clock
from elkmq.errors import QueueFull
from kombu_elkmq.cluster import ClusterSession
from tests.kombu.conftest import Inbox, needs_batches
from tests.kombu.test_declaring import (  # noqa: F401 - they run here once more, with this module's connections
    test_a_connection_made_anew_has_its_exclusive_queues_again,
    test_a_mailbox_of_remote_control_is_shared,
    test_an_exclusive_queue_goes_with_its_connection,
    test_an_exclusive_queue_is_refused_to_others,
)
from tests.kombu.test_event_loop import (  # noqa: F401
    loop,
    test_an_acknowledgement_from_another_thread_ends_the_wait,
)
from tests.kombu.test_queue_arguments import (  # noqa: F401
    test_a_queue_without_consumers_that_only_delays,
    test_delivery_limit,
    test_expired_to_the_dead_letter_exchange,
    test_max_length,
    test_priorities_highest_first,
    test_rejected_to_the_dead_letter_exchange,
    test_single_active_consumer,
)
from tests.kombu.test_transport import (  # noqa: F401
    queue_of,
    test_a_fanout_waits_for_a_reader_that_is_away,
    test_a_producer_elsewhere_learns_of_new_and_removed_bindings,
    test_binary_bodies_come_back_to_the_byte,
    test_consumer_mixin,
    test_declared_differently,
    test_exchange_bound_to_exchange,
    test_exchanges,
    test_get,
    test_headers_exchange,
    test_mandatory,
    test_no_ack_gives_back_what_was_not_seen,
    test_non_ascii_names_and_headers,
    test_prefetch_is_never_exceeded,
    test_purge_and_delete,
    test_recover_and_close_hand_back,
    test_simple_queue,
    test_two_channels_have_a_prefetch_each,
    test_unroutable_queue,
    test_what_is_not_there,
)
from tests.topology import Cluster
from tests.waiting import eventually


def url_of(cluster: Cluster) -> str:
    return "elkmq+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def make_connection(cluster: Cluster, closing: ExitStack) -> Callable[..., Connection]:
    """``make_connection(cluster=None, **transport_options)``: an open Kombu connection."""

    def make(at: Cluster | None = None, **options: Any) -> Connection:
        connection = Connection(url_of(at or cluster), transport_options=options)
        closing.callback(connection.release)
        return connection

    return make


@pytest.fixture
def connection(make_connection: Callable[..., Connection]) -> Connection:
    return make_connection()


def session_of(connection: Connection) -> ClusterSession:
    found: ClusterSession = connection.default_channel.session
    return found


def settled(connection: Connection, queue: str) -> tuple[int, ...]:
    """Ready, unacknowledged, delayed, once what was acknowledged is known to be."""
    for room in session_of(connection).rooms.values():
        room.consuming().flush()
    session = session_of(connection)
    return session.run(session.routing.queue_look(queue))[2:5]


def test_one_publish_for_queues_on_every_node(
    make_connection: Callable[..., Connection], cluster: Cluster, name: str
) -> None:
    names = cluster.names(name)
    exchange = Exchange(name, type="fanout")
    reader, writer = make_connection(), make_connection()
    inbox = Inbox(reader, *[Queue(each, exchange) for each in names])
    for n in range(20):
        writer.Producer().publish(n, exchange=exchange)
    inbox.wait(60)
    assert sorted(inbox.bodies) == sorted(list(range(20)) * 3)
    assert [settled(reader, each) for each in names] == [(0, 0, 0)] * 3


def test_what_one_node_refuses_and_is_sent_again_is_nowhere_twice(
    make_connection: Callable[..., Connection], cluster: Cluster, name: str
) -> None:
    names = cluster.names(name)
    exchange = Exchange(name, type="fanout")
    connection = make_connection()
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    for each in names:
        Queue(each, exchange, queue_arguments=full if each is names[1] else None)(connection.default_channel).declare()
    producer = connection.Producer()
    producer.publish("fills", routing_key=names[1])
    with pytest.raises(QueueFull):
        producer.publish("for all", exchange=exchange)
    assert [settled(connection, each)[0] for each in names] == [1, 1, 1]  # the others have it: no step spans slots
    connection.default_channel.queue_purge(names[1])
    producer.publish("for all", exchange=exchange)
    inbox = Inbox(connection, *[queue_of(each) for each in (names[0], names[2])])
    assert inbox.wait(2) == ["for all"] * 2
    assert inbox.nothing_comes()
    assert settled(connection, names[1])[0] == 1


@needs_batches
def test_a_batch_goes_to_every_node(connection: Connection, cluster: Cluster, name: str) -> None:
    names = cluster.names(name)
    channel = connection.default_channel
    batch = channel.create_publish_batch(1000)
    for n in range(60):
        batch.publish(channel.prepare_message(str(n), content_type="text/plain"), "", names[n % 3])
    batch.flush()
    inbox = Inbox(connection, *[queue_of(each) for each in names], accept=["text/plain"])
    assert sorted(map(int, inbox.wait(60))) == list(range(60))


def test_the_prefetch_of_a_channel_is_shared_by_its_queues(
    make_connection: Callable[..., Connection], cluster: Cluster, name: str
) -> None:
    names = cluster.names(name)
    reader, writer = make_connection(), make_connection()
    for each in names:
        for n in range(30):
            writer.Producer().publish(n, routing_key=each)
    inbox = Inbox(reader, *[queue_of(each) for each in names], ack=False, prefetch=6)
    inbox.wait(6)
    assert inbox.nothing_comes()
    held = [settled(reader, each)[1] for each in names]
    assert sum(held) <= 6 + len(names)  # a read that blocks brings one for its queue
    for message in list(inbox.messages):
        message.ack()
    inbox._ack = True
    assert sorted(inbox.wait(90)) == sorted(list(range(30)) * 3)
    assert [settled(reader, each) for each in names] == [(0, 0, 0)] * 3


def test_queues_of_vanished_readers_go_with_their_bindings(
    make_connection: Callable[..., Connection], name: str
) -> None:
    exchange = Exchange(f"{name}-ex", type="fanout")
    reader, keeper = make_connection(lease=1), make_connection(lease=1)
    Inbox(reader, Queue(name, exchange, expires=0.2, durable=False))
    session_of(reader).hang_up()  # vanishes: no goodbye
    other = Inbox(keeper, queue_of(f"{name}-other"))

    def gone() -> bool:
        other.nothing_comes(0.1)
        return name not in [each for each, _, _ in keeper.default_channel.list_bindings()]

    eventually(gone, 15, "the binding to go")
    with pytest.raises(NotFound):
        queue_of(name)(keeper.default_channel).queue_declare(passive=True)


def test_a_queue_that_is_declared_while_another_deletes_it_keeps_its_bindings(
    connection: Connection, name: str
) -> None:
    exchange = Exchange(name, type="fanout")
    queue = Queue(name, exchange, expires=60)(connection.default_channel)
    queue.declare()
    session = session_of(connection)
    seen = session.run(session.routing.expiring_at(name))
    assert session.run(session._delete_call(name)) == 0
    queue.declare()  # whoever deletes it has come so far, and goes on after this
    assert session.run(session.routing.queue_forget(name, seen)) == 0
    connection.Producer().publish("x", exchange=exchange)
    assert Inbox(connection, queue).wait(1) == ["x"]


def test_a_slot_that_moves_takes_its_consumers_and_producers_along(
    make_connection: Callable[..., Connection], cluster: Cluster, name: str
) -> None:
    moving, staying = cluster.names(name)[:2]
    reader, writer = make_connection(), make_connection(publish_timeout=20)
    inbox = Inbox(reader, queue_of(moving), queue_of(staying), prefetch=10)
    sent, stop = [], threading.Event()

    def publish() -> None:
        while not stop.is_set():
            sent.append(len(sent))
            writer.Producer().publish(sent[-1], routing_key=moving if sent[-1] % 2 else staying)

    producer = threading.Thread(target=publish)
    producer.start()
    try:
        inbox.wait(20)
        cluster.move(f"{{{moving}}}", cluster.nodes[2])
        count = len(inbox.bodies)
        inbox.wait(count + 40)
    finally:
        stop.set()
        producer.join()
    assert sorted(inbox.wait(len(sent))) == sent
    assert inbox.nothing_comes()
    assert cluster.owner(f"{{{moving}}}") is cluster.nodes[2]
    assert settled(reader, moving) == settled(reader, staying) == (0, 0, 0)


def test_a_node_that_restarts_holds_nobody_else_up_and_loses_nothing(
    make_connection: Callable[..., Connection], make_cluster: Callable[..., Cluster], name: str
) -> None:
    cluster = make_cluster(appendonly=True, appendfsync="always")
    names = cluster.names(name)
    reader, writer = make_connection(cluster, lease=20), make_connection(cluster)
    inbox = Inbox(reader, *[queue_of(each) for each in names], ack=False, prefetch=20)
    for each in names:
        writer.Producer().publish(each, routing_key=each)
    inbox.wait(3)
    of_down = next(message for message in inbox.messages if message.payload == names[2])
    with cluster.nodes[0].client() as client:
        client.config_set("cluster-require-full-coverage", "no")
    with cluster.nodes[1].client() as client:
        client.config_set("cluster-require-full-coverage", "no")
    cluster.nodes[2].kill()
    of_down.ack()  # waits for its node
    assert inbox.nothing_comes(0.05)
    for each in names[:2]:
        writer.Producer().publish("meanwhile", routing_key=each)
    inbox.wait(5)
    for message in inbox.messages:
        if message is not of_down:
            message.ack()
    cluster.nodes[2].start()
    writer.Producer().publish("after", routing_key=names[2], retry=True)
    assert inbox.wait(6, 20)[-1] == "after"
    inbox.messages[-1].ack()
    assert inbox.nothing_comes()
    assert not any(message.delivery_info["redelivered"] for message in inbox.messages)
    assert [settled(reader, each) for each in names] == [(0, 0, 0)] * 3


def test_a_replica_takes_over(
    make_connection: Callable[..., Connection], make_cluster: Callable[..., Cluster], name: str
) -> None:
    cluster = make_cluster()
    names = cluster.names(name)
    primary = cluster.nodes[1]
    replica = cluster.add_replica(primary)
    reader, writer = make_connection(cluster, lease=20), make_connection(cluster, publish_timeout=20)
    inbox = Inbox(reader, *[queue_of(each) for each in names], ack=False, prefetch=20)
    for each in names:
        writer.Producer().publish(each, routing_key=each)
    inbox.wait(3)
    with primary.client() as client:
        assert client.wait(1, 5000) == 1
    primary.kill()
    cluster.promote(replica)
    for message in inbox.messages:
        message.ack()
    for each in names:
        writer.Producer().publish("after", routing_key=each)
    assert inbox.wait(6, 20)[3:] == ["after"] * 3
    for message in inbox.messages[3:]:
        message.ack()
    assert inbox.nothing_comes()
    assert not any(message.delivery_info["redelivered"] for message in inbox.messages)
    assert [settled(reader, each) for each in names] == [(0, 0, 0)] * 3


def test_two_connections_for_a_queue_and_one_for_each_node(
    make_connection: Callable[..., Connection], make_cluster: Callable[..., Cluster], name: str
) -> None:
    cluster = make_cluster()
    connection = make_connection(cluster, client_name="counted")
    names = [f"{name}-{n}" for n in range(12)]
    inbox = Inbox(connection, *[queue_of(each) for each in names])
    for each in names:
        connection.Producer().publish(each, routing_key=each)
    assert sorted(inbox.wait(12)) == sorted(names)

    def clients() -> int:
        found = 0
        for node in cluster.nodes:
            with node.client() as client:
                found += sum(each["name"] == "counted" for each in client.client_list())
        return found

    session = session_of(connection)
    assert clients() <= 3 + 3 * len(names)  # a heartbeat's, too
    connection.release()
    assert session.rooms == {}
    eventually(lambda: clients() == 0, why="all of them to be gone")


def test_what_a_queue_put_off_ends_the_wait_and_is_done_with(connection: Connection, name: str) -> None:
    inbox = Inbox(connection, queue_of(name))
    assert inbox.nothing_comes()
    session = session_of(connection)
    pump, room = session.pump, session.rooms[name].pump
    for put_off in (pump.takes, room.takes, room.blocking):
        put_off.put_off = clock.now()
        assert pump.next_look() == 0.0
        assert pump.put_off <= clock.now()
        pump.run()
        assert pump.put_off == math.inf
