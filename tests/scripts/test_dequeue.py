"""A dequeue that is asked again, undone, or follows a blocking read; one that hands out is in test_taking.py."""

from __future__ import annotations

from tests.scripts.rig import Rig, bodies, outgoing, request

KEEP = 60_000


def dequeue(q: Rig, turn: int, client: str = "me"):
    return q.run(q.verbs.dequeue(client=client, turn=turn, keep=KEEP)).entries


def test_asked_again_for_the_same_turn_it_answers_as_before(q: Rig):
    events = [outgoing(), outgoing(), outgoing()]
    q.put(*events)
    first = dequeue(q, 1)
    assert dequeue(q, 1) == first
    assert bodies(first) == [events[0].json]
    assert bodies(dequeue(q, 2)) == [events[1].json]
    assert bodies(dequeue(q, 1, "another")) == [events[2].json]
    assert (q.stats().completed, q.stats().ready) == (3, 0)


def test_a_request_that_comes_after_the_next_turn_s_takes_nothing(q: Rig):
    q.put()
    dequeue(q, 2)
    q.put()
    assert dequeue(q, 1) == []
    assert q.stats().ready == 1


def test_an_answer_of_nothing_stays_that_for_the_turn(q: Rig):
    """Or a request of a connection that was given up would take what nobody reads."""
    assert dequeue(q, 1) == []
    q.put()
    assert dequeue(q, 1) == []
    q.configure(paused=1)
    assert dequeue(q, 2) == []
    q.configure(paused="")
    assert dequeue(q, 2) == []
    assert len(dequeue(q, 3)) == 1


def test_the_memory_of_a_turn_ends(q: Rig):
    q.put()
    dequeue(q, 1)
    assert 0 < q.client.pttl(q.key("dequeued:me")) <= KEEP


def test_undone_it_comes_back_as_it_was_and_next(q: Rig):
    event = outgoing(fields=("headers", "{}"))
    (id_,) = q.put(event)
    q.put()
    before = q.stats()
    assert before.completed == 0
    (entry,) = dequeue(q, 1)
    assert q.run(q.verbs.undo_dequeue("me", 1, KEEP)) is True
    assert q.run(q.verbs.undo_dequeue("me", 1, KEEP)) is False
    after = q.stats()
    assert (after.enqueued, after.completed, after.ready) == (before.enqueued, 0, 2)
    q.open("c")
    back = q.take("c")[0]
    assert bodies([back]) == [event.json]
    assert back.timestamp == int(id_.split(b"-")[0])
    assert set(back.fields) == set(entry.fields) | {b"first"}


def test_a_dequeue_that_comes_after_its_undoing_takes_nothing(q: Rig):
    q.put()
    assert q.run(q.verbs.undo_dequeue("me", 1, KEEP)) is False
    assert dequeue(q, 1) == []
    assert len(dequeue(q, 2)) == 1


def test_an_undoing_that_comes_too_late_changes_nothing(q: Rig):
    q.put(outgoing(), outgoing())
    dequeue(q, 1)
    dequeue(q, 2)
    assert q.run(q.verbs.undo_dequeue("me", 1, KEEP)) is False
    assert (q.stats().ready, q.stats().completed) == (0, 2)


def test_what_a_blocking_read_was_handed_comes_first(q: Rig):
    reply = q.run(q.verbs.dequeue("d", 5000, client="me", turn=1, keep=KEEP))
    events = [outgoing(), outgoing()]
    q.put(*events)
    q.run(q.verbs.wait_for_entries("d", 1, reply.lanes, 1000))
    assert q.stats().in_flight == 1
    assert bodies(dequeue(q, 1, "another")) == [events[1].json]
    mine = q.run(q.verbs.dequeue("d", 5000, client="me", turn=2, keep=KEEP)).entries
    assert bodies(mine) == [events[0].json]
    stats = q.stats()
    assert (stats.in_flight, stats.completed, stats.ready) == (0, 2, 0)


def test_a_response_of_elk_mq_0_1_that_a_blocking_read_was_handed_is_no_event(q: Rig):
    reply = q.run(q.verbs.dequeue("d", 5000, client="me", turn=1, keep=KEEP))
    q.client.xadd(q.keys.lane(0), {"response": '{"timeout":10}'})
    q.run(q.verbs.wait_for_entries("d", 1, reply.lanes, 1000))
    q.put(request())
    assert len(q.run(q.verbs.dequeue("d", 5000, client="me", turn=2, keep=KEEP)).entries) == 1
    assert q.run(q.verbs.dequeue("d", 5000, client="me", turn=3, keep=KEEP)).entries == []
    assert q.client.xlen(q.keys.lane(0)) == 1
