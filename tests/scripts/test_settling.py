"""Settling: only the owner, once, and the same answer when asked again."""

from __future__ import annotations

import pytest

from elkmq.keys import QueueKeys
from tests.scripts.rig import Rig, bodies, named, outgoing


def two_consumers(q: Rig, n: int = 4):
    q.put(*(outgoing() for _ in range(n)))
    q.open("c", "d")
    return q.take("c", n // 2), q.take("d")


def test_acks_asked_for_again_are_answered_the_same(q: Rig):
    mine, _ = two_consumers(q)
    for _ in range(2):
        assert q.settle("c", mine) == frozenset()
    assert q.stats().completed == 2


def test_only_the_owner_s_acks_count(q: Rig):
    mine, theirs = two_consumers(q)
    assert q.settle("c", [mine[0], theirs[0], mine[1], theirs[1]]) == {1, 3}
    assert q.settle("nobody", theirs) == {0, 1}
    stats = q.stats()
    assert (stats.completed, stats.in_flight) == (2, 2)


def test_another_s_delivery_between_one_s_own_is_not_acked_with_them(q: Rig):
    """A look at the range finds as many as were named, but not the ones that were named."""
    q.put(*(outgoing() for _ in range(4)))
    q.open("c", "d")
    first = q.take("c", 2)
    (theirs,) = q.take("d", 1)
    (last,) = q.take("c", 1)
    assert q.settle("c", [first[0], theirs, last]) == {1}
    assert q.settle("d", [theirs]) == frozenset()
    assert q.run(q.verbs.recover("c", [], 10)) == [first[1]]


@pytest.mark.parametrize("n", [0, 1, 2, 1500, 9000])
def test_any_number_at_once_in_any_order(q: Rig, n: int):
    q.open("c")
    if n:
        q.put(*(outgoing(priority=i % 2) for i in range(n)))
    taken = q.take("c", 10_000)
    mixed = taken[::2] + taken[1::2][::-1] + taken[:1]
    assert q.settle("c", mixed) == frozenset()
    assert (q.stats().completed, q.stats().in_flight) == (n, 0)


def test_after_a_flush_everything_is_lost_and_says_so(q: Rig):
    mine, _ = two_consumers(q)
    q.client.delete(*(q.key(name.decode()) for name in q.names()))
    assert q.settle("c", mine) == {0, 1}
    assert q.run(q.verbs.requeue("c", named(mine), failed=True)) == ["lost", "lost"]
    assert q.run(q.verbs.reject("c", named(mine), "rejected")) == ["lost", "lost"]
    assert q.run(q.verbs.complete("c", named(mine)[0])).outcome == "lost"
    assert q.run(q.verbs.start("c", named(mine)[0])) is False
    assert q.run(q.verbs.leave("c")) == 0
    assert q.names() == set()
    q.put()
    q.open("c2")
    assert len(q.take("c2")) == 1


def test_an_entry_that_came_back_by_a_failover_is_not_the_old_owner_s(q: Rig):
    mine, _ = two_consumers(q)
    q.client.xgroup_destroy(q.keys.lane(0), "elkmq")
    assert q.settle("c", mine) == {0, 1}
    assert len(q.take("d")) == 4
    assert q.settle("c", mine) == {0, 1}


def test_requeued_under_a_new_id_once(q: Rig):
    mine, _ = two_consumers(q)
    assert q.run(q.verbs.requeue("c", named(mine), failed=True, error="boom")) == ["requeued"] * 2
    assert q.run(q.verbs.requeue("c", named(mine), failed=True)) == ["done"] * 2
    assert q.settle("c", mine) == frozenset()
    again = q.take("d")
    assert bodies(again) == bodies(mine)
    assert [e.lane for e in again] == [b"r", b"r"]
    fields = again[0].fields
    assert (fields[b"failed"], fields[b"handed_out"], fields[b"error"]) == (b"1", b"1", b"boom")
    assert again[0].timestamp == mine[0].timestamp
    assert q.settle("c", again) == {0, 1}


def test_handed_back_unseen_leaves_the_counts_alone(q: Rig):
    mine, _ = two_consumers(q)
    q.run(q.verbs.requeue("c", named(mine), failed=False, seen=False))
    fields = q.take("d")[0].fields
    assert b"failed" not in fields
    assert b"handed_out" not in fields


def test_put_off_until_the_delay_is_over(q: Rig):
    mine, _ = two_consumers(q)
    q.run(q.verbs.requeue("c", named(mine), failed=True, delay=60_000))
    assert q.take("c") == []
    assert (q.stats().delayed, q.stats().requeued) == (2, 2)
    q.make_due()
    assert bodies(q.take("c")) == bodies(mine)
    assert (q.stats().enqueued, q.stats().completed, q.stats().in_flight) == (4, 0, 4)


def test_over_the_delivery_limit_it_is_a_dead_letter(q: Rig):
    q.verbs.delivery_limit = 2
    q.put(outgoing(priority=4))
    q.open("c")
    outcomes = [q.run(q.verbs.requeue("c", named(q.take("c")), failed=True, error=f"no {i}"))[0] for i in range(3)]
    assert outcomes == ["requeued", "requeued", "dead"]
    (dead,) = q.run(q.verbs.dead_letters())
    assert dead.fields[b"reason"] == b"delivery_limit"
    assert (dead.fields[b"failed"], dead.fields[b"error"], dead.fields[b"priority"]) == (b"3", b"no 2", b"4")


def test_the_queue_s_own_limit_counts_more_and_zero_is_none(q: Rig):
    q.verbs.delivery_limit = 1
    q.configure(delivery_limit=0)
    q.put()
    q.open("c")
    for _ in range(5):
        assert q.run(q.verbs.requeue("c", named(q.take("c")), failed=True)) == ["requeued"]


def test_rejected_once(q: Rig):
    mine, theirs = two_consumers(q)
    assert q.run(q.verbs.reject("c", named(mine[:1] + theirs[:1]), "rejected", "bad")) == ["dead", "lost"]
    assert q.run(q.verbs.reject("c", named(mine[:1]), "rejected", "bad")) == ["done"]
    (dead,) = q.run(q.verbs.dead_letters())
    assert dead.fields[b"handed_out"] == b"1"
    assert (dead.fields[b"reason"], dead.fields[b"error"], dead.fields[b"entry"]) == (b"rejected", b"bad", mine[0].id)


def test_expired_in_a_consumer_s_hands(q: Rig):
    mine, _ = two_consumers(q)
    assert q.run(q.verbs.reject("c", named(mine), "expired")) == ["dead", "dead"]
    assert (q.stats().expired, q.stats().dead) == (2, 0)


def test_dead_letters_where_the_queue_wants_them(q: Rig):
    mine, theirs = two_consumers(q, 8)
    q.configure(dead_letter_max=2)
    q.run(q.verbs.reject("c", named(mine[:3]), "rejected"))
    assert (q.stats().dead, q.stats().dead_lettered) == (2, 3)
    q.configure(dead_letter_drop=1)
    q.run(q.verbs.reject("c", named(mine[3:]), "rejected"))
    assert (q.stats().dead, q.stats().dropped) == (2, 1)
    q.configure(dead_letter_drop="", dead_letter_exchange="dlx", dead_letter_routing_key="k%\n1")
    q.run(q.verbs.reject("d", named(theirs), "rejected"))
    onward = q.run(q.verbs.outbox())
    assert [entry.fields[b"routing_key"] for entry in onward] == [b"k%\n1"] * 4
    assert q.run(q.verbs.relayed([entry.id for entry in onward])) == 4


def test_completed_events_are_kept_where_the_queue_says_so(q: Rig):
    q.configure(retention_count=1000)
    mine, _ = two_consumers(q, 6)
    assert q.taken("c").keep
    q.run(q.verbs.settle("c", named(mine), keep=True))
    q.run(q.verbs.settle("c", named(mine), keep=True))
    log = q.run(q.verbs.event_log("-", "+", 10))
    assert bodies(log) == bodies(mine)
    assert [entry.fields[b"entry"] for entry in log] == [entry.id for entry in mine]


def test_a_completion_with_what_follows_is_kept_too(q: Rig):
    q.configure(retention_count=1000)
    mine, _ = two_consumers(q)
    call = q.verbs.complete("c", named(mine)[0], keep=True, events=[(q.keys, outgoing())])
    q.run(call)
    q.run(call)
    assert bodies(q.run(q.verbs.event_log("-", "+", 10))) == bodies(mine[:1])


def test_the_log_keeps_about_as_many_as_the_queue_says(q: Rig):
    q.configure(retention_count=100)
    q.put(*(outgoing() for _ in range(600)))
    q.open("c")
    q.run(q.verbs.settle("c", named(q.take("c")), keep=True))
    assert 100 <= q.stats().log <= 300  # the server trims whole nodes of 100


def test_the_log_lets_go_of_what_is_too_old(q: Rig):
    q.client.xadd(q.key("event_log"), {"event": "old"}, id="5-1")
    q.configure(retention_ms=3_600_000)
    q.put()
    q.open("c")
    q.run(q.verbs.settle("c", named(q.take("c")), keep=True))
    assert len(q.run(q.verbs.event_log("-", "+", 10))) == 1
    assert q.stats().log == 1


def test_a_completion_and_what_follows_is_one_step(q: Rig, name: str):
    mine, theirs = two_consumers(q)
    other = Rig(q.server, name + "-other")
    follow = [outgoing(), outgoing(priority=2), outgoing(delay=60_000)]
    known = outgoing()
    other.put(known)
    events = [(other.keys, follow[0]), (None, outgoing(fields=("to", "far"))), (q.keys, follow[1]), (other.keys, known),
              (other.keys, follow[2]), (other.keys, follow[0])]  # fmt: skip
    call = q.verbs.complete("c", named(mine)[0], events=events)
    done = q.run(call)
    assert (done.outcome, done.response) == ("mine", "")
    assert [receipt.duplicate for receipt in done.receipts] == [False, False, False, True, False, True]
    assert q.run(call) == ("done", "", [])
    assert q.run(q.verbs.complete("c", named(theirs)[0], events=events)) == ("lost", "", [])
    assert (other.stats().ready, other.stats().delayed, q.stats().ready, q.stats().outbox) == (2, 1, 1, 1)
    assert q.run(q.verbs.outbox())[0].fields[b"to"] == b"far"
    assert q.stats().completed == 1
    other.close()


def test_a_full_queue_keeps_the_delivery_from_being_completed(q: Rig, name: str):
    mine, _ = two_consumers(q)
    other = Rig(q.server, name + "-other")
    other.configure(max_length=1)
    call = q.verbs.complete(
        "c", named(mine)[0], events=[(q.keys, outgoing()), (other.keys, outgoing()), (other.keys, outgoing())]
    )
    before = q.snapshot(), other.snapshot()
    with pytest.raises(Exception, match="ELKMQ_QUEUE_FULL"):
        q.run(call)
    other_after = other.snapshot()
    other_after.pop(b"event_stream", None)
    assert (q.snapshot(), other_after) == before
    other.configure(max_length=2)
    assert q.run(call).outcome == "mine"
    other.close()


def test_the_queue_s_name_is_the_only_slot(q: Rig):
    assert QueueKeys("x", cluster=True).mark("u") == b"{x}(enqueued:u)"
