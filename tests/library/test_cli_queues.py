"""The command line's commands that look after queues."""

from __future__ import annotations

import json
import os
import signal

import pytest

from elkmq import EventQueue, Options, ServiceEvent
from tests.library.cli import ELKMQ, elkmq


@pytest.fixture
def queue(closing, fast_url, name):
    return closing.enter_context(EventQueue(name, fast_url))


def test_purge(fast_url, queue):
    queue.enqueue_many(ServiceEvent(5, "a") for _ in range(30))
    queue.enqueue(ServiceEvent(5, "a"), delay=60)
    assert "add --yes" in elkmq("purge", queue.name, url=fast_url, status=2).err
    assert queue.stats().ready == 30
    assert elkmq("purge", queue.name, "--yes", url=fast_url).out == "removed 30 events\n"
    assert json.loads(elkmq("purge", queue.name, "--delayed", "--yes", "--json", url=fast_url).out) == {"purged": 1}


def test_pause_and_resume(fast_url, queue):
    queue.enqueue(ServiceEvent(5, "a"))
    elkmq("pause", queue.name, url=fast_url)
    assert elkmq("listen", queue.name, "--timeout", "0", url=fast_url).out == ""
    assert "paused" in elkmq("stats", queue.name, url=fast_url).out
    elkmq("resume", queue.name, url=fast_url)
    assert elkmq("listen", queue.name, "--timeout", "0", url=fast_url).out.endswith("  a\n")


def test_settings(fast_url, queue):
    found = elkmq("settings", queue.name, "max_length=5", "overflow=drop_oldest", "ttl=1.5", "--json", url=fast_url).out
    wanted = {"max_length": 5, "overflow": "drop_oldest", "ttl": 1.5, "paused": None}
    assert {key: json.loads(found)[key] for key in wanted} == wanted
    shown = elkmq("settings", queue.name, "overflow=", "max_length=", "single_active=yes", url=fast_url).out
    assert [line.split() for line in shown.splitlines() if line.split()[1] != "default"] == [
        ["SETTING", "VALUE"], ["ttl", "1.5"], ["single_active", "yes"]
    ]  # fmt: skip
    assert "is not NAME=VALUE" in elkmq("settings", queue.name, "maxlength=5", url=fast_url, status=2).err
    assert "whole number" in elkmq("settings", queue.name, "max_length=x", url=fast_url, status=2).err


def test_the_log(fast_url, queue):
    queue.configure(retention=60)
    for n in range(3):
        queue.enqueue(ServiceEvent(5, "a", str(n)))
        queue.receive().ack()
    lines = elkmq("log", queue.name, "--json", url=fast_url).out.splitlines()
    assert [json.loads(line)["event"]["payload"] for line in lines] == ["0", "1", "2"]
    start = json.loads(lines[1])["id"]
    assert elkmq("log", queue.name, "--start", start, "--limit", "1", url=fast_url).out.endswith("a  1\n")


def test_stats_of_all_queues(make_server):
    url = make_server().url
    assert elkmq("stats", url=url).out == "no queues\n"
    for name in ("one", "two"):
        elkmq("enqueue", name, "a", url=url)
    elkmq("enqueue", "other", "a", "--prefix", "pre-", url=url)
    found = json.loads(elkmq("stats", "--prefix", "pre-", "--json", url=url).out)
    assert [look["queue"] for look in found] == ["other"]
    lines = [line.split() for line in elkmq("stats", "one", "two", url=url).out.splitlines()]
    assert [line[:2] for line in lines] == [["QUEUE", "READY"], ["one", "1"], ["two", "1"]]


def test_stats_show_who_consumes(fast_url, queue):
    with EventQueue(queue.name, fast_url, options=Options(lease=60)) as other, other.consumer() as consumer:
        other.enqueue(ServiceEvent(5, "a"))
        held = consumer.get(10)  # not dropped, which would send it back
        assert held
        out = elkmq("stats", queue.name, url=fast_url).out
    assert f"{os.getpid()}" in out
    assert " s left" in out
    assert ["in", "flight", "1"] in [line.split() for line in out.splitlines()]


def test_stats_again_and_again_until_ctrl_c(make_program, fast_url, queue):
    command = [*ELKMQ, "stats", queue.name, "--watch", "--every", "0.1", "--json"]
    program = make_program(command=command, env={"ELKMQ_URL": fast_url})
    program.wait_for('"ready": 0')
    queue.enqueue(ServiceEvent(5, "a"))
    program.wait_for('"ready": 1')
    program.signal(signal.SIGINT)
    program.wait(status=0)


def test_stats_of_all_leave_out_what_is_no_name_of_ours(make_server, name):
    server = make_server()
    with EventQueue(name, server.url) as queue:
        queue.enqueue(ServiceEvent(5, "a"))
    with server.client() as client:
        client.xadd("a{b}(event_stream)", {"event": "{}"})
    found = elkmq("stats", url=server.url)
    assert name in found.out
    assert "left out: 'a{b}': the queue's name has braces" in found.err
