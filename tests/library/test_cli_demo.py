"""The demo: how it judges what was recorded, and that it does what it says."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from elkmq import EventQueue
from elkmq.cli.demo.judge import judge_events, judge_requests, judge_tasks, tally
from elkmq.cli.demo.records import (
    ANSWERED,
    DONE,
    LATE,
    REFUSED,
    SENT,
    STARTED,
    TIMED_OUT,
    Follower,
    Record,
    Recorder,
)
from elkmq.cli.demo.screen import closing
from elkmq.cli.demo.shop import broker_url
from tests.library.cli import ELKMQ, elkmq
from tests.waiting import eventually


def handled(process, id_):
    return [Record(process, STARTED, id_), Record(process, DONE, id_)]


SENT_TWO = [Record("p", SENT, "1"), Record("p", SENT, "2")]
GOOD = [*SENT_TWO, *handled("a", "1"), Record("a", STARTED, "2"), *handled("b", "2")]


def broken(outcome):
    return [promise.text for promise in outcome.promises if not promise.kept]


# -- judging


def test_events_all_well():
    outcome = judge_events(GOOD, expected=2, killed=["a"], left=0)
    assert outcome.kept
    assert (outcome.tally.sent, outcome.tally.once, outcome.tally.run_again) == (2, 2, 1)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (GOOD[:-1], "lost"),
        ([*GOOD, *handled("b", "1")], "twice"),
        ([*GOOD, *handled("b", "3")], "nobody sent"),
        ([*handled("a", "1"), *handled("b", "2"), SENT_TWO[0]], "all 2 were sent"),
        ([*SENT_TWO, Record("a", STARTED, "1"), *GOOD[4:], *handled("b", "1")], "killed in the middle"),
    ],
)
def test_each_promise_about_events_can_break(records, words):
    outcome = judge_events(records, expected=2, killed=["a"], left=0)
    assert not outcome.kept
    assert any(words in text for text in broken(outcome))


def test_what_is_left_in_the_queue_breaks_a_promise():
    assert broken(judge_events(GOOD, expected=2, killed=["a"], left=1)) == ["the queue is empty"]


def test_who_was_killed_after_its_work_and_before_its_ack_makes_a_second():
    found = tally("events", [*SENT_TWO, *handled("a", "1"), *handled("b", "1"), *handled("b", "2")], ["a"])
    assert (found.once, found.twice, found.run_again) == (1, 1, 0)


def test_a_late_process_that_the_queue_refused_breaks_nothing():
    records = [*SENT_TWO, *handled("a", "1"), *handled("b", "1"), Record("a", REFUSED, "1"), *handled("b", "2")]
    outcome = judge_events(records, expected=2, killed=[], left=0)
    assert outcome.kept
    assert outcome.tally.stalled == 1
    assert any("refused the late one" in str(line) for line in closing([outcome]))


REQUESTS = [
    *SENT_TWO, *handled("s", "1"), Record("r", ANSWERED, "1"),
    Record("s", STARTED, "2"), Record("r", TIMED_OUT, "2"), Record("s", DONE, "2"), Record("s", LATE, "2"),
]  # fmt: skip


def judged(records, **changes):
    return judge_requests(records, **{"slow": "2", "waited": 1.1, "patience": 1.0, "left": 0, **changes})


def test_requests_all_well():
    assert judged(REQUESTS).kept


@pytest.mark.parametrize(
    ("records", "changes"),
    [
        ([r for r in REQUESTS if r.what != ANSWERED], {}),
        ([*REQUESTS, Record("r", ANSWERED, "1")], {}),
        ([*REQUESTS, Record("r", ANSWERED, "2")], {}),
        ([r for r in REQUESTS if r.what != TIMED_OUT], {}),
        ([*REQUESTS, Record("r", TIMED_OUT, "1")], {}),
        ([r for r in REQUESTS if r.what != LATE], {}),
        ([*REQUESTS, *handled("s", "1")], {}),
        (REQUESTS, {"waited": 0.9}),
        (REQUESTS, {"waited": 3.0}),
        (REQUESTS, {"left": 1}),
    ],
)
def test_each_promise_about_requests_can_break(records, changes):
    outcome = judged(records, **changes)
    assert not outcome.kept
    assert any(str(line).startswith("BROKEN") for line in closing([outcome]))


@pytest.mark.parametrize(
    ("records", "changes", "words"),
    [
        (GOOD[:-1], {}, "lost"),
        ([*GOOD, *handled("b", "1")], {}, "twice"),
        (GOOD, {"cut": 0}, "cut"),
        ([*GOOD, Record("a", STARTED, "1"), *handled("b", "1")], {"killed": []}, "twice"),
        ([*SENT_TWO, Record("a", STARTED, "1"), *GOOD[4:], *handled("b", "1")], {}, "killed in the middle"),
        (GOOD, {"left": 1}, "empty"),
    ],
)
def test_each_promise_about_tasks_can_break(records, changes, words):
    settings = {"expected": 2, "killed": ["a"], "left": 0, "cut": 3}
    assert judge_tasks(GOOD, **settings).kept
    outcome = judge_tasks(records, **{**settings, **changes})
    assert not outcome.kept
    assert any(words in text for text in broken(outcome))


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://h:1/2", "elkmq://h:1/2"),
        ("rediss://u:p@h", "elkmqs://u:p@h"),
        ("unix:///a/b?db=1", "elkmq+socket:///a/b?db=1"),
        ("redis+cluster://h:1", None),
    ],
)
def test_the_broker_that_is_where_a_queue_is(url, broker):
    assert broker_url(url) == broker


def test_records_are_read_while_they_are_written(tmp_path):
    follower, first, second = Follower(str(tmp_path)), Recorder(str(tmp_path), "a"), Recorder(str(tmp_path), "b")
    first.write(SENT, 1)
    assert follower.look() == [Record("a", SENT, "1")]
    second.write(DONE, 1)
    first.write(TIMED_OUT, "2")
    assert follower.last("a") == Record("a", TIMED_OUT, "2")
    assert len(follower.records) == 3
    with open(tmp_path / "a.records", "ab") as file:
        file.write(b"done\thalf a li")
    assert follower.look() == []


# -- the real thing


def processes_of(records):
    """The demo's processes that still run."""
    listing = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if "elkmq.cli.demo.processes" in line and str(records) in line]


def test_the_demo_keeps_its_promises_in_under_a_minute(tmp_path):
    ended = elkmq("demo", "--json", "--records", str(tmp_path), timeout=90)
    found = json.loads(ended.out)
    assert found["kept"] is True
    assert found["seconds"] < 60
    events, requests, tasks = found["parts"]
    assert (events["sent"], events["once"], events["twice"], events["lost"], events["run_again"]) == (
        1000,
        1000,
        0,
        0,
        1,
    )
    assert (requests["sent"], requests["once"], requests["twice"], requests["lost"]) == (51, 51, 0, 0)
    assert (tasks["sent"], tasks["once"], tasks["twice"], tasks["lost"], tasks["run_again"]) == (400, 400, 0, 0, 1)
    for words in (
        "killed (SIGKILL): worker-1",
        "cut: ",
        "killed (SIGKILL): consumer-1",
        "was begun again",
        "'Hello, Ada!'",
        "TimeoutExpired",
    ):
        assert words in ended.err
    assert "Warning" not in "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert processes_of(tmp_path) == []


def test_the_demo_fails_where_events_are_lost(make_server, make_program, tmp_path):
    server = make_server()
    program = make_program(
        command=[*ELKMQ, "demo", "--records", str(tmp_path)], env={"ELKMQ_URL": server.url, "NO_COLOR": "1"}
    )
    program.wait_for("killed (SIGKILL)", 60)
    with server.client() as client:
        key = next(key.decode() for key in client.scan_iter("elkmq-demo-events-*(event_stream)"))
    with EventQueue(key.partition("(")[0], server.url) as queue:
        assert queue.purge() > 0
    program.wait(60, status=1)
    assert any(line.startswith("BROKEN  events: none was lost") for line in program.lines)
    assert any(line.startswith("A PROMISE WAS BROKEN") for line in program.lines)
    row = next(line.split() for line in program.lines if line.startswith("events "))
    assert int(row[4]) > 0
    with server.client() as client:  # what is left, such as dedupe marks, goes by itself
        assert all(client.ttl(key) > 0 for key in client.scan_iter("elkmq-demo-*"))


def test_ctrl_c_leaves_nothing_behind(make_program, tmp_path):
    program = make_program(command=[*ELKMQ, "demo", "--records", str(tmp_path)], merge=True)
    program.wait_for("killed (SIGKILL)", 60)
    program.signal(signal.SIGINT)
    program.wait(30, status=130)
    assert not any("Traceback" in line for line in program.lines)
    eventually(lambda: not processes_of(tmp_path), why="the demo's processes to be gone")
