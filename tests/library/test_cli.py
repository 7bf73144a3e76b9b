"""The command line's commands, run as programs against real servers."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from elkmq import EventQueue, ServiceEvent
from tests.library.cli import ELKMQ, elkmq
from tests.waiting import eventually


@pytest.fixture
def queue(closing, fast_url, name):
    return closing.enter_context(EventQueue(name, fast_url))


@pytest.fixture
def listening(make_program, fast_url, queue):
    """Start ``elkmq listen`` on the queue and wait until it is registered."""

    def start(*arguments):
        program = make_program(command=[*ELKMQ, "listen", queue.name, *arguments], env={"ELKMQ_URL": fast_url})
        eventually(lambda: [c for c in queue.stats().consumers if c.pid == program.pid], why="the consumer to register")
        return program

    return start


def python(source, *arguments):
    """A ``--run`` that runs Python source."""
    return shlex.join([sys.executable, "-c", source, *map(str, arguments)])


# -- events in and out


def test_an_event_in_and_out_on_every_server(server_url, name):
    sent = json.loads(
        elkmq("enqueue", name, "greet", "Ada", "--priority", "3", "--header", "k=v", "--json", url=server_url).out
    )
    assert json.loads(elkmq("stats", name, "--json", url=server_url).out)["ready"] == 1
    found = json.loads(elkmq("listen", name, "--count", "1", "--json", url=server_url).out)
    wanted = {"action": "greet", "payload": "Ada", "priority": 3, "headers": {"k": "v"}, "timeout": 60, **sent}
    assert {key: found[key] for key in wanted} == wanted
    now = json.loads(elkmq("stats", name, "--json", url=server_url).out)
    assert (now["queue"], now["ready"], now["in_flight"], now["completed"]) == (name, 0, 0, 1)


def test_options_of_every_command_stand_before_or_after_it(fast_url, queue):
    elkmq("--url", fast_url, "--prefix", "pre-", "enqueue", queue.name, "a")
    assert queue.stats().ready == 0
    found = elkmq("listen", "--json", queue.name, "--timeout", "0", "--prefix", "pre-", "--url", fast_url).out
    assert json.loads(found)["action"] == "a"


def test_the_embedded_server_keeps_events_between_two_commands(tmp_path, name):
    data = str(tmp_path / "data")
    elkmq("enqueue", name, "a", "kept", "--data", data)
    assert "a  kept" in elkmq("listen", name, "--timeout", "0", "--data", data).out


def test_lines_of_standard_input_in_their_order(fast_url, queue):
    text = "".join(f"{n}\n" for n in range(1234))
    assert json.loads(elkmq("enqueue", queue.name, "n", "--lines", "--json", url=fast_url, stdin=text).out) == {
        "enqueued": 1234
    }
    assert [d.event.payload for d in queue.receive_many(5000)] == text.split()


def test_a_line_does_not_wait_for_the_next(make_program, fast_url, queue):
    program = make_program(command=[*ELKMQ, "enqueue", queue.name, "n", "--lines"], env={"ELKMQ_URL": fast_url})
    for line in ("first", "second"):
        program.send(line)
        with queue.receive(20) as delivery:
            assert delivery.event.payload == line
    program.process.stdin.close()
    program.wait()


def test_json_lines_that_listen_printed_can_be_sent_on(fast_url, queue):
    first = '{"action": "a", "payload": {"x": 1}, "priority": 2}\n{"payload": "p", "ttl": 60, "headers": {"h": [1]}}'
    elkmq("enqueue", queue.name, "b", "--jsonl", url=fast_url, stdin=first)
    printed = elkmq("listen", queue.name, "--timeout", "0", "--json", url=fast_url).out
    elkmq("enqueue", queue.name + "-2", "--jsonl", url=fast_url, stdin=printed, env={"ELKMQ_PREFIX": ""})
    with EventQueue(queue.name + "-2", fast_url) as second:
        found = second.receive_many(10)
    assert [(d.event.action, d.event.payload, d.priority) for d in found] == [("a", '{"x": 1}', 2), ("b", "p", 0)]
    assert found[1].headers == {"h": [1]}
    assert [str(d.event.uuid) for d in found] == [json.loads(line)["uuid"] for line in printed.splitlines()]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\xff", "UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"{", "Expecting"),
        (b'{"payload": "no action"}', "no action"),
        (b'{"action": "a", "prority": 1}', "'prority' is no field"),
        (b'{"action": "a", "timeout": 0}', "timeout is 0"),
        (b'{"action": "a", "uuid": "x"}', "hexadecimal UUID"),
        (b'{"action": 1}', "action is int"),
        (b'{"action": "a", "priority": 256}', "priority"),
        (b"[" * 100_000, "nested|JSON"),
    ],
)
def test_a_line_that_is_no_event_stops_after_those_before_it(fast_url, queue, line, why):
    ended = elkmq(
        "enqueue", queue.name, "--jsonl", url=fast_url, stdin=b'{"action": "good"}\n' + line + b"\n{}\n", status=1
    )
    assert "line 2 is no event: " in ended.err
    assert any(part in ended.err for part in why.split("|"))
    assert len(ended.err.splitlines()) == 1
    assert queue.stats().ready == 1


def test_a_file_sent_again_adds_only_what_is_missing(fast_url, queue):
    for text in ("a\nb\n", "a\nb\nc\n"):
        elkmq("enqueue", queue.name, "n", "--lines", "--dedupe-id", "import-7", url=fast_url, stdin=text)
    assert [d.event.payload for d in queue.receive_many(10)] == ["a", "b", "c"]


def test_a_full_queue_says_how_far_it_came(fast_url, queue):
    queue.configure(max_length=600)
    ended = elkmq("enqueue", queue.name, "n", "--lines", url=fast_url, stdin="x\n" * 5, status=0)
    queue.purge()
    ended = elkmq("enqueue", queue.name, "n", "--lines", url=fast_url, stdin="x\n" * 2000, status=1)
    assert "full" in ended.err
    assert queue.stats().ready <= 600


def test_control_characters_do_not_reach_the_terminal(fast_url, queue):
    queue.enqueue(ServiceEvent(5, "a\x1b[2J", "line\nline\x07"))
    out = elkmq("listen", queue.name, "--count", "1", url=fast_url).out
    assert out.endswith("a\\e[2J  line\\nline\\u0007\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_listen_ends_cleanly(listening, queue, number):
    program = listening()
    program.signal(number)
    program.wait(status=0)
    assert queue.stats().consumers == ()
    assert program.errors == ""


def test_what_nobody_could_read_is_handed_back(fast_url, queue):
    queue.enqueue(ServiceEvent(5, "a"))
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*ELKMQ, "listen", queue.name, "--url", fast_url], stdout=write, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")
    with queue.receive() as delivery:
        assert (delivery.handed_out, delivery.failed) == (2, 0)


# -- listen --run, request


def test_a_program_answers_requests(listening, fast_url, queue):
    listening("--run", "cat")
    assert elkmq("request", queue.name, "echo", "Größe\n2", url=fast_url).out == "Größe\n2\n"
    assert (
        json.loads(elkmq("request", queue.name, "echo", "-", "--json", url=fast_url, stdin="in").out)["payload"] == "in"
    )


def test_a_program_that_fails_answers_a_request_with_that(listening, fast_url, queue):
    listening("--run", "false")
    ended = elkmq("request", queue.name, "echo", url=fast_url, status=1)
    assert ended.err == "elkmq: the handler of 'echo' failed: ProgramFailed: false ended with status 1.\n"


def test_a_program_that_fails_gets_its_event_again(listening, queue, tmp_path):
    source = "import os, sys; open(sys.argv[1], 'a').write(os.environ['ELKMQ_FAILED']); sys.exit(not int(os.environ['ELKMQ_FAILED']))"
    listening("--run", python(source, tmp_path / "runs"))
    queue.enqueue(ServiceEvent(5, "a", "x"))
    eventually(lambda: queue.stats().completed == 1, why="the second run")
    assert (tmp_path / "runs").read_text() == "01"


def test_what_runs_at_the_end_may_finish(listening, queue, tmp_path):
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    source = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read()); open(sys.argv[2]).read()"
    program = listening("--run", python(source, tmp_path / "started", tmp_path / "go"))
    queue.enqueue(ServiceEvent(5, "a", "payload"))
    assert (tmp_path / "started").read_text() == "payload"
    program.signal(signal.SIGINT)
    (tmp_path / "go").write_text("")
    program.wait(status=0)
    now = queue.stats()
    assert (now.ready, now.in_flight, now.completed) == (0, 0, 1)


def test_a_request_nobody_answers_times_out(fast_url, queue):
    ended = elkmq("request", queue.name, "greet", "--timeout", "0.2", url=fast_url, status=1)
    assert ended.err.startswith("elkmq: no response to 'greet' came within 0.2 s")
    assert ended.out == ""


# -- dead letters


@pytest.fixture
def letters(queue):
    """250 dead letters; returns their ids."""
    queue.enqueue_many(ServiceEvent(5, f"a{n}", "p") for n in range(250))
    for delivery in queue.receive_many(250):
        delivery.reject("no\x1b good", reason="test")
    return [letter.id for letter in queue.dead]


def test_dead_letters_are_listed_and_shown(fast_url, queue, letters):
    ended = elkmq("dead", "list", queue.name, "--limit", "2", url=fast_url)
    assert [line.split()[0] for line in ended.out.splitlines()] == ["ID", *letters[:2]]
    assert "no\\e good" in ended.out
    assert f"2 of 250; go on with --after {letters[1]}" in ended.err
    rest = elkmq("dead", "list", queue.name, "--after", letters[1], "--limit", "1000", "--json", url=fast_url).out
    assert [json.loads(line)["id"] for line in rest.splitlines()] == letters[2:]
    shown = elkmq("dead", "show", queue.name, letters[7], "1-1", url=fast_url, status=1)
    assert "a7" in shown.out
    assert "test" in shown.out
    assert shown.err == "elkmq: no dead letter has the id 1-1.\n"


def test_dead_letters_go_back_to_work(fast_url, queue, letters):
    elkmq("dead", "requeue", queue.name, letters[3], letters[3], url=fast_url)
    held = queue.receive()  # not dropped, which would send it back
    assert held.event.action == "a3"
    ended = elkmq("dead", "requeue", queue.name, "--all", "--json", url=fast_url)
    assert json.loads(ended.out) == {"requeued": 249}
    now = queue.stats()
    assert (now.ready, now.dead) == (249, 0)


def test_dead_letters_are_dropped_only_if_that_is_meant(fast_url, queue, letters):
    assert "add --yes" in elkmq("dead", "drop", queue.name, "--all", url=fast_url, status=2).err
    assert "name ids" in elkmq("dead", "drop", queue.name, url=fast_url, status=2).err
    elkmq("dead", "drop", queue.name, letters[0], url=fast_url)
    assert "1 of these" in elkmq("dead", "drop", queue.name, letters[0], url=fast_url, status=1).err
    assert elkmq("dead", "drop", queue.name, "--all", "--yes", url=fast_url).out == "dropped 249\n"
    assert queue.stats().dead == 0
