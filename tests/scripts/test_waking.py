"""What ends a consumer's waiting, and that everybody who waits is woken."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from elkmq._core.entry import Entry
from tests.scripts.rig import LEASE, Rig, bodies, named, of_format, outgoing
from tests.waiting import eventually

LANES = (b"r", b"0")
BLOCK = 20_000


class Sleeper:
    """A consumer that waits in a blocking read; once woken it takes, as consumers do."""

    def __init__(self, q: Rig, consumer: str, threads: ThreadPoolExecutor) -> None:
        self.rig = Rig(q.server, q.keys.name)
        self.rig.open(consumer)
        self.consumer = consumer
        self.taken: Any = None
        self.woken: Future[list[Entry]] = threads.submit(self._sleep)

    def _sleep(self) -> list[Entry]:
        rig = self.rig
        try:
            found = rig.run(rig.verbs.wait_for_entries(self.consumer, 100, LANES, BLOCK))
            tokens = [entry.id for entry in found if entry.lane == b"w"]
            self.taken = rig.taken(self.consumer, 100, tokens[-1] if tokens else b"")
            return [entry for entry in found if entry.lane != b"w"]
        finally:
            rig.close()


@pytest.fixture
def sleepers(q: Rig):
    """``sleepers(n)``: that many consumers, all of them waiting."""
    with ThreadPoolExecutor(8) as threads:
        made: list[Sleeper] = []

        def sleep(n: int) -> list[Sleeper]:
            before = q.client.info("clients")["blocked_clients"]
            made.extend(Sleeper(q, f"s{len(made)}", threads) for _ in range(n))
            eventually(lambda: q.client.info("clients")["blocked_clients"] >= before + n, why="all to wait")
            return made

        yield sleep
        q.client.delete(q.key("consumers"))  # a failed test is not to wait for what it waited for in vain
        for _ in made:
            q.client.xadd(q.keys.wake, {"wake": 1})


def all_woken(sleepers: list[Sleeper]) -> None:
    for sleeper in sleepers:
        assert sleeper.woken.result(5) == []


def test_a_new_lane_wakes_everybody_although_a_read_takes_many_tokens(q: Rig, sleepers):
    waiting = sleepers(4)
    q.put(outgoing(priority=8))
    all_woken(waiting)
    assert all(b"8" in sleeper.taken.lanes for sleeper in waiting)
    assert sum(len(sleeper.taken.entries) for sleeper in waiting) == 1
    assert q.client.xlen(q.keys.wake) == 0


def test_a_change_of_settings_wakes_everybody(q: Rig, sleepers):
    waiting = sleepers(3)
    q.configure(paused=1)
    all_woken(waiting)
    assert {sleeper.taken.state for sleeper in waiting} == {"paused"}


def test_settings_that_stay_the_same_wake_nobody(q: Rig):
    q.configure(ttl=5)
    q.open("c")
    q.configure(ttl=5)
    assert q.client.xlen(q.keys.wake) == 0


def test_the_first_delayed_event_wakes_one_to_tell_its_heart(q: Rig, sleepers):
    waiting = sleepers(3)
    q.put(outgoing(delay=30_000))
    eventually(lambda: any(sleeper.woken.done() for sleeper in waiting), why="one to wake")
    (awake,) = [sleeper for sleeper in waiting if sleeper.woken.done()]
    assert 0 < awake.taken.next_event <= 30_000
    q.put(outgoing(delay=40_000))  # not the first that is due
    assert q.client.xlen(q.keys.wake) == 0
    q.configure(ttl=50_000)
    all_woken(waiting)


def test_who_dies_with_a_token_in_hand_passes_it_on(q: Rig, sleepers):
    q.open("dead")
    waiting = sleepers(2)
    q.client.xadd(q.keys.wake, {"wake": 3})
    eventually(lambda: all(s.woken.done() for s in waiting), why="both to wake")
    assert q.client.xlen(q.keys.wake) == 1
    q.run(q.verbs.wait_for_entries("dead", 100, LANES, 100))
    more = sleepers(2)[2:]
    q.let_lease_end("dead")
    q.tend("s0")
    eventually(lambda: any(sleeper.woken.done() for sleeper in more), why="one to wake in its place")
    q.configure(ttl=50_000)
    all_woken(more)


@pytest.mark.parametrize("verb", ["take", "recover", "dequeue"])
def test_tokens_pass_through_whoever_gets_them(q: Rig, verb: str):
    q.open("c", "d", "e")
    q.configure(ttl=50_000)
    tokens = q.run(q.verbs.wait_for_entries("c", 100, LANES, 100))
    q.run({
        "take": q.verbs.take("c", 1, tokens[0].id), "recover": q.verbs.recover("c", [], 1), "dequeue": q.verbs.dequeue("c", LEASE),
    }[verb])  # fmt: skip
    ((_, fields),) = q.client.xrange(q.keys.wake)
    assert fields == {b"wake": b"2"}
    assert q.client.xpending(q.keys.wake, "elkmq")["pending"] == 0


def test_tokens_do_not_pile_up(q: Rig):
    q.open("c")
    for i in range(30):
        q.put(outgoing(delay=1000_000 - i * 1000))
    assert q.client.xlen(q.keys.wake) == 30
    tokens = q.run(q.verbs.wait_for_entries("c", 100, LANES, 100))
    q.taken("c", 1, tokens[-1].id)
    assert q.client.xlen(q.keys.wake) == 0


def test_no_signal_between_a_take_and_the_wait_is_missed(q: Rig):
    q.open("c")
    q.configure(paused=1)
    taken = q.taken("c")
    assert taken.state == "paused"
    q.configure(paused="")
    assert q.run(q.verbs.wait_for_signal(1, taken.signal)) is True
    assert q.client.xlen(q.key("signals")) == 1


def test_entries_end_the_wait_and_are_the_reader_s(q: Rig, sleepers):
    (sleeper,) = sleepers(1)
    event = outgoing()
    q.put(event)
    assert bodies(sleeper.woken.result(5)) == [event.json]
    assert q.stats().consumers[0].in_flight == 1


def test_what_is_set_aside_for_a_newer_release_wakes_one_after_another_until_that_has_it(q: Rig, sleepers):
    q.open("awake")
    q.client.xadd(q.keys.lane(0), {"event": outgoing().json, "v": "2"})
    held = named(q.run(q.verbs.read_entries("awake", 5, [b"0"])))
    waiting = sleepers(3)
    assert q.run(q.verbs.reject("awake", held, "format")) == ["dead"]
    all_woken(waiting)  # none of them knows the format
    newer = q.run(of_format(2, q.verbs.take("awake", 10)))
    assert [entry.fields[b"v"] for entry in newer.entries] == [b"2"]
    assert not newer.plain, "it asks with the script, which looks for more of them"
    assert q.run(of_format(2, q.verbs.take("awake", 10))).plain
    assert q.stats().dead == 0


def test_nobody_is_woken_for_what_a_newer_release_has_already(q: Rig, sleepers):
    q.open("older", "newer")
    q.client.xadd(q.keys.lane(0), {"event": outgoing().json, "v": "2"})
    assert q.take("older") == []
    assert q.client.xlen(q.keys.wake) == 1
    (token,) = [entry.id for entry in q.run(q.verbs.read_entries("newer", 10, LANES))]
    assert len(q.run(of_format(2, q.verbs.take("newer", 10, token))).entries) == 1
    (token,) = [entry.id for entry in q.run(q.verbs.read_entries("older", 10, LANES))]
    q.run(q.verbs.take("older", 10, token))
    assert q.client.xlen(q.keys.wake) == 0
