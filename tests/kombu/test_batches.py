"""Messages that come in quick succession, that nobody acknowledges and that are over soon, as Celery's events in a fleet of workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Exchange, Producer, Queue
from redis import Redis

from kombu_elkmq.batches import BATCH, SLOW, Batches
from tests.kombu.conftest import Inbox
from tests.servers import Server

Connect = Callable[..., Connection]


def events(name: str, **options: object) -> Queue:
    options = {"auto_delete": True, "durable": False, "message_ttl": 5, **options}
    return Queue(name, Exchange(name, type="topic"), routing_key="#", **options)


VIA_SERVER = {"headers": {"task": None}}
"""Makes a message one that is not handed over within the process."""


def come(batches: Batches, spans: list[float]) -> float:
    now = 1000.0
    for span in spans:
        before, now = now, now + span
        batches.came(now, before)
        if batches.until:
            break
    return now


@given(st.lists(st.floats(BATCH / 2, 1e6), max_size=100))
def test_what_comes_one_by_one_is_waited_for_always(spans: list[float]) -> None:
    batches = Batches()
    come(batches, spans)
    assert not batches.until


@given(st.lists(st.floats(0, 1e6), max_size=20), st.floats(0, BATCH / 4))
def test_what_keeps_coming_fast_is_read_together_whatever_came_before(spans: list[float], span: float) -> None:
    batches = Batches()
    come(batches, spans)
    now = come(batches, [span] * 20)
    assert batches.until <= now + BATCH
    assert not batches.over(now) or now >= batches.until


def test_a_batch_is_read_when_its_time_is_over_and_one_that_brings_nothing_is_the_last() -> None:
    batches = Batches()
    now = come(batches, [0.0] * 20)
    assert batches.until == now + BATCH
    assert not batches.over(now)
    assert batches.over(now + BATCH)
    assert not batches.until  # until it was read
    batches.read(now + BATCH, brought=True)
    assert batches.until == pytest.approx(now + 2 * BATCH)
    assert batches.over(now + 3 * BATCH)
    batches.read(now + 2 * BATCH, brought=False)
    assert not batches.until
    batches.came(now + 2 * BATCH, now + 2 * BATCH)  # and so soon it does not begin again
    assert not batches.until


def test_a_read_that_belongs_to_no_batch_begins_none() -> None:
    batches = Batches()
    batches.read(1.0, brought=True)
    assert not batches.until
    assert SLOW > BATCH


def reads(fast_server: Server, name: str, work: Callable[[], None]) -> list[tuple[bool, set[str]]]:
    """What was sent to read queues whose names begin so: whether each read blocked, and of which queues."""
    with Redis(port=fast_server.port) as redis, redis.monitor() as monitor:
        work()
        redis.echo(f"to {name}")
        seen = list(takewhile(lambda each: each["command"] != f"ECHO to {name}", monitor.listen()))
    found = []
    for words in (each["command"].split() for each in seen if each["client_type"] != "lua"):
        queues = {word.partition("(")[0] for word in words if word.startswith(name)}
        if words[0] == "XREADGROUP" and queues:
            found.append(("BLOCK" in words, queues))
    return found


def hasten(producer: Producer, inbox: Inbox, reader: Any) -> int:
    """Messages as fast as they go, each waited for, until they are read together; how many."""
    for n in range(100):
        producer.publish(n, **VIA_SERVER)
        inbox.wait(n + 1)
        if reader.batches.until:
            break
    assert reader.batches.until
    return len(inbox.bodies)


def test_the_end_of_a_batch_is_no_end_of_the_wait(make_connection: Connect, name: str) -> None:
    """Who was woken by something else right before it was told that nothing came in time, long before that time."""
    connection = make_connection()
    inbox = Inbox(connection, events(name), no_ack=True)
    producer = make_connection().Producer(exchange=Exchange(name, type="topic"))
    already = hasten(producer, inbox, connection.connection.readers[name])
    stop, session = threading.Event(), connection.connection

    def disturb() -> None:
        while not stop.wait(0.0001):
            session.wake()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for n in range(already, already + 20):
            producer.publish(n, **VIA_SERVER)
            connection.drain_events(timeout=30)
    finally:
        stop.set()
        disturber.join()
    assert inbox.bodies == list(range(already + 20))


def test_the_queue_is_left_out_of_the_wait_and_read_by_itself(
    make_connection: Connect, fast_server: Server, name: str
) -> None:
    connection, other = make_connection(), make_connection()
    inbox = Inbox(connection, events(f"{name}-e"), no_ack=True)
    tasks = Inbox(connection, Queue(f"{name}-t"))
    producer = other.Producer(exchange=Exchange(f"{name}-e", type="topic"))
    reader = connection.connection.readers[f"{name}-e"]
    already = hasten(producer, inbox, reader)

    def work() -> None:
        for n in range(already, already + 30):
            producer.publish(n, **VIA_SERVER)
        inbox.wait(already + 30)
        other.Producer(routing_key=f"{name}-t").publish("a task")
        tasks.wait(1)
        assert inbox.nothing_comes(3 * BATCH)

    found = reads(fast_server, name, work)
    assert inbox.bodies == list(range(already + 30))
    both, alone = {f"{name}-e", f"{name}-t"}, {f"{name}-e"}
    assert (False, alone) in found  # a batch, which did not wait
    assert len([one for one in found if one == (False, alone)]) < 15
    assert (True, {f"{name}-t"}) in found  # a task is waited for all the while
    assert found[-2:] == [(False, alone), (True, both)]  # a batch brought nothing: so the next event is waited for, too


def test_what_is_acknowledged_is_never_put_off(make_connection: Connect, name: str) -> None:
    connection = make_connection()
    inbox = Inbox(connection, events(name))
    producer = make_connection().Producer(exchange=Exchange(name, type="topic"))
    reader = connection.connection.readers[name]
    for n in range(60):
        producer.publish(n, **VIA_SERVER)
        inbox.wait(n + 1)
        assert not reader.batches.until
    assert inbox.bodies == list(range(60))
