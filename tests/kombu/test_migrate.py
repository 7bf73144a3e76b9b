"""From redis:// to elkmq://, by the command."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kombu import Connection, Exchange, Queue

from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import queue_of
from tests.servers import Server
from tests.waiting import Program


def test_queued_and_unacked_messages_move(
    make_connection: Callable[..., Connection],
    make_server: Callable[..., Server],
    make_program: Callable[..., Program],
    name: str,
) -> None:
    server = make_server()
    with Connection(server.url) as old:
        producer = old.Producer()
        queue = Queue(name, Exchange(""), routing_key=name)
        for n in range(5):
            producer.publish({"n": n}, routing_key=name, declare=[queue], priority=6 * (n % 2), headers={"mine": n})
        producer.publish(b"\x00\xff", routing_key=name, content_type="application/data", content_encoding="binary")
        held = queue(old.default_channel).get()
        assert held is not None
        held.channel.do_restore = False
        held.channel.qos._delivered.clear()
    to = server.url.replace("redis", "elkmq", 1)
    command = [sys.executable, "-m", "kombu_elkmq.migrate", "--from", server.url, "--to", to]
    program = make_program(command=[*command, name])
    program.wait_for(f"5 moved from {name}")
    program.wait()
    program = make_program(command=[*command, "--unacked"])
    program.wait_for("1 moved that workers held")
    program.wait()
    inbox = Inbox(make_connection(server.url), queue_of(name), prefetch=1)
    inbox.wait(6)
    plain = [body for body in inbox.bodies if isinstance(body, dict)]
    assert sorted(body["n"] for body in plain) == list(range(5))
    assert b"\x00\xff" in [bytes(message.body) for message in inbox.messages]
    assert {message.headers["mine"] for message in inbox.messages if "mine" in message.headers} == set(range(5))
    leftovers = [
        key
        for key in server.client().keys("*")
        if server.client().type(key) in (b"list", b"hash") and name.encode() in key
    ]
    assert [key for key in leftovers if server.client().type(key) == b"list"] == []
    assert server.client().hlen("unacked") == 0
