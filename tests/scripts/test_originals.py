"""A main lane that clients of elk-mq 0.1 use as well, and a queue that is set to serve them."""

from __future__ import annotations

import pytest

from tests.scripts.rig import Rig, bodies, named, outgoing


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
    assert q.run(q.verbs.join()) is True
    assert q.run(q.verbs.join()) is False
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
    assert served(q) == [events[0].json, events[1].json]
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


def test_a_purge_takes_their_list_too(q: Rig):
    q.configure(serve_elkmq01=1)
    q.put(outgoing(), outgoing())
    assert q.run(q.verbs.purge()) == (2, False)
    assert q.client.llen(q.key("message_queue")) == 0
