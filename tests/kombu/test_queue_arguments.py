"""RabbitMQ's queue arguments, in the broker."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection, Exchange, Queue

from elkmq._core.call import command
from elkmq.errors import QueueFull
from tests.kombu.conftest import Inbox, needs_batches
from tests.kombu.test_transport import declared, queue_of
from tests.servers import Server
from tests.waiting import eventually


def with_dead_letters(name: str, **options: Any) -> tuple[Queue, Queue]:
    """A queue whose dead letters go to another one."""
    exchange = Exchange(f"{name}-dlx", type="direct")
    arguments = {"x-dead-letter-exchange": f"{name}-dlx", "x-dead-letter-routing-key": "dead", **options}
    return queue_of(name, queue_arguments=arguments), Queue(f"{name}-dead", exchange, routing_key="dead")


def test_expiration_and_message_ttl(connection: Connection, name: str) -> None:
    long_lived = declared(connection, queue_of(f"{name}-long", message_ttl=60))
    producer = connection.Producer()
    producer.publish("short", routing_key=long_lived.name, expiration=0.001)
    producer.publish("long", routing_key=long_lived.name, expiration=60)
    client = connection.default_channel.session
    eventually(lambda: _age(client, long_lived.name) > 1, why="the clock to pass", ignoring=())
    message = long_lived.get()
    assert message is not None
    assert message.payload == "long"
    message.ack()
    declared(connection, queue_of(name, message_ttl=0.2))
    producer.publish("late", routing_key=name)
    eventually(lambda: _age(client, name) > 200, why="the clock to pass", ignoring=())
    inbox = Inbox(connection, queue_of(name, message_ttl=0.2))
    assert inbox.nothing_comes(0.5)


@pytest.mark.parametrize(
    ("queue_has", "message_has"), [({"message_ttl": 2}, {}), ({}, {"expiration": 2})], ids=["queue", "message"]
)
def test_what_a_task_may_wait_begins_when_it_is_due(
    connection: Connection, name: str, queue_has: dict[str, int], message_has: dict[str, int]
) -> None:
    inbox = Inbox(connection, queue_of(name, **queue_has))
    due = datetime.now(timezone.utc) + timedelta(seconds=2.5)
    headers = {"task": "t", "id": str(uuid.uuid4()), "eta": due.isoformat()}
    connection.Producer().publish([[], {}, {}], routing_key=name, headers=headers, **message_has)
    assert inbox.wait(1) == [[[], {}, {}]]
    assert datetime.now(timezone.utc) >= due


def _age(session: Any, name: str) -> int:
    """Milliseconds since the first entry of a queue came; very old where there is none any more."""
    first = session.run(command("XRANGE", session.routing.queue(name).lane(0), "-", "+", "COUNT", 1, parse=list))
    seconds, micros = session.run(command("TIME", parse=list))
    return int(seconds) * 1000 + int(micros) // 1000 - int(first[0][0].partition(b"-")[0]) if first else 1_000_000


def test_rejected_to_the_dead_letter_exchange(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name)
    graves = Inbox(connection, dead)
    inbox = Inbox(connection, queue, ack=False)
    connection.Producer().publish({"n": 1}, routing_key=name, headers={"mine": "kept"}, correlation_id="c")
    inbox.wait(1)
    inbox.messages[0].reject()
    assert graves.wait(1) == [{"n": 1}]
    message = graves.messages[0]
    (death,) = message.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"], death["routing-keys"]) == (name, "rejected", 1, [name])
    assert message.headers["mine"] == "kept"
    assert message.headers["x-first-death-queue"] == name
    assert message.properties["correlation_id"] == "c"
    assert message.delivery_info["routing_key"] == "dead"


def test_a_dead_letter_exchange_that_a_queue_gets_while_its_consumer_waits(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """It is told so by the read, and need not wait for its next chores, a third of a lease later."""
    reader, other = make_connection(), make_connection()
    other.Producer().publish("first", routing_key=name)
    inbox = Inbox(reader, Queue(name, no_declare=True), ack=False)
    inbox.wait(1)
    inbox.messages[0].ack()
    assert inbox.nothing_comes()
    graves = Queue(f"{name}-dead", Exchange(f"{name}-x", "direct"), routing_key="d")
    graves(other.default_channel).declare()
    dead = {"x-dead-letter-exchange": f"{name}-x", "x-dead-letter-routing-key": "d"}
    Queue(name, queue_arguments=dead)(other.default_channel).declare()
    other.Producer().publish("second", routing_key=name)
    inbox.wait(2)
    inbox.messages[1].reject()
    client = fast_server.client()
    eventually(lambda: inbox.nothing_comes(0.01) and client.xlen(f"{name}-dead(event_stream)"), 5, "the dead letter")


def test_expired_to_the_dead_letter_exchange(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name)
    declared(connection, queue)
    graves = Inbox(connection, dead)
    connection.Producer().publish("x", routing_key=name, expiration=0.001)
    eventually(lambda: _age(connection.default_channel.session, name) > 1, why="the clock to pass", ignoring=())
    Inbox(connection, queue)
    assert graves.wait(1) == ["x"]
    (death,) = graves.messages[0].headers["x-death"]
    assert (death["reason"], death["original-expiration"]) == ("expired", "1")


def test_what_a_take_finds_expired_goes_on_at_once(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name)
    declared(connection, queue)
    graves = Inbox(connection, dead)
    assert graves.nothing_comes(0.1)
    connection.connection.sweep_at = math.inf  # neither this nor the chores of a lease are to find it first
    connection.Producer().publish("x", routing_key=name, expiration=0.001)
    assert graves.nothing_comes(0.05)
    Inbox(connection, queue)
    assert graves.wait(1, timeout=5) == ["x"]


def test_a_queue_without_consumers_that_only_delays(connection: Connection, name: str) -> None:
    """The usual way to delay with RabbitMQ: a queue nobody reads, whose messages expire into the one that is read."""
    queue, dead = with_dead_letters(name, **{"x-message-ttl": 300})
    declared(connection, queue)
    graves = Inbox(connection, dead)
    connection.Producer().publish("later", routing_key=name)
    assert graves.nothing_comes(0.1)
    assert graves.wait(1, timeout=5) == ["later"]


def test_max_length(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name, **{"x-max-length": 2})
    graves = Inbox(connection, dead)
    declared(connection, queue)
    for n in range(4):
        connection.Producer().publish(n, routing_key=name)
    assert graves.wait(2, timeout=5) == [0, 1]
    assert graves.messages[0].headers["x-death"][0]["reason"] == "maxlen"
    assert Inbox(connection, queue).wait(2) == [2, 3]
    full = declared(
        connection, queue_of(f"{name}-full", max_length=1, queue_arguments={"x-overflow": "reject-publish"})
    )
    connection.Producer().publish(1, routing_key=full.name)
    with pytest.raises(QueueFull):
        connection.Producer().publish(2, routing_key=full.name)
    assert full.queue_declare(passive=True).message_count == 1


@pytest.mark.parametrize("by", ["queue", "exchange", pytest.param("batch", marks=needs_batches)])
def test_what_a_publish_pushes_out_is_at_its_exchange_when_it_returns(
    connection: Connection, fast_server: Server, name: str, by: str
) -> None:
    """Though nobody consumes any of the queues, the second of which is full as well."""
    queue, dead = with_dead_letters(name, **{"x-max-length": 2})
    topic, last = Exchange(f"{name}-ex", type="topic"), Exchange(f"{name}-last", type="fanout")
    dead.queue_arguments = {"x-max-length": 1, "x-dead-letter-exchange": last.name}
    for each in (
        Queue(name, topic, routing_key="#", queue_arguments=queue.queue_arguments),
        dead,
        Queue(f"{name}-last", last),
    ):
        declared(connection, each)
    connection.connection.sweep_at = connection.connection.unused_at = math.inf  # it is not found by looking around
    channel, producer = connection.default_channel, connection.Producer()
    batch = channel.create_publish_batch()
    for n in range(5):
        if by == "batch":
            batch.publish(channel.prepare_message(str(n)), "", name)
        else:
            producer.publish(n, **({"routing_key": name} if by == "queue" else {"exchange": topic, "routing_key": "x"}))
        if by == "batch" and n == 4:
            batch.flush()
    lengths = [fast_server.client().xlen(f"{each}(event_stream)") for each in (name, dead.name, f"{name}-last")]
    assert lengths == [2, 1, 2]


def test_a_limit_in_bytes_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(PreconditionFailed, match="x-max-length-bytes.*use x-max-length"):
        declared(connection, queue_of(name, max_length_bytes=1000))
    with pytest.raises(NotFound):
        connection.default_channel.queue_declare(name, passive=True)


def test_delivery_limit(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name, **{"x-delivery-limit": 2})
    graves = Inbox(connection, dead)
    inbox = Inbox(connection, queue, ack=False)
    connection.Producer().publish("bad", routing_key=name)
    for n in range(3):
        inbox.wait(n + 1)
        inbox.messages[n].requeue()
    assert graves.wait(1) == ["bad"]
    assert graves.messages[0].headers["x-death"][0]["reason"] == "delivery_limit"
    assert inbox.nothing_comes()


def test_single_active_consumer(make_connection: Callable[..., Connection], name: str) -> None:
    queue = queue_of(name, queue_arguments={"x-single-active-consumer": True})
    first, second, writer = make_connection(), make_connection(), make_connection()
    active, standby = Inbox(first, queue), Inbox(second, queue)
    for n in range(4):
        writer.Producer().publish(n, routing_key=name)
    assert active.wait(4) == [0, 1, 2, 3]
    assert standby.nothing_comes()
    first.release()
    writer.Producer().publish(4, routing_key=name)
    assert standby.wait(1) == [4]


def test_priorities_highest_first(make_connection: Callable[..., Connection], name: str) -> None:
    connection = make_connection()
    queue = declared(connection, queue_of(name, max_priority=10))
    for n in (0, 5, 9, 5, 1):
        connection.Producer().publish(n, routing_key=name, priority=n)
    inbox = Inbox(connection, queue, prefetch=1)
    assert inbox.wait(5) == [9, 5, 5, 1, 0]


def test_priorities_lowest_first_as_stock_redis(make_connection: Callable[..., Connection], name: str) -> None:
    connection = make_connection(priority_lowest_first=True)
    queue = declared(connection, queue_of(name))
    for n in (3, 0, 9, 6):
        connection.Producer().publish(n, routing_key=name, priority=n)
    assert Inbox(connection, queue, prefetch=1).wait(4) == [0, 3, 6, 9]


def test_queues_of_vanished_readers_go_with_their_bindings(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """celery#6089, kombu#294: reply queues and bindings piled up."""
    exchange = Exchange(f"{name}-ex", type="fanout")
    reader, keeper = make_connection(lease=1), make_connection(lease=1)
    Inbox(reader, Queue(name, exchange, expires=0.2, durable=False))
    reader.default_channel.session.hang_up()  # vanishes: no goodbye
    other = Inbox(keeper, queue_of(f"{name}-other"))
    client = fast_server.client()

    def gone() -> bool:
        other.nothing_comes(0.1)
        return client.hlen(f"elkmq(exchange:{name}-ex)") == 2

    eventually(gone, 15, "the binding to go")
    with pytest.raises(NotFound):
        queue_of(name)(keeper.default_channel).queue_declare(passive=True)
    keeper.Producer().publish("x", exchange=exchange)
    assert not client.exists(f"{name}(event_stream)")


def test_a_queue_that_was_in_use_until_a_moment_ago_stays(
    connection: Connection, fast_server: Server, name: str
) -> None:
    inbox = Inbox(connection, queue_of(name, expires=60))
    session = connection.default_channel.session
    inbox.consumer.cancel()
    assert session.readers == {}  # said goodbye: no lease tells of its use
    client = fast_server.client()
    client.zadd("elkmq(expiring)", {name: 1})  # due to be looked at
    assert name not in session.run(session.routing.sweep()).dropped
    assert client.zscore("elkmq(expiring)", name) > 1
    queue_of(name)(connection.default_channel).queue_declare(passive=True)


def died(connection: Connection, dead: Queue) -> Any:
    """What somebody else gets of the dead letters who only asks."""
    with connection.clone() as other:
        message = dead(other.default_channel).get(no_ack=True)
        return message and (message.payload, message.headers["x-death"][0]["reason"])


def server_ms(connection: Connection) -> float:
    """The server's clock."""
    asked = command("TIME", parse=lambda raw: int(raw[0]) * 1000 + int(raw[1]) / 1000, doing="ask for the time")
    return float(connection.default_channel.session.run(asked))


def test_dead_letters_of_a_program_that_never_waits_for_messages(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name, **{"x-delivery-limit": 1})
    declared(connection, dead)
    declared(connection, queue)
    bound = queue(connection.default_channel)
    connection.Producer().publish("r", routing_key=name)
    bound.get().reject()
    assert died(connection, dead) == ("r", "rejected")
    connection.Producer().publish("q", routing_key=name)
    bound.get().requeue()
    bound.get().requeue()
    assert died(connection, dead) == ("q", "delivery_limit")
    connection.Producer().publish("e", routing_key=name, expiration=0.001)
    published = server_ms(connection)
    eventually(lambda: server_ms(connection) > published + 1, why="it to expire")
    assert bound.get() is None
    assert died(connection, dead) == ("e", "expired")


@pytest.mark.parametrize("closed", [False, True])
def test_dead_letters_of_a_program_that_waits_for_one_message(connection: Connection, name: str, closed: bool) -> None:
    queue, dead = with_dead_letters(name)
    declared(connection, dead)
    with connection.clone() as own:
        inbox = Inbox(own, queue, ack=False)
        inbox.consumer.register_callback(lambda _, message: message.reject())
        producer = own.Producer()
        for n in range(2 if closed else 1):
            producer.publish(n, routing_key=name)
        own.drain_events(timeout=5)
        if not closed:
            assert died(connection, dead) == (0, "rejected")
    assert died(connection, dead) == ((0, "rejected") if closed else None)


def test_what_expires_in_a_queue_nobody_reads_comes_to_who_asks_for_it(connection: Connection, name: str) -> None:
    queue, dead = with_dead_letters(name, **{"x-message-ttl": 1})
    declared(connection, dead)
    declared(connection, queue)
    connection.Producer().publish("x", routing_key=name)
    eventually(lambda: died(connection, dead) == ("x", "expired"), why="it to expire")


def test_a_queue_over_its_time_is_gone_for_whoever_asks(
    connection: Connection, make_connection: Callable[..., Connection], name: str
) -> None:
    exchange = Exchange(f"{name}-ex", type="fanout")
    queue = declared(connection, Queue(name, exchange, expires=0.001))
    producer = make_connection().Producer()
    producer.publish("x", exchange=exchange)
    published = server_ms(connection)
    eventually(lambda: server_ms(connection) > published + 1, why="its time to be over")
    asking = queue(make_connection().default_channel)
    with pytest.raises(NotFound):
        asking.queue_declare(passive=True)
    with pytest.raises(NotFound):
        asking.get()
    assert (name, exchange.name, "") not in asking.channel.list_bindings()
    assert asking.queue_declare().message_count == 0


def test_a_queue_over_its_time_takes_no_more_of_its_declarer_s_messages(
    connection: Connection, fast_server: Server, name: str
) -> None:
    exchange = Exchange(f"{name}-ex", type="fanout")
    declared(connection, Queue(name, exchange, expires=0.001))
    client, producer = fast_server.client(), connection.Producer()

    def gone() -> bool:
        producer.publish("x", exchange=exchange)
        return not client.exists(f"{name}(event_stream)")

    eventually(gone, why="a publish to find it over its time")


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-message-ttl": 10**30},
        {"x-expires": 10**30},
        {"x-max-length": 10**30},
        {"x-expires": float("inf")},
        {"x-single-active-consumer": "yes"},
        {"x-dead-letter-routing-key": "dead"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(connection: Connection, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(PreconditionFailed, match="not declared; give"):
        declared(connection, queue_of(name, queue_arguments=arguments))


@pytest.mark.parametrize("expiration", ["soon", "1.5", 10**30])
def test_an_expiration_that_makes_no_sense_is_refused(connection: Connection, name: str, expiration: object) -> None:
    channel = connection.default_channel
    message = channel.prepare_message("x", properties={"expiration": expiration})
    with pytest.raises(PreconditionFailed, match="not published; give one"):
        channel.basic_publish(message, "", name)


def test_of_what_lives_for_seconds_no_mark_is_kept_for_minutes(
    connection: Connection, fast_server: Server, name: str
) -> None:
    """Celery's events, to a queue of each worker: their marks were most of what a server of many idle workers held."""
    exchange, client, producer = Exchange(f"{name}-ex", type="fanout"), fast_server.client(), connection.Producer()
    declared(connection, Queue(name, exchange))

    def marked() -> int:
        (mark,) = client.keys(f"{name}(enqueued:*")
        left: int = client.pttl(mark)
        client.delete(mark)
        return left

    least = connection.connection.options.publish_timeout * 1000
    for way in ({"exchange": exchange}, {"routing_key": name}):
        producer.publish("x", expiration=5, **way)
        assert least < marked() <= 10_000
        producer.publish("x", expiration=0.1, **way)
        assert least < marked() <= 10_000
        for longer in ({}, {"expiration": 3600}, {"expiration": 5, "headers": {"task": "t"}}):
            producer.publish("x", **longer, **way)
            assert 60_000 < marked() <= 120_000
    declared(connection, Queue(f"{name}-short", exchange, message_ttl=5))
    producer.publish("x", routing_key=f"{name}-short")
    (mark,) = client.keys(f"{name}-short(enqueued:*")
    assert least < client.pttl(mark) <= 10_000


def test_an_auto_delete_queue_that_may_live_long_goes_soon_after_its_reader_vanished(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    """Celery's ``rpc://`` declares its reply queues so, with a day to live: one for each thread of each client."""
    options = {"lease": 1, "auto_delete_after": 0.05}
    reader, keeper, client = make_connection(**options), make_connection(**options), fast_server.client()
    names = [f"{name}-{n}" for n in range(25)]
    inboxes = [Inbox(reader, queue_of(each, auto_delete=True, expires=86400)) for each in names]
    waiting = queue_of(f"{name}-waiting", auto_delete=True, expires=86400)
    declared(keeper, waiting)  # nobody read it yet
    assert inboxes
    reader.default_channel.session.hang_up()  # vanishes: no goodbye
    other = Inbox(keeper, queue_of(f"{name}-other"))

    def gone() -> bool:
        other.nothing_comes(0.1)
        return not any(client.exists(f"{each}(event_stream)") for each in names)

    eventually(gone, 15, "the queues to go")
    waiting(keeper.default_channel).queue_declare(passive=True)
