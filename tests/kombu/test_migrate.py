"""From redis:// to elkmq://, by the command."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import VersionMismatch

from kombu_elkmq import migrate
from tests.certificates import Certificates
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import queue_of
from tests.proxy import Proxy
from tests.servers import Binary, Server, free_port
from tests.topology import Sentinel
from tests.waiting import Program


def old_broker(url: str, options: dict[str, Any] | None = None) -> Connection:
    """A connection by Kombu's own transport."""
    connection = Connection(url, transport_options=options)
    try:
        connection.connect()
    except VersionMismatch as error:
        pytest.skip(f"redis:// does not run here: {error}")
    return connection


def test_queued_and_unacked_messages_move(
    make_connection: Callable[..., Connection],
    make_server: Callable[..., Server],
    make_program: Callable[..., Program],
    name: str,
) -> None:
    server = make_server()
    with old_broker(server.url) as old:
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
    program = make_program(command=command, merge=True)
    program.wait_for(f"not moved: {name}; the new broker has no such queue")
    program.wait(status=1)
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


@pytest.mark.parametrize("killed", [False, True])
def test_what_an_old_worker_takes_during_the_move_runs_there_only(
    killed: bool,
    make_connection: Callable[..., Connection],
    make_server: Callable[..., Server],
    make_program: Callable[..., Program],
    make_proxy: Callable[[str], Proxy],
    name: str,
) -> None:
    """And a move that is killed with a message in its hands is simply started again."""
    server = make_server()
    proxy = make_proxy(server.url)
    with old_broker(server.url) as old:
        queue = Queue(name, Exchange(""), routing_key=name)
        for n in range(4):
            old.Producer().publish(n, routing_key=name, declare=[queue])
    proxy.stall()
    command = [sys.executable, "-m", "kombu_elkmq.migrate", "--from", server.url, "--to"]
    program = make_program(command=[*command, proxy.url.replace("redis", "elkmq", 1), name])
    proxy.wait_for_connections()  # it has looked at the first message, and is about to publish it
    by_old_worker = [json.loads(b64decode(json.loads(server.client().rpop(name))["body"]))]
    if killed:
        program.kill()
    proxy.heal()
    if not killed:
        program.wait_for(f"3 moved from {name}")
        program.wait()
    again = make_program(command=[*command, server.url.replace("redis", "elkmq", 1), name])
    if killed:
        again.wait_for(f"3 moved from {name}")
    again.wait()
    inbox = Inbox(make_connection(server.url), queue_of(name))
    assert sorted([*inbox.wait(3), *by_old_worker]) == [0, 1, 2, 3]
    assert inbox.nothing_comes()


def test_what_is_no_message_does_not_end_the_move(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], make_program: Callable[..., Program],
    name: str,
) -> None:  # fmt: skip
    server = make_server()
    with old_broker(server.url) as old:
        queue = Queue(name, Exchange(""), routing_key=name)
        old.Producer().publish(1, routing_key=name, declare=[queue])
        server.client().lpush(name, b"\xff", b"[]", b'{"body": 1, "properties": 5}')
        old.Producer().publish(2, routing_key=name)
    to = server.url.replace("redis", "elkmq", 1)
    program = make_program(
        command=[sys.executable, "-m", "kombu_elkmq.migrate", "--from", server.url, "--to", to, name], merge=True
    )
    program.wait_for(f"2 moved from {name}")
    program.wait(status=1)
    assert Inbox(make_connection(server.url), queue_of(name)).wait(2) == [1, 2]
    assert len(server.client().keys(f"{name}*not_messages")) == 1


def test_a_queue_keeps_its_arguments_whoever_comes_first(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], make_program: Callable[..., Program],
    name: str,
) -> None:  # fmt: skip
    server = make_server()
    to = server.url.replace("redis", "elkmq", 1)
    command = [sys.executable, "-m", "kombu_elkmq.migrate", "--from", server.url, "--to", to, "--sep", ":", name]
    connection = make_connection(server.url)
    inbox = None
    with old_broker(server.url, {"sep": ":", "priority_steps": list(range(10))}) as old:
        for n in range(2):
            queue = Queue(name, Exchange(""), routing_key=name)
            old.Producer().publish(n, routing_key=name, declare=[queue], priority=4 * n)
            program = make_program(command=command)
            program.wait_for(f"1 moved from {name}")
            program.wait()
            if inbox is None:  # only now does its program declare it
                inbox = Inbox(connection, queue_of(name, queue_arguments={"x-max-priority": 10}))
            assert inbox.wait(n + 1) == list(range(n + 1))
    assert [message.properties["priority"] for message in inbox.messages] == [0, 4]
    assert not server.client().keys(f"{name}:*")


def test_what_workers_held_goes_to_the_queue_that_it_was_in(
    make_connection: Callable[..., Connection], make_server: Callable[..., Server], make_program: Callable[..., Program],
    name: str,
) -> None:  # fmt: skip
    server = make_server()
    topic = Exchange(f"{name}-media", type="topic")
    with old_broker(server.url) as old:
        queue = Queue(name, topic, routing_key="video.#")
        old.Producer().publish("x", exchange=topic, routing_key="video.compress", declare=[queue])
        held = queue(old.default_channel).get()
        assert held is not None
        held.channel.do_restore = False
        held.channel.qos._delivered.clear()
    inbox = Inbox(make_connection(server.url), queue_of(name))
    to = server.url.replace("redis", "elkmq", 1)
    command = [sys.executable, "-m", "kombu_elkmq.migrate", "--from", server.url, "--to", to, "--unacked"]
    program = make_program(command=command)
    program.wait_for("1 moved that workers held")
    program.wait()
    assert inbox.wait(1) == ["x"]
    assert server.client().hlen("unacked") == 0


def moved(old_url: str, options: dict[str, Any], server: Server, make_program: Any, name: str, *more: str) -> None:
    """Publish by the stock transport at a url, and move from there by the same url."""
    with old_broker(old_url, options) as old:
        queue = Queue(name, Exchange(""), routing_key=name)
        old.Producer().publish("x", routing_key=name, declare=[queue])
    to = server.url.replace("redis", "elkmq", 1)
    command = [sys.executable, "-m", "kombu_elkmq.migrate", "--from", old_url, "--to", to, *more, name]
    program = make_program(command=command, merge=True)
    program.wait_for(f"1 moved from {name}")
    program.wait()


def test_from_a_unix_socket(
    make_server: Callable[..., Server], make_program: Callable[..., Program], name: str
) -> None:
    server = make_server(password="p@ss/word")
    url = f"redis+socket://:p%40ss%2Fword@{server.socket}?virtual_host=3"
    moved(url, {}, make_server(), make_program, name)
    assert server.client(db=3).keys(f"{name}*") == []


def test_from_a_server_with_tls(
    make_server: Callable[..., Server], make_program: Callable[..., Program], certificates: Certificates, tls_binary: Binary,
    name: str,
) -> None:  # fmt: skip
    server = make_server(tls_binary, tls=certificates)
    url = f"{server.url}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificates.ca}"
    moved(url, {}, make_server(), make_program, name)


def test_from_the_primary_that_sentinels_name(
    make_server: Callable[..., Server],
    make_sentinel: Callable[..., Sentinel],
    make_program: Callable[..., Program],
    name: str,
) -> None:
    sentinel = make_sentinel(make_server())
    url = f"sentinel://127.0.0.1:{sentinel.port}/2;sentinel://127.0.0.1:{free_port()}"
    options = {"master_name": sentinel.name}
    moved(url, options, make_server(), make_program, name, "--master-name", sentinel.name)


NOWHERE = ["--from", "redis://u:secret@127.0.0.1:1", "--to", "elkmq://u:secret@127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: --from, --to"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--from", "http://u:secret@h"], "the url does not begin with one of redis://"),
        (["--from", "redis://u:sec/ret@h"], "user or password of the url hold a '/' or '@'"),
        (["--from", "redis://h/zero"], "the database of the url is not a number"),
        (["--from", "redis://a;redis://b"], "the url names several servers"),
        (["--from", "sentinel://a"], "give it with --master-name"),
        (["--from", "sentinel://a;redis://u:secret@b", "--master-name", "m"], "the urls are not all of Sentinels"),
        (["--master-name", "m"], "--master-name goes with sentinel:// only"),
        (["--to", "redis://u:secret@h"], "--to is not an elkmq:// url"),
        (["--to", "elkmq://u:secret@[::1"], "--to: the url makes no sense"),
        (["--to", "elkmq://u:secret@h:port"], "the port of the url is not a number"),
        ([], "127.0.0.1:1/0 cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_without_a_password(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(migrate.main(arguments if "required" in sentence else [*NOWHERE, *arguments]))
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in said
    assert said.count("\n") == 1
    assert "sec" not in said.replace("seconds", "")


def test_a_wrong_password_and_a_source_that_breaks_are_one_sentence(
    make_server: Callable[..., Server],
    make_proxy: Callable[[str], Proxy],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    locked, server = make_server(password="right"), make_server()
    to = server.url.replace("redis", "elkmq", 1)
    for wrong in (locked.url.replace("right", "wrong"), locked.url.replace(":right@", "")):
        assert migrate.main(["--from", wrong, "--to", to]) == 2
        assert migrate.main(["--from", server.url, "--to", wrong.replace("redis", "elkmq", 1)]) == 2
    server.client().set(name, "no list")
    assert migrate.main(["--from", server.url, "--to", to, name]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert "what was moved is on the new queues, the rest is where it was" in said[-1]
    assert not [line for line in said if "wrong" in line or "right" in line]
