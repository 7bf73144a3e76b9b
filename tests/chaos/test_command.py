"""``elkmq chaos`` as a command: what it refuses, what it says where nothing was made, what it leaves behind."""

from __future__ import annotations

import signal
import subprocess

import pytest

from elkmq.cli.app import run
from tests.library.cli import ELKMQ, elkmq
from tests.servers import free_port
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "http://x/", "cut"], "begins with http://"),
        (["--broker", "somewhere", "cut"], "no url"),
        (["--broker", "elkmq://u:secret@[127.0.0.1:1/0", "cut"], "IPv6"),
        (["--broker", "elkmq://u:secret@127.0.0.1:99999/0", "cut"], "port"),
        (["--broker", "amqp://u:secret@127.0.0.1:99999//", "cut"], "malformed"),
        (["--broker", "amqp://", "cut"], "no server of its own"),
        (["--broker", "redis+sentinel://h/0?service=s", "cut"], "elkmq+sentinel"),
        (["cut", "--workers", ","], "none of these kinds"),
        (["cut", "--workers", "sync", "--broker", "redis://"], "none of these kinds"),
        (["cut", "--workers", "nobody"], "'nobody'"),
        (["nonsense"], "'nonsense'"),
        (["cut", "--data", "/nowhere"], "--data"),
        (["cut", "--url", "redis://a", "--broker", "redis://b"], "give one of them"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments, words, capsys):
    assert run(["chaos", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said
    assert "bug of" not in said


def test_a_run_in_which_nothing_was_made_does_not_pass_for_a_good_one():
    assert "Nothing was made" in elkmq("chaos", "--broker", "redis://", "wire", "--workers", "kombu", status=2).out


@pytest.mark.parametrize(
    ("option", "scheme"), [("--broker", "elkmq"), ("--broker", "redis"), ("--broker", "amqp"), ("--url", "redis")]
)
def test_a_broker_that_is_not_there_is_named_at_once(option, scheme):
    port = free_port()
    said = elkmq("chaos", option, f"{scheme}://u:secret@127.0.0.1:{port}/0", "cut", status=1).err
    assert str(port) in said
    assert "secret" not in said


def _for_good(client):
    """Keys that stay, which marks against repeated publishes do not; but for the one that all exchanges ever share."""
    return [key for key in client.scan_iter() if client.ttl(key) == -1 and key != b"elkmq(routing_version)"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_somebody_s_server_is_left_as_it_was_whenever_it_ends(make_server, number):
    server = make_server()
    url = server.url.replace("redis", "elkmq", 1)
    program = subprocess.Popen(
        [*ELKMQ, "chaos", "--broker", url, "cut", "--workers", "sync,kombu,solo"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with server.client() as client:
        # Celery's is there last: its worker consumes, and something was sent.
        eventually(lambda: [*client.scan_iter(match="elkmq-chaos-solo*(consumers)")], 60, why="a worker of Celery")
        eventually(lambda: [*client.scan_iter(match="elkmq-chaos-solo*(event_stream)")], 60, why="a message")
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
        assert program.returncode == 128 + number, (out, err)
        assert "interrupted" in out
        assert _for_good(client) == []


def test_the_same_when_it_is_done_by_whatever_way_the_server_is_reached(make_server):
    server = make_server()
    said = elkmq(
        "chaos", "--broker", server.unix_url.replace("unix", "elkmq+socket", 1), "kill", "cut", "--workers", "sync,solo", "--rounds", "1", "--lease", "3",
        timeout=200,
    ).out  # fmt: skip
    assert "1 of 2 faults skipped" in said  # there is no proxy to a socket
    with server.client() as client:
        assert _for_good(client) == []
