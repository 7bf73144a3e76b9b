"""Looking after a queue: purge, settings, dropping, dead letters, effects."""

from __future__ import annotations

import pytest
import redis

from elkmq.options import QueueSettings
from tests.scripts.rig import Rig, bodies, named, outgoing


def test_a_purge_takes_what_nobody_was_handed(q: Rig):
    q.put(*(outgoing(priority=i % 3) for i in range(9)), outgoing(delay=60_000))
    q.open("c")
    held = q.take("c", 2)
    q.run(q.verbs.requeue("c", named(held[:1]), failed=False))
    assert q.run(q.verbs.purge(3)) == (3, True)
    assert q.run(q.verbs.purge(3)) == (3, True)
    assert q.run(q.verbs.purge(3)) == (2, False)
    stats = q.stats()
    assert (stats.ready, stats.in_flight, stats.delayed, stats.purged) == (0, 1, 1, 8)
    assert q.run(q.verbs.purge(delayed=True)) == (1, False)
    stats = q.stats()
    assert (stats.delayed, stats.purged, stats.enqueued, stats.completed) == (0, 9, 10, 0)
    assert q.settle("c", held) == frozenset()
    assert q.stats().completed == 1


def test_a_big_purge(q: Rig):
    q.put(*(outgoing() for _ in range(3500)))
    assert q.run(q.verbs.purge()) == (3500, False)
    assert q.client.xlen(q.keys.lane(0)) == 0


# -- settings


def test_settings_are_changed_one_by_one_and_read_back(q: Rig):
    q.configure(max_length=5, dead_letter_routing_key="a=b%0A\nc")
    q.configure(ttl=60_000, overflow="drop_oldest")
    assert q.run(q.verbs.configure({"max_length": "", "paused": "1"})) == {
        "format": "1", "ttl": "60000", "overflow": "drop_oldest", "dead_letter_routing_key": "a=b%0A\nc", "paused": "1",
    }  # fmt: skip
    q.run(q.verbs.check_settings({"ttl": "60000", "max_length": "", "dead_letter_routing_key": "a=b%0A\nc"}))
    with pytest.raises(redis.ResponseError, match="ELKMQ_SETTINGS_DIFFER ttl 60000"):
        q.run(q.verbs.check_settings({"ttl": "5"}))


def test_to_check_settings_changes_nothing(q: Rig):
    assert q.run(q.verbs.check_settings({})) == {"format": "1"}
    assert q.names() == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl": "x"}, {"max_length": "-1"}, {"max_length": "1e3"}, {"format": "1"}, {"lanes": "1"}, {"a=b": "1"}, {"a\nb": "1"},
        {"serve_elkmq01": "1", "max_length": "5"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_make_no_sense(q: Rig, changes):
    with pytest.raises(redis.ResponseError, match="ELKMQ_BAD_SETTING"):
        q.run(q.verbs.configure({"paused": "1", **changes}))
    assert q.names() == set()


def test_a_flag_is_off_at_zero(q: Rig):
    q.configure(paused=0)
    q.open("c")
    assert q.taken("c").state == ""


def test_big_numbers_stay_whole(q: Rig):
    q.configure(max_length=10**12, ttl=3 * 10**11)
    q.put(outgoing(priority=4))
    assert q.client.get(q.key("settings")) == b"format=1\nlanes=4\nmax_length=1000000000000\nttl=300000000000\n"
    assert q.stats().settings == QueueSettings(max_length=10**12, ttl=3e8)


# -- dropping


def test_a_dropped_queue_leaves_nothing_but_what_goes_by_itself(q: Rig):
    q.put(outgoing(), outgoing(priority=3), outgoing(delay=60_000))
    q.open("c")
    held = q.take("c", 1)
    assert q.run(q.verbs.drop(if_unused=True)) == -1
    assert q.run(q.verbs.drop(if_empty=True)) == -2
    assert q.run(q.verbs.drop()) == 1
    assert {name.partition(b":")[0] for name in q.names()} == {b"enqueued"}
    assert q.settle("c", held) == {0}


def test_a_queue_is_not_in_use_by_a_consumer_that_died(q: Rig):
    q.open("c")
    q.let_lease_end("c")
    assert q.run(q.verbs.drop(if_unused=True, if_empty=True)) == 0


def test_a_kept_response_is_nothing_that_keeps_a_queue(q: Rig):
    q.open("c")
    q.client.xadd(q.keys.lane(0), {"response": '{"timeout":60}'})
    q.take("c")
    q.run(q.verbs.leave("c"))
    assert q.run(q.verbs.drop(if_empty=True)) == 0


# -- dead letters


def test_dead_letters_go_back_to_work_as_new(q: Rig):
    events = [outgoing(priority=3), outgoing()]
    q.put(*events)
    q.open("c")
    taken = q.take("c")
    q.run(q.verbs.requeue("c", named(taken), failed=True))
    q.run(q.verbs.reject("c", named(q.take("c")), "rejected", "bad"))
    letters = q.run(q.verbs.dead_letters())
    new = q.run(q.verbs.revive([letters[0].id.decode(), "5-5", letters[1].id.decode(), letters[1].id.decode()]))
    assert [bool(id_) for id_ in new] == [True, False, True, False]
    again = q.take("c")
    assert [entry.lane for entry in again] == [b"3", b"0"]
    assert [set(entry.fields) for entry in again] == [{b"event", b"v", b"first"}] * 2
    assert [entry.timestamp for entry in again] == [entry.timestamp for entry in taken]
    stats = q.stats()
    assert (stats.enqueued, stats.dead, stats.dead_lettered, stats.revived) == (2, 0, 2, 2)
    assert q.run(q.verbs.drop_dead(["5-5"])) == 0


def test_what_died_of_age_starts_young_again(q: Rig):
    q.configure(ttl=60_000, dead_letter_expired=1)
    q.run(q.verbs.join())
    q.client.xadd(q.keys.lane(0), {"event": "{}", "v": "1", "first": "5"})
    q.open("c")
    assert q.take("c") == []
    (letter,) = q.run(q.verbs.dead_letters())
    q.run(q.verbs.revive([letter.id.decode()]))
    assert bodies(q.take("c")) == [b"{}"]


# -- effects


def test_an_effect_is_claimed_once_and_its_result_is_for_all(q: Rig):
    assert q.run(q.verbs.claim("k", "me", 60_000)) == ("claimed", b"")
    assert q.run(q.verbs.claim("k", "me", 60_000)).state == "claimed"
    state, left = q.run(q.verbs.claim("k", "you", 60_000))
    assert state == "busy"
    assert 59_000 < int(left) <= 60_000
    assert q.run(q.verbs.finish("k", "you", b"wrong", 1000)) is False
    assert q.run(q.verbs.finish("k", "me", b"\x00right", 60_000)) is True
    assert q.run(q.verbs.finish("k", "me", b"again", 60_000)) is True
    assert q.run(q.verbs.finish("k", "you", b"wrong", 60_000)) is False
    assert q.run(q.verbs.claim("k", "you", 60_000)) == ("done", b"\x00right")
    assert 0 < q.client.pttl(q.keys.once("k")) <= 60_000


def test_a_claim_given_back_or_over_is_free(q: Rig):
    q.run(q.verbs.claim("k", "me", 60_000))
    assert q.run(q.verbs.release("k", "you")) is False
    assert q.run(q.verbs.release("k", "me")) is True
    assert q.run(q.verbs.claim("k", "you", 60_000)).state == "claimed"
    q.client.hset(q.keys.once("k"), "until", 1)
    assert q.run(q.verbs.claim("k", "me", 60_000)).state == "claimed"
    assert q.run(q.verbs.finish("k", "you", b"", 1000)) is False
