"""What no original writes into its keys, and what its responses leave where ours come after originals."""

from __future__ import annotations

import pytest

from tests.scripts.rig import Rig, bodies, outgoing, uuid_of
from tests.scripts.test_originals import events_of, listed, now, original_enqueues

NO_IDS = [
    b"junk", b"", b"\xff\xfe", b"-", b"+", b"5", b"0-0", b"1-1", b"99999999999999999999-1", b"5-99999999999999999999",
    b"18446744073709551615-18446744073709551615",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id_of_an_entry_makes_no_history_work_and_stops_nobody(q: Rig, text: bytes):
    consumed = original_enqueues(q, 3, consumed=True)
    listed(q, text)
    ids = original_enqueues(q, 2)
    listed(q, text)
    q.open("c")
    assert [entry.id for entry in q.take("c")] == ids
    assert (q.stats().ready, q.stats().enqueued) == (0, 2)
    listed(q, text)
    q.tend("c", chores=True)
    assert not q.client.exists(q.key("message_queue"))
    assert q.take("c") == []
    assert [id_ for id_, _ in q.client.xrange(q.keys.lane(0))] == consumed + ids


def test_a_list_that_begins_with_a_thousand_that_are_no_ids(q: Rig):
    original_enqueues(q, 3, consumed=True)
    listed(q, *(b"junk" for _ in range(1500)))
    ids = original_enqueues(q, 2)
    wanted = events_of(q, *ids)
    q.open("c")
    taken = [entry for _ in range(4) for entry in q.take("c")]
    assert bodies(taken) == wanted
    assert (q.stats().ready, q.stats().enqueued) == (0, 2)


@pytest.mark.parametrize("text", NO_IDS)
def test_an_urgent_event_is_served_past_what_is_no_id(q: Rig, text: bytes):
    q.configure(serve_elkmq01=1)
    listed(q, text)
    event = outgoing(priority=5)
    q.put(event)
    (id_,) = [id_ for id_, _ in q.client.xrange(q.keys.lane(0))]
    assert q.client.lrange(q.key("message_queue"), 0, -1)[-1] == id_


def pointed_to(q: Rig) -> list[bytes]:
    return [id_ for _, fields in q.client.xrange(q.key("response_stream")) for id_ in fields.values()]


def test_what_points_to_responses_of_history_goes_when_their_time_is_over(q: Rig):
    """Originals had answered each other before we came; that must not keep what points to ours."""
    old = b"%d" % (now(q) - 60_000)
    for n in range(3):
        id_ = q.client.xadd(q.keys.lane(0), {"response": b'{"timeout":10}'}, id=b"%s-%d" % (old, n))
        q.client.xadd(q.key("response_stream"), {uuid_of(outgoing()): id_}, id=b"%s-%d" % (old, n))
    q.client.xadd(q.key("response_stream"), {"junk": "junk", "more": "junk"})
    q.client.xadd(q.key("response_stream"), {"no response": q.client.xadd(q.keys.lane(0), {"event": outgoing().json})})
    q.open("c")
    assert q.run(q.verbs.respond(uuid_of(outgoing()), 10, b'{"timeout":10}'))[0] == "sent"
    q.tend("c", chores=True)
    assert pointed_to(q) == [q.client.xrevrange(q.keys.lane(0), count=1)[0][0]]
    assert q.client.xlen(q.keys.lane(0)) == 5


def test_a_response_that_goes_takes_what_points_to_it_along(q: Rig):
    """However long the time of another, before it, lasts."""
    q.open("c")
    assert q.run(q.verbs.respond(uuid_of(outgoing()), 65535, b'{"timeout":65535}'))[0] == "sent"
    long = pointed_to(q)
    uuid_ = uuid_of(outgoing())
    assert q.run(q.verbs.respond(uuid_, 1, b'{"timeout":1}', now(q)))[0] == "sent"
    (short,) = set(pointed_to(q)) - set(long)
    q.client.zadd(q.key("answered"), {short: 1})
    q.tend("c", chores=True)
    assert pointed_to(q) == long
