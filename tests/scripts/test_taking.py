"""Handing out: order, what is sorted out on the way, who is served."""

from __future__ import annotations

import pytest
import redis

from tests.scripts.rig import Rig, bodies, named, outgoing


def test_redelivered_first_then_by_priority_then_by_age(q: Rig):
    events = [outgoing(), outgoing(priority=3), outgoing(), outgoing(priority=9), outgoing(priority=3)]
    q.put(*events)
    q.open("c", "d")
    first = q.take("c", 1)
    last = q.take("d")[-1:]
    q.run(q.verbs.requeue("d", named(last), failed=False))
    assert bodies(first) == [events[3].json]
    q.put(outgoing(priority=9))
    assert [entry.lane for entry in q.take("c", 2)] == [b"r", b"9"]


def test_no_more_than_asked_for_and_nothing_twice(q: Rig):
    ids = q.put(*(outgoing() for _ in range(7)))
    q.open("c", "d")
    taken = [q.take("c", 3), q.take("d", 3), q.take("c", 3), q.take("d", 3)]
    assert [len(entries) for entries in taken] == [3, 3, 1, 0]
    assert [entry.id for entries in taken for entry in entries] == ids


def test_who_is_not_registered_gets_nothing(q: Rig):
    q.put()
    with pytest.raises(redis.ResponseError, match="ELKMQ_CONSUMER_GONE"):
        q.take("nobody")
    with pytest.raises(redis.ResponseError, match="ELKMQ_CONSUMER_GONE"):
        q.run(q.verbs.recover("nobody", [], 10))
    assert q.stats().ready == 1


def test_an_event_whose_time_is_over_is_counted_and_gone(q: Rig):
    q.put(outgoing(fields=("ttl", 0)), outgoing(), outgoing(fields=("ttl", 0)))
    q.open("c")
    assert len(q.take("c")) == 1
    stats = q.stats()
    assert (stats.expired, stats.ready, stats.in_flight, stats.dead) == (2, 0, 1, 0)


def test_an_event_whose_time_is_over_is_a_dead_letter_where_the_queue_wants_that(q: Rig):
    q.configure(dead_letter_expired=1)
    q.put(outgoing(fields=("ttl", 0)))
    q.open("c")
    assert q.take("c") == []
    assert q.run(q.verbs.dead_letters())[0].fields[b"reason"] == b"expired"
    assert (q.stats().expired, q.stats().dead_lettered) == (0, 1)


def test_the_queue_s_time_to_live_is_a_limit_for_all(q: Rig):
    q.put(outgoing(fields=("ttl", 600_000)), outgoing())
    q.client.xadd(q.keys.lane(0), {"event": "{}", "first": "1"})
    q.configure(ttl=60_000)
    q.open("c")
    assert len(q.take("c")) == 2
    assert q.stats().expired == 1


@pytest.mark.parametrize("n", [1, 100])
def test_a_flood_of_expired_events_does_not_make_the_queue_look_empty(q: Rig, n: int):
    q.put(*(outgoing(fields=("ttl", 0)) for _ in range(2500)), outgoing())
    q.open("c")
    taken = q.taken("c", n)
    assert taken.entries == []
    assert taken.next_event == 0
    for _ in range(3):
        taken = q.taken("c", n)
        if taken.entries:
            break
    assert len(taken.entries) == 1
    assert q.stats().expired == 2500


def test_dequeue_says_when_there_is_more_behind_what_expired(q: Rig):
    q.put(*(outgoing(fields=("ttl", 0)) for _ in range(6000)), outgoing())
    reply = q.run(q.verbs.dequeue())
    assert (reply.state, reply.entries) == ("more", [])
    assert len(q.run(q.verbs.dequeue()).entries) == 1


def test_a_paused_queue_hands_out_nothing(q: Rig):
    q.put(outgoing(), outgoing())
    q.open("c")
    held = q.take("c", 1)
    q.configure(paused=1)
    taken = q.taken("c")
    assert (taken.state, taken.entries) == ("paused", [])
    assert q.run(q.verbs.dequeue()).state == "paused"
    assert q.settle("c", held) == frozenset()
    q.configure(paused="")
    assert len(q.take("c")) == 1


def test_a_single_active_consumer_is_the_first_to_ask_until_it_goes(q: Rig):
    q.configure(single_active=1)
    q.put(*(outgoing() for _ in range(5)))
    q.open("a", "b")
    assert len(q.take("b", 2)) == 2
    waiting = q.taken("a")
    assert (waiting.state, waiting.entries) == ("standby", [])
    assert q.run(q.verbs.wait_for_signal(1, waiting.signal)) is False
    q.run(q.verbs.leave("b"))
    assert q.run(q.verbs.wait_for_signal(1, waiting.signal)) is True
    assert len(q.take("a")) == 5


def test_a_dead_active_consumer_loses_its_turn(q: Rig):
    q.configure(single_active=1)
    q.put(outgoing(), outgoing())
    q.open("a", "b")
    q.take("a")
    assert q.taken("b").state == "standby"
    q.let_lease_end("a")
    q.tend("b")
    assert len(q.take("b")) == 2


def test_an_entry_that_is_no_event_is_handed_out_to_be_rejected(q: Rig):
    q.open("c")
    q.client.xadd(q.keys.lane(0), {"what": "ever"})
    (entry,) = q.take("c")
    assert entry.fields == {b"what": b"ever"}
    assert q.run(q.verbs.recover("c", [], 10)) == [entry]
    assert q.run(q.verbs.leave("c")) == 0
    q.open("d")
    assert q.run(q.verbs.reject("d", named(q.take("d")), "unreadable")) == ["dead"]
    assert (q.stats().ready, q.stats().dead) == (0, 1)


# -- dequeue


def test_dequeue_hands_out_for_good(q: Rig):
    events = [outgoing(), outgoing(priority=1), outgoing()]
    q.put(*events)
    found = [q.run(q.verbs.dequeue()).entries for _ in range(4)]
    assert [bodies(entries) for entries in found] == [[events[1].json], [events[0].json], [events[2].json], []]
    stats = q.stats()
    assert (stats.completed, stats.ready, stats.in_flight, stats.consumers) == (3, 0, 0, ())
    assert q.client.xlen(q.keys.lane(0)) == 0


def test_a_dequeue_that_waits_has_a_lease_on_what_it_is_handed(q: Rig):
    reply = q.run(q.verbs.dequeue("d", 5000))
    assert reply.entries == []
    assert [(c.name, c.kind) for c in q.stats().consumers] == [("d", "dequeue")]
    q.put()
    (entry,) = q.run(q.verbs.wait_for_entries("d", 1, reply.lanes, 1000))
    assert q.stats().consumers[0].in_flight == 1
    assert q.settle("d", [entry]) == frozenset()
    assert q.run(q.verbs.leave("d")) == 0
    assert q.stats().completed == 1


def test_deliveries_of_the_dead_come_back_though_nobody_holds_a_lease_any_more(q: Rig):
    """The first dequeue cannot tell whether the server was down for a lease; the next lease's end tells."""
    q.put()
    q.open("c")
    q.take("c")
    q.let_lease_end("c")
    assert q.run(q.verbs.dequeue()).entries == []
    ends = q.client.zscore(q.key("consumers"), "c")
    assert ends % 1 == 0.5
    q.client.zadd(q.key("consumers"), {"c": 1.5})
    assert len(q.run(q.verbs.dequeue()).entries) == 1
    assert q.stats().consumers == ()


def test_what_was_dequeued_and_cannot_be_read_is_buried_and_not_completed(q: Rig):
    q.run(q.verbs.join())
    q.client.xadd(q.keys.lane(0), {"event": "nonsense", "priority": "3"})
    (entry,) = q.run(q.verbs.dequeue()).entries
    q.run(q.verbs.bury(entry, "unreadable", "no JSON"))
    (dead,) = q.run(q.verbs.dead_letters())
    assert (dead.fields[b"reason"], dead.fields[b"error"], dead.fields[b"entry"]) == (
        b"unreadable",
        b"no JSON",
        entry.id,
    )
    assert (q.stats().completed, q.stats().dead_lettered) == (0, 1)


def test_the_queue_s_time_to_live_begins_when_an_event_is_due(q: Rig):
    q.configure(ttl=60_000)
    q.open("c")
    now = q.client.time()[0] * 1000
    for first, due in ((90_000, 30_000), (90_000, 61_000), (90_000, None)):
        fields = {"event": "{}", "v": "1", "first": now - first, **({"due": now - due} if due else {})}
        q.client.xadd(q.keys.lane(0), fields)
    assert [int(entry.fields[b"due"]) for entry in q.take("c")] == [now - 30_000]
    assert q.stats().expired == 2


def test_when_an_event_was_due_is_kept_until_it_is_put_off_again(q: Rig):
    q.configure(ttl=60_000)
    q.open("c")

    def let_time_pass() -> bytes:
        (member,) = q.client.zrange(q.key("delayed"), 0, -1)
        was_due = q.client.time()[0] * 1000 - len(seen)
        q.client.zadd(q.key("delayed"), {member: was_due})
        seen.append(b"%d" % was_due)
        return seen[-1]

    seen: list[bytes] = []
    q.put(outgoing(delay=3_600_000))
    was_due = let_time_pass()
    (late,) = q.take("c")
    assert late.fields[b"due"] == was_due
    q.run(q.verbs.requeue("c", named([late]), failed=False))
    (back,) = q.take("c")
    assert back.fields[b"due"] == was_due
    q.run(q.verbs.requeue("c", named([back]), failed=False, delay=3_600_000))
    was_due = let_time_pass()
    (later,) = q.take("c")
    assert later.fields[b"due"] == was_due
    assert later.timestamp == late.timestamp


def test_of_a_queue_without_a_time_to_live_it_is_not_kept(q: Rig):
    q.open("c")
    q.put(outgoing(delay=3_600_000))
    q.make_due()
    (late,) = q.take("c")
    assert b"due" not in late.fields
