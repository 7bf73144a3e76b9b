"""Declarations that are refused, and queues that are one connection's own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, ChannelError, NotFound, PreconditionFailed, ResourceLocked
from kombu import Connection, Queue

from kombu_elkmq.processes import about_this, is_gone
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import declared, queue_of
from tests.servers import Server
from tests.waiting import eventually


def test_a_plain_queue_is_not_declared_anew_with_arguments(
    make_connection: Callable[..., Connection], name: str
) -> None:
    one, other = make_connection(), make_connection()
    declared(one, queue_of(name))
    declared(other, queue_of(name))
    with pytest.raises(PreconditionFailed, match="declared with {} and now with .*x-message-ttl.*redeclare"):
        declared(other, queue_of(name, message_ttl=5))
    one.Producer().publish("still there", routing_key=name)
    assert Inbox(other, queue_of(name)).wait(1) == ["still there"]


def test_a_queue_with_arguments_is_not_declared_anew_without(
    make_connection: Callable[..., Connection], name: str
) -> None:
    one, other = make_connection(), make_connection()
    declared(one, queue_of(name, max_length=3))
    with pytest.raises(PreconditionFailed, match="x-max-length"):
        declared(other, queue_of(name))


def test_a_queue_that_was_only_published_to_takes_its_first_arguments(connection: Connection, name: str) -> None:
    connection.Producer().publish("early", routing_key=name)
    declared(connection, queue_of(name, max_length=1))
    connection.Producer().publish("late", routing_key=name)
    assert Inbox(connection, queue_of(name, max_length=1)).wait(1) == ["late"]


def test_deleted_it_may_be_declared_otherwise(connection: Connection, name: str) -> None:
    declared(connection, queue_of(name)).delete()
    connection = connection.clone()
    with connection:
        declared(connection, queue_of(name, max_length=1))


@pytest.mark.parametrize("argument", ["x-queue-type", "x-queue-mode", "x-made-up"])
def test_arguments_that_mean_nothing_are_no_difference(
    make_connection: Callable[..., Connection], name: str, argument: str
) -> None:
    declared(make_connection(), queue_of(name))
    declared(make_connection(), queue_of(name, queue_arguments={argument: "quorum"}))


def test_who_comes_from_redis_may_keep_queues_as_they_are(
    make_connection: Callable[..., Connection], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    declared(make_connection(), queue_of(name))
    with caplog.at_level(logging.WARNING, "kombu_elkmq"):
        declared(make_connection(redeclare="keep"), queue_of(name, max_length=1))
    assert "it goes on as it was" in caplog.text


USES: dict[str, Callable[[Any, str], object]] = {
    "declare": lambda channel, queue: channel.queue_declare(queue, exclusive=True),
    "look": lambda channel, queue: channel.queue_declare(queue, passive=True),
    "consume": lambda channel, queue: channel.basic_consume(queue),
    "get": lambda channel, queue: channel.basic_get(queue),
    "purge": lambda channel, queue: channel.queue_purge(queue),
    "delete": lambda channel, queue: channel.queue_delete(queue),
}


@pytest.mark.parametrize("use", USES)
def test_an_exclusive_queue_is_refused_to_others(
    make_connection: Callable[..., Connection], name: str, use: str
) -> None:
    owner, other = make_connection(), make_connection()
    inbox = Inbox(owner, queue_of(name, exclusive=True))
    with pytest.raises(ResourceLocked, match="exclusive to another connection") as caught:
        USES[use](other.default_channel, name)
    assert caught.value.reply_code == 405
    other.Producer().publish("to the owner", routing_key=name)
    assert inbox.wait(1) == ["to the owner"]


def test_an_exclusive_queue_goes_with_its_connection(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    owner, other = make_connection(), make_connection()
    owner.default_channel.queue_declare(name, exclusive=True)
    owner.default_channel.queue_declare(name, exclusive=True)
    other.Producer().publish("lost with it", routing_key=name)
    owner.release()
    with pytest.raises(NotFound):
        other.default_channel.queue_declare(name, passive=True)
    assert not fast_server.client().exists(f"{name}(event_stream)")
    other.default_channel.queue_declare(name, exclusive=True)


def test_an_exclusive_queue_goes_with_its_last_consumer_and_nobody_misses_it(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name, exclusive=True))
    assert queue.queue_declare(passive=True).consumer_count == 0
    inbox = Inbox(connection, queue)
    assert queue.queue_declare(passive=True).consumer_count == 1
    inbox.consumer.cancel()
    session = connection.default_channel.session
    assert not session.readers  # nothing is left that a heartbeat could find to be gone
    with pytest.raises(NotFound):
        queue.queue_declare(passive=True)


def test_a_mailbox_of_remote_control_is_shared(make_connection: Callable[..., Connection], name: str) -> None:
    one, other = make_connection(), make_connection()
    mailbox = queue_of(f"{name}.celery.pidbox", exclusive=True)
    Inbox(one, mailbox)
    Inbox(other, mailbox)
    assert declared(other, mailbox).queue_declare(passive=True).consumer_count == 2


def test_an_exclusive_queue_of_one_who_died_is_whose_comes_next(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    owner, other = make_connection(lease=1), make_connection(lease=1)
    owner.default_channel.queue_declare(name, exclusive=True)
    owner.default_channel.session.hang_up()  # vanishes: no goodbye
    keeper = Inbox(other, queue_of(f"{name}-other"))

    def mine() -> bool:
        assert keeper.nothing_comes(0.1)
        try:
            other.default_channel.queue_declare(name, exclusive=True)
        except ResourceLocked:
            return False
        return True

    eventually(mine, 15, "the owner's lease to be over")
    with pytest.raises(ResourceLocked):
        make_connection().default_channel.queue_declare(name, passive=True)


def test_a_connection_made_anew_has_its_exclusive_queues_again(
    make_connection: Callable[..., Connection], name: str
) -> None:
    connection = make_connection()
    queue: Queue = queue_of(name, exclusive=True)
    inbox = Inbox(connection, queue, ack=False)
    connection.Producer().publish("in hand", routing_key=name)
    inbox.wait(1)
    connection.collect()  # as Celery does after an error; the message in hand is the old session's still
    again = Inbox(connection, queue)
    connection.Producer().publish("new", routing_key=name)
    assert again.wait(1) == ["new"]
    inbox.messages[0].ack()


def test_priorities_up_to_what_the_queue_was_declared_with(connection: Connection, name: str) -> None:
    queue = declared(connection, queue_of(name, max_priority=200))
    for n in (100, 150, 255, 9):
        connection.Producer().publish(n, routing_key=name, priority=n)
    assert Inbox(connection, queue, prefetch=1).wait(4) == [255, 150, 100, 9]
    with pytest.raises(PreconditionFailed, match="0 to 255"):
        declared(connection, queue_of(f"{name}-2", max_priority=256))


@pytest.mark.parametrize("reserved", ["a{b}", "a}", "{name}(settings)", "{name}(enqueued:x)"])
def test_a_reserved_name_makes_no_queue_whichever_way_it_comes(
    connection: Connection, name: str, reserved: str
) -> None:
    reserved = reserved.replace("{name}", name)
    with pytest.raises(AccessRefused, match="reserved; nothing was changed"):
        declared(connection, queue_of(reserved))
    for options in ({}, {"mandatory": True}):
        with pytest.raises(AccessRefused, match="reserved; nothing was changed"):
            connection.Producer().publish("nowhere", routing_key=reserved, **options)
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": reserved}
    with pytest.raises(PreconditionFailed, match="a name that a queue can have"):
        declared(connection, queue_of(name, queue_arguments=letters))
    connection.Producer().publish("works", routing_key=name)
    assert Inbox(connection, queue_of(name)).wait(1) == ["works"]


def test_no_queue_is_called_nothing(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], name: str
) -> None:
    server = make_server()
    connection, other = (make_connection(server.url, **options) for options in ({}, {"unroutable_queue": name}))
    connection.Producer().publish("nowhere")
    with pytest.raises(ChannelError, match="NO_ROUTE"):
        connection.Producer().publish("returned", mandatory=True)
    assert not server.client().exists("(event_stream)")
    other.Producer().publish("kept")
    assert Inbox(connection, queue_of(name)).wait(1) == ["kept"]


def test_a_dead_letter_key_says_something(connection: Connection, name: str) -> None:
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": ""}
    with pytest.raises(PreconditionFailed, match="a key, or leave it out"):
        declared(connection, queue_of(name, queue_arguments=letters))


def test_whose_process_is_gone_is_told_only_of_those_that_can_be_compared() -> None:
    ours = about_this()
    assert is_gone(json.dumps(ours).encode())  # an earlier connection of this process
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(json.dumps({**ours, "pid": ended.pid}).encode())
    assert not is_gone(json.dumps({**ours, "pid": os.getppid()}).encode())
    for change in ({"pids": "of another container"}, {"pids": None}, {"pid": None}, {"pid": 0}, {"pid": "1"}):
        assert not is_gone(json.dumps({**ours, **change}).encode())
    for text in (b"", b"[]", b"no JSON", b"{}"):
        assert not is_gone(text)
