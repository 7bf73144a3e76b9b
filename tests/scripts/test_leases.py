"""Consumers: registered, heard, declared dead, taken over from."""

from __future__ import annotations

import pytest
import redis

from elkmq._core.verbs import beat
from tests.scripts.rig import LEASE, Rig, bodies, named, outgoing


def test_open_again_renews(q: Rig):
    q.open("c", lease=1000)
    q.open("c", lease=60_000)
    (consumer,) = q.stats().consumers
    assert 59 < consumer.lease_left <= 60
    assert (consumer.host, consumer.pid, consumer.started, consumer.kind) == ("h", 1, 2, "consumer")


def test_a_heartbeat_renews_and_says_who_is_not_known(q: Rig, name: str):
    other = Rig(q.server, name + "-2")
    q.open("c", lease=1000)
    other.open("d", lease=1000)
    left = q.run(beat([(q.verbs, "c", LEASE), (other.verbs, "d", LEASE), (other.verbs, "nobody", LEASE)]))
    assert left[2] == -1
    assert all(0 < ms <= LEASE for ms in left[:2])
    assert q.stats().consumers[0].lease_left > 29
    other.close()


def test_a_heartbeat_of_who_is_alone_says_its_own_lease(q: Rig):
    q.open("c", lease=1000)
    assert q.run(beat([(q.verbs, "c", 2 * LEASE)])) == [2 * LEASE]


def test_a_heartbeat_of_who_is_not_alone_says_less_though_the_other_lease_is_longer(q: Rig):
    q.open("c", lease=LEASE)
    q.open("d", lease=10 * LEASE)
    assert q.run(beat([(q.verbs, "c", LEASE)])) == [LEASE - 1]


def test_a_heartbeat_that_is_not_to_look_says_its_own_lease(q: Rig):
    q.open("a", "b")
    q.let_lease_end("a")
    assert q.run(beat([(q.verbs, "b", LEASE)], [False])) == [LEASE]


def test_a_heartbeat_says_when_somebody_s_lease_is_over(q: Rig):
    q.open("a", "b")
    q.let_lease_end("a")
    assert q.run(beat([(q.verbs, "b", LEASE)])) == [0]


@pytest.mark.parametrize("chores", [False, True])
def test_what_the_dead_held_goes_to_others_under_new_ids(q: Rig, chores: bool):
    q.put(outgoing(), outgoing(priority=6), outgoing())
    q.open("dead", "alive")
    held = q.take("dead")
    q.let_lease_end("dead")
    tended = q.tend("alive", chores=chores)
    assert (tended.taken_over, tended.more) == (3, False)
    again = q.take("alive")
    assert bodies(again) == bodies(held)
    assert {(e.fields[b"failed"], e.fields[b"handed_out"]) for e in again} == {(b"1", b"1")}
    assert b"dead went away" in again[0].fields[b"error"]
    assert q.settle("dead", held) == {0, 1, 2}
    assert q.run(q.verbs.requeue("dead", named(held), failed=True)) == ["lost"] * 3
    assert q.run(q.verbs.complete("dead", named(held)[0])).outcome == "lost"
    for verb in (q.verbs.take("dead", 1), q.verbs.tend("dead", LEASE, chores=False), q.verbs.recover("dead", [], 9)):
        with pytest.raises(redis.ResponseError, match="ELKMQ_CONSUMER_GONE"):
            q.run(verb)
    assert q.settle("alive", again) == frozenset()
    assert [consumer.name for consumer in q.stats().consumers] == ["alive"]
    assert q.client.hkeys(q.key("consumer_info")) == [b"alive"]


def test_a_great_many_deliveries_are_taken_over_in_steps(q: Rig):
    q.put(*(outgoing() for _ in range(450)))
    q.open("dead", "alive")
    q.take("dead")
    q.let_lease_end("dead")
    steps = [q.tend("alive") for _ in range(3)]
    assert [step.taken_over for step in steps] == [200, 200, 50]
    assert [step.more for step in steps] == [True, True, False]
    assert len(q.take("alive")) == 450


def test_a_great_many_consumers_are_taken_over_from_in_steps(q: Rig):
    q.open("alive", *(f"dead{i}" for i in range(15)))
    q.let_lease_end(*(f"dead{i}" for i in range(15)))
    assert q.tend("alive").more
    assert not q.tend("alive").more
    assert len(q.stats().consumers) == 1


def test_who_was_not_started_is_no_suspect_twice(q: Rig):
    """With one delivery that kills its consumer, those that were only waiting beside it come through."""
    q.verbs.delivery_limit = 2
    killer = outgoing()
    q.put(killer, *(outgoing() for _ in range(5)))
    q.open("alive")
    for life in range(3):
        q.open(f"c{life}")
        held = q.take(f"c{life}")
        assert len(held) == 6
        suspect = next(entry for entry in held if entry.fields[b"event"] == killer.json)
        if b"failed" in suspect.fields:
            assert q.run(q.verbs.start(f"c{life}", named([suspect])[0]))
        q.let_lease_end(f"c{life}")
        q.tend("alive")
    (dead,) = q.run(q.verbs.dead_letters())
    assert (dead.fields[b"event"], dead.fields[b"reason"], dead.fields[b"failed"]) == (
        killer.json,
        b"delivery_limit",
        b"3",
    )
    assert {entry.fields[b"failed"] for entry in q.take("alive")} == {b"1"}


def test_start_is_for_the_owner_and_can_be_said_twice(q: Rig):
    q.put()
    q.open("c", "d")
    (key,) = named(q.take("c"))
    assert [q.run(q.verbs.start(who, key)) for who in ("c", "c", "d")] == [True, True, False]
    assert q.settle("c", []) == frozenset()


def test_leaving_hands_back_what_was_not_started_as_it_was(q: Rig):
    q.put(*(outgoing() for _ in range(5)))
    q.open("c", "d")
    held = q.take("c")
    q.run(q.verbs.start("c", named(held)[4]))
    assert [q.run(q.verbs.leave("c", 2)) for _ in range(4)] == [1, 1, 0, 0]
    again = q.take("d")
    assert bodies(again) == bodies(held)
    assert [entry.fields.get(b"handed_out") for entry in again] == [None] * 4 + [b"1"]
    assert all(b"failed" not in entry.fields for entry in again)
    assert [consumer.name for consumer in q.stats().consumers] == ["d"]


def test_recover_gives_what_was_handed_out_and_never_seen(q: Rig):
    q.put(outgoing(priority=1), *(outgoing() for _ in range(4)))
    q.open("c")
    held = q.take("c")
    assert q.run(q.verbs.recover("c", named(held), 10)) == []
    assert q.run(q.verbs.recover("c", named(held[1:3]), 10)) == [held[0], *held[3:]]
    assert q.run(q.verbs.recover("c", named(held[1:3]), 2)) == [held[0], held[3]]
    q.client.xdel(q.keys.lane(0), held[4].id)
    assert q.run(q.verbs.recover("c", named(held[:4]), 10)) == []
    assert q.settle("c", held) == frozenset()


def test_a_delivery_to_somebody_unknown_is_adopted(q: Rig):
    """A blocking read that outlives its consumer."""
    q.open("alive", "gone")
    q.put()
    q.run(q.verbs.leave("gone"))
    (entry,) = q.run(q.verbs.wait_for_entries("gone", 1, [b"r", b"0"], 100))
    assert q.take("alive") == []
    q.tend("alive", chores=True)
    assert bodies(q.take("alive")) == bodies([entry])
    assert q.settle("gone", [entry]) == {0}


def test_after_silence_of_all_everybody_gets_another_lease(q: Rig):
    """The server was down for longer than a lease: who is heard first does not take over from the others."""
    q.put(outgoing(), outgoing())
    q.open("a", "b")
    q.take("a", 1)
    q.take("b", 1)
    q.let_lease_end("a", "b")
    assert q.tend("a").taken_over == 0
    assert all(consumer.alive for consumer in q.stats().consumers)
    q.let_lease_end("b")
    assert q.tend("a").taken_over == 1


def test_after_the_clock_was_set_back_nobody_keeps_a_lease_of_the_future(q: Rig):
    q.open("a", "b")
    q.client.zadd(q.key("consumers"), {"b": 32_503_680_000_000})
    q.tend("a")
    assert all(consumer.lease_left <= 30.1 for consumer in q.stats().consumers)


def test_a_newer_format_stops_new_work_but_not_what_is_in_hand(q: Rig):
    q.put(outgoing(), outgoing())
    q.open("c")
    held = q.take("c")
    q.client.set(q.key("settings"), "format=2\n")
    for call in (q.verbs.take("c", 1), q.verbs.open("d", LEASE, {}), q.verbs.leave("c"), q.verbs.dequeue()):
        with pytest.raises(redis.ResponseError, match="ELKMQ_FORMAT"):
            q.run(call)
    assert q.run(beat([(q.verbs, "c", LEASE)]))[0] > 0
    assert q.settle("c", held) == frozenset()


def test_a_queue_for_originals_has_no_consumers_of_ours_unless_they_mean_it(q: Rig):
    q.configure(serve_elkmq01=1)
    with pytest.raises(redis.ResponseError, match="ELKMQ_SERVES_ORIGINAL"):
        q.open("c")
    q.run(q.verbs.open("c", LEASE, {}, beside_originals=True))
