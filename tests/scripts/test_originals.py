"""A main lane that clients of elk-mq 0.1 use as well, and a queue that is set to serve them."""

from __future__ import annotations

import pytest
import redis

from tests.scripts.rig import Rig, bodies, named, outgoing, request, uuid_of


def original_enqueues(q: Rig, n: int = 1, *, consumed: bool = False) -> list[bytes]:
    """As the original does it; ``consumed``: an original consumer had them, which leaves the entry."""
    ids = []
    for _ in range(n):
        id_ = q.client.xadd(q.keys.lane(0), {"event": outgoing().json})
        q.client.lpush(q.key("message_queue"), id_)
        ids.append(id_)
    if consumed:
        q.client.delete(q.key("message_queue"))
    return ids


def test_an_original_producer_s_events_are_ours_to_consume(q: Rig):
    q.open("c")
    ids = original_enqueues(q, 3)
    assert [entry.id for entry in q.take("c")] == ids
    assert not q.client.exists(q.key("message_queue"))
    assert q.stats().enqueued == 3


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_what_originals_have_consumed_is_history(q: Rig, waiting: int):
    original_enqueues(q, 5, consumed=True)
    ids = original_enqueues(q, waiting)
    assert q.run(q.verbs.join()).new is True
    assert q.run(q.verbs.join()).new is False
    q.put()
    stats = q.stats()
    assert (stats.ready, stats.enqueued, stats.completed) == (waiting + 1, waiting + 1, 0)
    q.open("c")
    taken = q.take("c")
    assert [entry.id for entry in taken][:-1] == ids
    q.settle("c", taken)
    stats = q.stats()
    assert (stats.ready, stats.enqueued, stats.completed) == (0, waiting + 1, waiting + 1)
    assert q.client.xlen(q.keys.lane(0)) == 5


def test_no_event_of_ours_is_ever_history(q: Rig):
    """Enqueued before there was a group: the one there was is gone with a primary."""
    original_enqueues(q, 5, consumed=True)
    ids = q.put(outgoing(), outgoing())
    late = original_enqueues(q, 1, consumed=True)
    q.open("c")
    assert [entry.id for entry in q.take("c")] == ids + late
    q.client.xgroup_destroy(q.keys.lane(0), "elkmq")
    assert [entry.id for entry in q.take("c")] == ids + late
    assert (q.stats().ready, q.stats().in_flight, q.stats().enqueued) == (0, 3, 3)


def test_an_entry_of_originals_past_a_long_stretch_of_ours(q: Rig):
    original_enqueues(q, 1, consumed=True)
    ids = q.put(*(outgoing() for _ in range(2500)))
    q.open("c")
    assert [entry.id for entry in q.take("c", 5000)] == ids


# -- serving them


def served(q: Rig) -> list[bytes]:
    """What original consumers would be handed, in their order."""
    return [
        q.client.xrange(q.keys.lane(0), id_, id_)[0][1][b"event"]
        for id_ in q.client.lrange(q.key("message_queue"), 0, -1)[::-1]
    ]


def test_everything_reaches_their_list_the_urgent_first(q: Rig):
    q.configure(serve_elkmq01=1)
    events = [outgoing(), outgoing(), outgoing(priority=5), outgoing(delay=60_000)]
    q.put(*events)
    assert q.run(q.verbs.enqueue(events))[0].duplicate
    assert served(q) == [events[2].json, events[0].json, events[1].json]
    q.make_due()
    q.tend("")
    assert served(q) == [events[2].json, events[0].json, events[1].json, events[3].json]
    assert (q.stats().ready, q.stats().enqueued) == (4, 4)


def test_what_our_consumer_hands_back_reaches_them_next(q: Rig):
    q.configure(serve_elkmq01=1)
    events = [outgoing(), outgoing()]
    q.put(*events)
    q.run(q.verbs.open("c", 30_000, {}, beside_originals=True))
    taken = q.take("c")
    q.client.delete(q.key("message_queue"))
    q.run(q.verbs.requeue("c", named(taken[1:]), failed=True))
    assert served(q) == [events[1].json]
    q.run(q.verbs.requeue("c", named(taken[:1]), failed=True, delay=60_000))
    q.make_due()
    q.tend("c")
    assert served(q) == [events[1].json, events[0].json]  # as in a lane of ours: in the order in which they came back
    assert q.stats().enqueued == 2


def test_served_no_more_what_they_had_is_history(q: Rig):
    q.configure(serve_elkmq01=1)
    q.run(q.verbs.join())
    events = [outgoing() for _ in range(4)]
    q.put(*events)
    for _ in range(2):
        q.client.rpop(q.key("message_queue"))
    q.configure(serve_elkmq01="")
    assert (q.stats().ready, q.stats().in_flight) == (2, 0)
    q.open("c")
    assert bodies(q.take("c")) == [events[2].json, events[3].json]


def test_the_more_urgent_comes_first_and_equals_in_their_order(q: Rig):
    q.configure(serve_elkmq01=1)
    events = [outgoing(priority=p) for p in (0, 5, 9, 5, 0, 9, 1)]
    q.put(*events)
    order = sorted(range(7), key=lambda i: -events[i].priority)
    assert served(q) == [events[i].json for i in order]


def test_who_enqueues_hears_that_originals_are_served_and_does_the_chores(q: Rig):
    assert q.run(q.verbs.join()) == (True, False)
    assert not q.run(q.verbs.enqueue([outgoing()]))[0].served
    q.configure(serve_elkmq01=1)
    assert q.run(q.verbs.join()) == (False, True)
    late, event = outgoing(delay=60_000), outgoing()
    assert q.run(q.verbs.enqueue([late]))[0].served
    q.make_due()
    first = q.run(q.verbs.enqueue([event]))
    assert q.run(q.verbs.enqueue([event])) == [first[0]._replace(duplicate=True)]
    assert served(q) == [late.json, event.json]


def test_whoever_would_compete_with_them_is_refused(q: Rig):
    q.configure(serve_elkmq01=1)
    (id_,) = q.put()
    for call in (q.verbs.open("c", 30_000, {}), q.verbs.dequeue(), q.verbs.dequeue("d", 30_000)):
        with pytest.raises(redis.ResponseError, match="ELKMQ_SERVES_ORIGINAL"):
            q.run(call)
    assert q.run(q.verbs.dequeue(beside_originals=True)).entries[0].id == id_


def test_a_consumer_that_was_there_before_the_setting_is_refused_from_then_on(q: Rig):
    q.open("c")
    before = outgoing()
    q.put(before)
    taken = q.take("c")
    assert bodies(taken) == [before.json]
    q.configure(serve_elkmq01=1)
    event = outgoing()
    q.put(event)
    with pytest.raises(redis.ResponseError, match="ELKMQ_SERVES_ORIGINAL"):
        q.take("c")
    assert served(q) == [event.json]
    assert q.settle("c", taken) == frozenset()
    q.configure(serve_elkmq01="")
    assert bodies(q.take("c")) == [event.json]


def original_answers(q: Rig, uuid_: str, response: bytes = b'{"timeout":10}') -> tuple[bytes, bytes]:
    id_ = q.client.xadd(q.keys.lane(0), {"response": response})
    return q.client.xadd(q.key("response_stream"), {uuid_: id_}), id_


def test_the_response_of_an_original_reaches_our_requester_once_and_leaves_nothing(q: Rig):
    q.configure(serve_elkmq01=1)
    event = request()
    q.put(event)
    q.client.rpop(q.key("message_queue"))
    found = []
    for _ in range(2):
        original_answers(q, uuid_of(event))
        ((pointer, uuid_, id_),) = q.run(q.verbs.wait_for_originals(b"0-0", 1))
        assert uuid_ == uuid_of(event).encode()
        found.append(q.run(q.verbs.forward(uuid_, pointer, id_)))
    assert found == ["sent", "sent"]
    assert [fields[b"response"] for _, fields in q.client.xrange(q.keys.replies("box"))] == [b'{"timeout":10}']
    assert (q.client.xlen(q.keys.lane(0)), q.client.xlen(q.key("response_stream"))) == (0, 0)
    assert (q.stats().ready, q.stats().enqueued, q.stats().completed) == (0, 1, 1)


def test_a_response_that_is_not_ours_stays(q: Rig):
    q.configure(serve_elkmq01=1)
    plain = outgoing()
    q.put(plain)
    for uuid_ in (uuid_of(plain), uuid_of(outgoing())):
        pointer, id_ = original_answers(q, uuid_)
        assert q.run(q.verbs.forward(uuid_.encode(), pointer, id_)) == "nobody"
    assert q.run(q.verbs.forward(uuid_of(plain).encode(), pointer, b"junk")) == "nobody"
    assert (q.client.xlen(q.keys.lane(0)), q.client.xlen(q.key("response_stream"))) == (3, 2)


def test_a_purge_takes_their_list_too(q: Rig):
    q.configure(serve_elkmq01=1)
    q.put(outgoing(), outgoing())
    assert q.run(q.verbs.purge()) == (2, False)
    assert q.client.llen(q.key("message_queue")) == 0


# -- an original between its two commands: what it added is not in the list yet


def now(q: Rig) -> int:
    seconds, micros = q.client.time()
    return seconds * 1000 + micros // 1000


def added(q: Rig) -> bytes:
    """The first of the two commands of the original's `enqueue`."""
    return q.client.xadd(q.keys.lane(0), {"event": outgoing().json})


def listed(q: Rig, *ids: bytes) -> None:
    """The second."""
    for id_ in ids:
        q.client.lpush(q.key("message_queue"), id_)


def events_of(q: Rig, *ids: bytes) -> list[bytes]:
    return [q.client.xrange(q.keys.lane(0), id_, id_)[0][1][b"event"] for id_ in ids]


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("look", ["take", "tend", "dequeue"])
def test_a_queue_that_is_opened_between_the_two_commands_loses_nothing(q: Rig, before: int, look: str):
    original_enqueues(q, before, consumed=True)
    late = [added(q), added(q)]
    wanted = events_of(q, *late)
    q.run(q.verbs.join())
    q.open("c")
    assert q.take("c") == []
    assert (q.stats().ready, q.stats().enqueued) == (0, 0)
    listed(q, *late)
    if look == "tend":
        q.tend("c", chores=True)
        assert not q.client.exists(q.key("message_queue"))
        assert (q.stats().ready, q.stats().enqueued) == (2, 2)
    elif look == "dequeue":
        assert q.run(q.verbs.dequeue()).state == "more"
        assert bodies(q.run(q.verbs.dequeue()).entries) == wanted[:1]
        del wanted[0]
    else:
        assert q.taken("c").next_event == 0
    taken = q.take("c")
    assert bodies(taken) == wanted
    assert [entry.timestamp for entry in taken] == [int(id_.split(b"-")[0]) for id_ in late[-len(wanted) :]]
    q.settle("c", taken)
    stats = q.stats()
    assert (stats.ready, stats.in_flight, stats.enqueued, stats.completed) == (0, 0, 2, 2)
    assert q.client.xlen(q.keys.lane(0)) == before
    assert not q.client.exists(q.key("message_queue"))


def test_who_waits_looks_again_while_an_original_may_be_between_the_two(q: Rig):
    """At ages of 20, 40, 80 … ms of the newest entry of history, until it is old."""
    q.client.xadd(q.keys.lane(0), {"event": outgoing().json}, id=b"%d-0" % (now(q) - 500))
    q.open("c")
    assert 500 <= q.taken("c").next_event <= 5000
    assert 500 <= q.tend("c").next_event <= 5000


def test_nobody_looks_again_for_what_is_old(q: Rig):
    q.client.xadd(q.keys.lane(0), {"event": outgoing().json}, id=b"%d-0" % (now(q) - 15_000))
    q.open("c")
    assert q.taken("c").next_event > 20_000  # its lease


def test_ids_that_came_to_the_list_in_another_order_than_their_entries(q: Rig):
    consumed = original_enqueues(q, 2, consumed=True)
    first, second, third = (added(q) for _ in range(3))
    wanted = events_of(q, first, second, third)
    listed(q, second, first)  # the second producer was faster; the third has not come to it
    q.open("c")
    taken = q.take("c")
    assert bodies(taken) == wanted[1:]
    listed(q, third)
    again = q.take("c")
    assert bodies(again) == wanted[:1]
    q.settle("c", taken)
    q.settle("c", again)
    assert q.take("c") == []
    stats = q.stats()
    assert (stats.ready, stats.enqueued, stats.completed) == (0, 3, 3)
    assert [id_ for id_, _ in q.client.xrange(q.keys.lane(0))] == consumed


def test_an_id_that_is_listed_twice_or_is_none_is_taken_once_or_not_at_all(q: Rig):
    late = added(q)
    (wanted,) = events_of(q, late)
    q.open("c")
    listed(q, late, late, b"junk", b"1-1", b"5", b"-", b"+")
    q.tend("c", chores=True)
    assert bodies(q.take("c")) == [wanted]
    assert not q.client.exists(q.key("message_queue"))


def test_a_purge_takes_what_is_late_too(q: Rig):
    late = added(q)
    q.run(q.verbs.join())
    listed(q, late)
    assert q.run(q.verbs.purge()) == (1, False)
    assert q.names() <= {b"event_stream", b"event_stream:redelivered", b"counters"}
    assert (q.client.xlen(q.keys.lane(0)), q.stats().ready, q.stats().purged) == (0, 0, 1)


def test_a_long_list_is_looked_through_in_steps(q: Rig):
    late = [added(q) for _ in range(2500)]
    q.open("c")
    listed(q, *late)
    assert q.tend("c", chores=True).more
    found = [entry for _ in range(3) for entry in q.take("c", 5000)]  # each goes a step on, after it has read
    assert [entry.timestamp for entry in found] == [int(id_.split(b"-")[0]) for id_ in late]
    assert q.client.xlen(q.keys.lane(0)) == 0
    assert not q.client.exists(q.key("message_queue"))


def test_who_leaves_leaves_no_list_behind(q: Rig):
    q.open("c")
    id_ = added(q)
    q.settle("c", q.take("c"))
    listed(q, id_)
    assert q.run(q.verbs.leave("c")) == 0
    assert not q.client.exists(q.key("message_queue"))


@pytest.mark.parametrize("verb", ["leave", "purge"])
def test_the_list_is_not_dropped_before_it_has_told_what_is_history(q: Rig, verb: str):
    q.open("c")
    q.client.xgroup_destroy(q.keys.lane(0), "elkmq")
    consumed = original_enqueues(q, 2, consumed=True)
    ids = original_enqueues(q, 2)
    if verb == "leave":
        q.run(q.verbs.leave("c"))
        q.open("d")
        assert [entry.id for entry in q.take("d")] == ids
    else:
        assert q.run(q.verbs.purge()) == (2, False)
        assert [id_ for id_, _ in q.client.xrange(q.keys.lane(0))] == consumed
