"""Consumers on Kombu's event loop, as a Celery worker has them: what a pass leaves behind, and what wakes the loop."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Connection
from kombu.asynchronous import Hub

from elkmq._core import clock
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import queue_of
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


class Passes:
    """An event loop, driven pass by pass."""

    def __init__(self, closing: ExitStack) -> None:
        self.hub = Hub()
        self.count = 0
        closing.callback(self.hub.close)
        self._passes = self.hub.create_loop()

    def join(self, connection: Connection) -> None:
        """Have the loop serve a connection."""
        connection.transport.register_with_event_loop(connection.connection, self.hub)

    def one(self) -> None:
        """One pass."""
        next(self._passes)
        self.count += 1

    def until(self, happened: Callable[[], bool], why: str) -> None:
        """Passes until something is so."""

        deadline = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain for {why}"
            self.one()


@pytest.fixture
def loop(closing: ExitStack) -> Passes:
    """An event loop."""
    return Passes(closing)


def pending(server: Server, queue: str) -> int:
    """How many entries of a queue are at the server, ready or handed out."""
    return int(server.client().xlen(f"{queue}(event_stream)"))


def test_acknowledged_before_the_next_long_callback_starts(
    loop: Passes, connection: Connection, fast_server: Server, name: str
) -> None:
    """Killed in its third callback, a program has two messages behind it, not none."""
    inbox = Inbox(connection, queue_of(name), prefetch=20)
    for n in range(6):
        connection.Producer().publish(n, routing_key=name)
    left: list[int] = []

    def work(body: Any, message: Any) -> None:
        left.append(pending(fast_server, name))
        message.ack()
        threading.Event().wait(0.02)

    inbox.consumer.callbacks[:] = [work]
    loop.join(connection)
    loop.until(lambda: len(left) == 6, "six callbacks")
    assert left == [6, 5, 4, 3, 2, 1]


def test_what_a_pass_acknowledged_is_told_though_a_callback_raises(
    loop: Passes, connection: Connection, fast_server: Server, name: str
) -> None:
    inbox = Inbox(connection, queue_of(name), prefetch=20)
    for n in range(6):
        connection.Producer().publish(n, routing_key=name)

    def work(body: Any, message: Any) -> None:
        if body == 3:
            raise LookupError
        message.ack()

    inbox.consumer.callbacks[:] = [work]
    loop.join(connection)
    with pytest.raises(LookupError):
        loop.until(lambda: False, "the fourth to raise")
    eventually(lambda: pending(fast_server, name) == 3, why="three acknowledgements to arrive, with no pass after them")


def test_an_acknowledgement_from_another_thread_ends_the_wait(loop: Passes, connection: Connection, name: str) -> None:
    """It makes room for the next message, and the loop may be waiting for long."""
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=1)
    for n in range(2):
        connection.Producer().publish(n, routing_key=name)
    loop.join(connection)
    loop.until(lambda: bool(inbox.messages), "the first message")
    pipe = connection.default_channel.session.pipe
    loop.until(lambda: not select.select([pipe], [], [], 0)[0], "a loop that has nothing to do")
    thread = threading.Thread(target=inbox.messages[0].ack)
    thread.start()
    thread.join()
    assert select.select([pipe], [], [], 0)[0]
    loop.until(lambda: len(inbox.messages) == 2, "the second message")


def test_a_loop_does_not_spin_while_the_server_is_away(
    loop: Passes, make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server,
    name: str,
) -> None:  # fmt: skip
    proxy = make_proxy(fast_server.url)
    connection = make_connection(proxy.url)
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=8)
    make_connection().Producer().publish(1, routing_key=name)
    loop.join(connection)
    loop.until(lambda: bool(inbox.messages), "a message")
    session = connection.default_channel.session
    proxy.cut(refuse=True)
    session.taker.drop()
    session.pump.takes.put_off = clock.now()  # as of a take that was due when the connection broke
    loop.until(lambda: session.pump.mending, "the loss to be noticed")
    began = loop.count
    done = threading.Event()
    threading.Timer(1.0, done.set).start()
    loop.until(done.is_set, "a second")
    assert loop.count - began < 100


def test_a_loop_goes_on_while_a_connection_is_mended(
    loop: Passes, make_connection: Callable[..., Connection], make_proxy: Callable[[str], Proxy], fast_server: Server,
    name: str,
) -> None:  # fmt: skip
    proxy = make_proxy(fast_server.url)
    url = proxy.url.replace("://", "://default:any@")  # whoever logs in waits for an answer
    connection = make_connection(url, socket_timeout=60, socket_connect_timeout=60)
    queue, dead = queue_of(name), queue_of(f"{name}-2")
    inbox = Inbox(connection, queue, dead, ack=False, prefetch=8)
    for n, each in enumerate((name, name, f"{name}-2")):
        make_connection().Producer().publish(n, routing_key=each)
    loop.join(connection)
    loop.until(lambda: len(inbox.messages) == 3, "the messages")
    session = connection.default_channel.session
    proxy.stall()
    accepted = proxy.accepted
    session.taker.drop()
    loop.until(lambda: session.pump.mending, "the loss to be noticed")
    proxy.wait_for_accepted(accepted)
    inbox.messages[0].ack()
    inbox.messages[1].reject(requeue=True)
    loop.one()
    inbox.messages[2].reject()
    session.relay.look(session.readers[name])  # as the heart's thread does when it hears of dead letters
    loop.one()
    # The one attempt to connect is still under way: none of this has waited for its end.
    assert not session.taker._lock.acquire(blocking=False)
    assert proxy.accepted == accepted + 1
    proxy.heal()
    loop.until(lambda: len(inbox.messages) == 4, "what was sent back")
    loop.until(lambda: pending(fast_server, name) == 0, "the acknowledgement")
    loop.until(lambda: pending(fast_server, f"{name}-2") == 0, "the reject")


@pytest.mark.parametrize("as_file", [False, True])
def test_others_may_watch_a_descriptor_again_and_again(
    loop: Passes, connection: Connection, closing: ExitStack, as_file: bool
) -> None:
    """Celery's pools have descriptors taken off the loop that are not watched, and put on again."""
    loop.join(connection)
    reading, writing = os.pipe()
    end = closing.enter_context(os.fdopen(reading, "rb", buffering=0))
    closing.callback(os.close, writing)
    seen: list[bytes] = []
    watched: Any = end if as_file else reading
    for n in range(3):
        loop.hub.remove_reader(watched)
        loop.hub.remove_reader(reading)
        loop.hub.add_reader(watched, lambda: seen.append(os.read(reading, 1)))
        os.write(writing, b"x")
        loop.until(lambda: len(seen) == n + 1, "the byte")  # noqa: B023 - not after this round
        loop.hub.remove_reader(watched)
        loop.hub.remove_reader(watched)
    os.write(writing, b"x")
    assert reading not in [fd for fd, _ in loop.hub.poller.poll(0) or ()]


def test_what_callbacks_called_for_soon_is_done_before_the_next_one(
    loop: Passes, connection: Connection, fast_server: Server, name: str
) -> None:
    """Celery acknowledges so, and with a solo pool its tasks run in the callback: killed in the third, two are behind it."""
    inbox = Inbox(connection, queue_of(name), prefetch=20)
    for n in range(6):
        connection.Producer().publish(n, routing_key=name)
    passes: list[int] = []

    def work(body: Any, message: Any) -> None:
        eventually(lambda: pending(fast_server, name) == 6 - body, 5, "the acknowledgement of those before")
        passes.append(loop.count)
        loop.hub.call_soon(message.ack)

    inbox.consumer.callbacks[:] = [work]
    loop.join(connection)
    loop.until(lambda: len(passes) == 6, "six callbacks")


def test_pool_processes_are_seen_to_between_two_messages(loop: Passes, connection: Connection, name: str) -> None:
    """What they finish, and are to get next, waits for a pass: so each pass hands out one message, or two."""
    loop.hub.consolidate_callback = lambda fds: None  # what Celery's prefork pool sets
    inbox = Inbox(connection, queue_of(name), prefetch=20)
    for n in range(6):
        connection.Producer().publish(n, routing_key=name)
    passes: list[int] = []
    inbox.consumer.callbacks[:] = [lambda body, message: passes.append(loop.count)]
    loop.join(connection)
    loop.hub.poller.loops[0]._timer.cancel()  # without the looks that it takes once a second
    loop.until(lambda: len(passes) == 6, "six callbacks")
    # Two where a read brought more in a pass that had something to hand out already.
    assert max(passes.count(each) for each in passes) <= 2


def test_a_descriptor_that_was_closed_and_opened_anew_is_watched(
    loop: Passes, connection: Connection, closing: ExitStack
) -> None:
    """Nobody tells the loop of the former, and a number is soon another file's."""
    loop.join(connection)
    seen: list[bytes] = []
    number, first = os.pipe()
    closing.callback(os.close, first)
    loop.hub.add_reader(number, lambda: seen.append(os.read(number, 1)))
    os.write(first, b"x")
    loop.until(lambda: len(seen) == 1, "the byte")
    reading, second = os.pipe()
    closing.callback(os.close, second)
    os.dup2(reading, number)
    os.close(reading)
    closing.callback(os.close, number)
    loop.hub.add_reader(number, lambda: seen.append(os.read(number, 1)))
    os.write(second, b"x")
    loop.until(lambda: len(seen) == 2, "the byte of the new one")


@pytest.mark.parametrize("pool", [False, True])
def test_more_is_had_at_once_where_acknowledgements_made_room(
    loop: Passes, connection: Connection, name: str, pool: bool
) -> None:
    """Also where nothing but they happened in a pass; and without the looks that the loop takes once a second."""
    if pool:
        loop.hub.consolidate_callback = lambda fds: None
    inbox = Inbox(connection, queue_of(name), ack=False, prefetch=4)
    for n in range(60):
        connection.Producer().publish(n, routing_key=name)
    loop.join(connection)
    loop.hub.poller.loops[0]._timer.cancel()
    acknowledged = 0
    for most in (4, 20, 60):
        while acknowledged < most:
            loop.until(lambda: len(inbox.messages) > acknowledged, "more")  # noqa: B023 - not after this round
            loop.hub.call_later(0.01, bool)
            loop.one()  # sees to what came; the next one brings acknowledgements only
            ready, acknowledged = inbox.messages[acknowledged:], len(inbox.messages)
            for message in ready:
                loop.hub.call_soon(message.ack)
    inbox.messages.clear()
    inbox.consumer.qos(prefetch_count=150)  # several passes' worth, and takes in the midst of them
    inbox.consumer.callbacks[:] = [
        lambda body, message: (inbox.messages.append(message), loop.hub.call_soon(message.ack))
    ]
    for n in range(600):
        connection.Producer().publish(n, routing_key=name)
    loop.until(lambda: len(inbox.messages) == 600, "those that are acknowledged at once")
