"""Responses: to an inbox, the original's way, once, and only while somebody waits."""

from __future__ import annotations

import uuid

import pytest

from tests.scripts.rig import Rig, named, outgoing, request, uuid_of

RESPONSE = b'{"request_uuid":1,"timeout":10,"action":"done","payload":null}'


def asked(q: Rig, event):
    q.put(event)
    q.open("c")
    return q.take("c")[0]


def inbox(q: Rig, name: str = "box"):
    return q.run(q.verbs.wait_for_responses(name)(b"1", b"0"))


def completing(q: Rig, entry, uuid_: str, response: bytes = RESPONSE, timeout: int = 10):
    return q.verbs.complete("c", named([entry])[0], response=response, request_uuid=uuid_, timeout=timeout)


def test_response_and_ack_are_one_step_and_once(q: Rig):
    event = request()
    entry = asked(q, event)
    call = completing(q, entry, uuid_of(event))
    assert q.run(call)[:2] == ("mine", "sent")
    assert q.run(call)[:2] == ("done", "sent")
    ((id_, uuid_, response),) = inbox(q)
    assert (uuid_.decode(), response) == (uuid_of(event), RESPONSE)
    assert q.stats().completed == 1
    assert q.run(q.verbs.forget_responses("box", [id_])) == 1
    assert inbox(q) == []


def test_an_inbox_goes_with_its_last_deadline(q: Rig):
    for timeout in (100, 20):
        event = request(timeout=timeout)
        q.put(event)
        q.run(q.verbs.respond(uuid_of(event), timeout, RESPONSE))
    assert 99_000 < q.client.pttl(q.keys.replies("box")) <= 101_000


def test_a_response_nobody_waits_for_any_more_takes_up_no_space(q: Rig):
    event = request(timeout=0)
    q.put(event)
    assert q.run(q.verbs.respond(uuid_of(event), 10, RESPONSE))[0] == "late"
    assert not q.client.exists(q.keys.replies("box"))
    late = request()
    entry = asked(q, late)
    q.client.xadd(q.keys.lane(0), {"event": late.json, "v": "1", "reply_to": "box", "ttl": "0"})
    q.client.delete(q.keys.mark(late.unique))
    (over,) = q.take("c") or q.run(q.verbs.recover("c", named([entry]), 1)) or [None]
    assert over is None


def test_late_within_the_handler(q: Rig):
    """Its time was not over when it was handed out, but is when it is answered."""
    event = outgoing(inbox="box", fields=("reply_to", "box", "ttl", 600_000))
    entry = asked(q, event)
    q.client.xack(q.keys.lane(0), "elkmq", entry.id)
    q.client.xdel(q.keys.lane(0), entry.id)
    q.client.xadd(q.keys.lane(0), {"event": event.json, "v": "1", "reply_to": "box", "ttl": "600000", "first": "1000"})
    found = q.run(q.verbs.wait_for_entries("c", 1, [b"r", b"0"], 100))
    done = q.run(completing(q, found[0], uuid_of(event)))
    assert done[:2] == ("mine", "late")
    assert inbox(q) == []


@pytest.mark.parametrize("others", [True, False], ids=["with others awaited", "alone"])
def test_late_by_what_the_mark_says(q: Rig, others: bool):
    """Found out by the response's own id, once it is written: it is taken away again, and nothing of it stays."""
    event = request()
    entry = asked(q, event)
    mark = q.keys.mark(event.unique)
    q.client.xdel(q.keys.lane(0), entry.id)
    q.client.xack(q.keys.lane(0), "elkmq", entry.id)
    q.client.xadd(q.keys.lane(0), {"event": event.json, "v": "1", "reply_to": "box", "ttl": "1", "first": "1"})
    (found,) = q.run(q.verbs.wait_for_entries("c", 1, [b"r", b"0"], 100))
    q.client.set(mark, found.id + b"|box|1", px=60_000)
    if others:
        q.client.xadd(q.keys.replies("box"), {"response": RESPONSE, "uuid": "other"})
        q.client.pexpire(q.keys.replies("box"), 50_000)
    assert q.run(completing(q, found, uuid_of(event)))[:2] == ("mine", "late")
    assert [uuid_ for _, uuid_, _ in inbox(q)] == ([b"other"] if others else [])
    assert q.client.exists(q.keys.replies("box")) == int(others)
    assert q.stats().in_flight == 0


def test_nobody_waits_for_an_event_of_ours_without_an_inbox(q: Rig):
    event = outgoing()
    entry = asked(q, event)
    assert q.run(q.verbs.respond(uuid_of(event), 10, RESPONSE))[0] == "nobody"
    assert q.run(completing(q, entry, uuid_of(event)))[:2] == ("mine", "nobody")
    assert b"response_stream" not in q.names()


def test_an_event_of_ours_is_known_after_its_mark_is_gone(q: Rig):
    event = outgoing()
    entry = asked(q, event)
    q.client.delete(q.keys.mark(event.unique))
    assert q.run(completing(q, entry, uuid_of(event)))[:2] == ("mine", "nobody")
    assert b"response_stream" not in q.names()


@pytest.mark.parametrize("first", ["complete", "respond"])
def test_two_responders_never_both_answer(q: Rig, first: str):
    event = request()
    entry = asked(q, event)
    complete, respond = completing(q, entry, uuid_of(event)), q.verbs.respond(uuid_of(event), 10, b"other")
    assert respond.retry
    for call in (complete, respond, respond) if first == "complete" else (respond, respond, complete):
        state = q.run(call)
        assert "sent" in state[:2]
    assert [response for _, _, response in inbox(q)] == [RESPONSE if first == "complete" else b"other"]


def test_a_redelivered_request_is_answered_once(q: Rig):
    event = request()
    entry = asked(q, event)
    q.run(q.verbs.respond(uuid_of(event), 10, RESPONSE))
    q.run(q.verbs.requeue("c", named([entry]), failed=True))
    (again,) = q.take("c")
    assert again.fields[b"reply_to"] == b"box"
    assert q.run(completing(q, again, uuid_of(event), b"second")).response == "sent"
    assert len(inbox(q)) == 1


def test_dequeued_first_answered_later(q: Rig):
    event = request()
    q.put(event)
    assert len(q.run(q.verbs.dequeue()).entries) == 1
    state, when = q.run(q.verbs.respond(uuid_of(event), 10, RESPONSE))
    assert state == "sent"
    assert when == int(inbox(q)[0][0].partition(b"-")[0])


# -- requesters of elk-mq 0.1


def original_request(q: Rig, timeout: int = 10):
    """As the original enqueues; returns its uuid."""
    q.run(q.verbs.join())
    event = outgoing()
    id_ = q.client.xadd(q.keys.lane(0), {"event": event.json})
    q.client.lpush(q.key("message_queue"), id_)
    return uuid_of(event)


def original_reads(q: Rig, uuid_: str) -> bytes | None:
    """As the original's requester looks for its response."""
    for _, fields in q.client.xrange(q.key("response_stream")):
        if uuid_.encode() in fields:
            ((_, found),) = q.client.xrange(q.keys.lane(0), fields[uuid_.encode()], fields[uuid_.encode()])
            return found[b"response"]
    return None


@pytest.mark.parametrize("how", ["complete", "respond", "respond blindly"])
def test_an_original_requester_gets_its_response_the_original_s_way(q: Rig, how: str):
    uuid_ = original_request(q)
    q.open("c")
    (entry,) = q.take("c")
    assert not q.client.exists(q.key("message_queue"))
    if how == "complete":
        call = completing(q, entry, uuid_)
    else:
        call = q.verbs.respond(uuid_, 10, RESPONSE, None if how == "respond blindly" else entry.timestamp)
    assert "sent" in q.run(call)[:2]
    assert q.run(q.verbs.respond(uuid_, 10, b"second"))[0] == "sent"
    assert original_reads(q, uuid_) == RESPONSE
    assert q.client.xlen(q.key("response_stream")) == 1
    stats = q.stats()
    assert (stats.ready, stats.responses, stats.enqueued) == (0, 1, 1)
    assert q.take("c") == []
    if how != "complete":
        q.settle("c", [entry])
    assert q.stats().completed == 1


def test_a_response_in_the_original_s_way_goes_when_nobody_can_wait_any_more(q: Rig):
    uuid_ = original_request(q)
    q.open("c")
    (entry,) = q.take("c")
    q.run(completing(q, entry, uuid_))
    q.tend("c", chores=True)
    assert original_reads(q, uuid_) == RESPONSE
    q.client.zadd(q.key("answered"), {q.client.zrange(q.key("answered"), 0, 0)[0]: 1})
    q.tend("c", chores=True)
    assert q.client.xlen(q.keys.lane(0)) == 0
    assert not q.client.exists(q.key("response_stream"), q.key("answered"))
    assert (q.stats().ready, q.stats().enqueued, q.stats().completed) == (0, 1, 1)


def test_too_late_for_an_original_leaves_nothing(q: Rig):
    uuid_ = original_request(q)
    q.open("c")
    (entry,) = q.take("c")
    assert q.run(q.verbs.respond(uuid_, 10, RESPONSE, entry.timestamp - 10_000))[0] == "late"
    assert q.run(completing(q, entry, uuid_, timeout=0)).response == "late"
    assert not q.client.exists(q.key("response_stream"))


@pytest.mark.parametrize("read", ["take", "blocking read", "dequeue", "purge", "leave", "recover", "requeue", "death"])
def test_a_response_between_originals_stays_where_its_requester_looks(q: Rig, read: str):
    q.open("c", "d")
    response = b'{"request_uuid":5,"timeout":7,"action":"r","payload":"\\"timeout\\":9"}'
    id_ = q.client.xadd(q.keys.lane(0), {"response": response})
    q.client.xadd(q.key("response_stream"), {str(uuid.uuid4()): id_})
    if read == "take":
        assert q.take("c") == []
    elif read == "dequeue":
        assert q.run(q.verbs.dequeue()).entries == []
    elif read == "purge":
        assert q.run(q.verbs.purge()) == (0, False)
    else:
        (entry,) = q.run(q.verbs.wait_for_entries("c", 10, [b"r", b"0"], 100))
        if read == "blocking read":
            (call,) = q.verbs.keep_response(entry)
            q.run(call)
        elif read == "leave":
            q.run(q.verbs.leave("c"))
        elif read == "recover":
            assert q.run(q.verbs.recover("c", [], 10)) == []
        elif read == "requeue":
            q.run(q.verbs.requeue("c", named([entry]), failed=True))
        else:
            q.let_lease_end("c")
            q.tend("d")
    assert q.client.xrange(q.keys.lane(0)) == [(id_, {b"response": response})]
    assert q.client.zscore(q.key("answered"), id_) == int(id_.partition(b"-")[0]) + 7000
    stats = q.stats()
    assert (stats.ready, stats.in_flight, stats.enqueued, stats.completed, stats.oldest_age) == (0, 0, 0, 0, None)
    assert q.take("d") == []


def test_each_response_to_an_original_sweeps_those_before(q: Rig):
    for n in range(3):
        uuid_ = original_request(q)
        q.run(q.verbs.dequeue())
        q.run(q.verbs.respond(uuid_, 10, RESPONSE))
        assert original_reads(q, uuid_) == RESPONSE
        assert q.client.xlen(q.key("response_stream")) == q.client.xlen(q.keys.lane(0)) == 1, n
        for member in q.client.zrange(q.key("answered"), 0, -1):
            q.client.zadd(q.key("answered"), {member: 1})
