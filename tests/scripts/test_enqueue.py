"""Events in: each once, all or none."""

from __future__ import annotations

import uuid

import pytest
import redis

from elkmq._core.entry import Outgoing
from elkmq.keys import QueueKeys
from tests.scripts.rig import Rig, bodies, named, outgoing, request


def test_an_event_that_comes_again_is_answered_as_it_was_then(q: Rig):
    event = outgoing()
    first = q.run(q.verbs.enqueue([event]))
    again = q.run(q.verbs.enqueue([event]))
    assert not first[0].duplicate
    assert again[0].duplicate
    assert again[0].id == first[0].id
    q.open("c")
    assert len(q.take("c")) == 1


@pytest.mark.parametrize("options", [{}, {"priority": 3}, {"delay": 60_000}], ids=["plain", "urgent", "delayed"])
def test_an_event_twice_in_a_batch_is_accepted_once(q: Rig, options):
    event = outgoing(**options)
    receipts = q.run(q.verbs.enqueue([outgoing(), event, event, outgoing()]))
    assert [receipt.duplicate for receipt in receipts] == [False, False, True, False]
    assert receipts[1].id == receipts[2].id
    assert q.stats().enqueued == 3


def test_without_a_unique_id_every_event_counts_and_the_call_is_not_repeated(q: Rig):
    event = outgoing("")
    call = q.verbs.enqueue([event, event])
    assert not call.retry
    assert q.verbs.enqueue([outgoing()]).retry
    assert len({receipt.id for receipt in q.run(call)}) == 2


def test_a_mark_goes_with_its_window(q: Rig):
    event = outgoing()
    q.verbs.window = 5000
    q.put(event)
    assert 0 < q.client.pttl(q.keys.mark(event.unique)) <= 5000
    q.client.delete(q.keys.mark(event.unique))
    assert not q.run(q.verbs.enqueue([event]))[0].duplicate


def test_a_request_is_remembered_for_as_long_as_somebody_waits(q: Rig):
    event = request(timeout=600, delay=1000)
    q.verbs.window = 5000
    q.put(event)
    assert 600_000 < q.client.pttl(q.keys.mark(event.unique)) <= 601_000


def test_a_request_asked_again_by_the_same_client_joins_itself(q: Rig):
    event = request("mine")
    first = q.run(q.verbs.enqueue([event]))[0]
    again = q.run(q.verbs.enqueue([event]))[0]
    assert (again.id, again.duplicate) == (first.id, False)
    q.run(q.verbs.respond(str(uuid.UUID(event.unique)), 10, b"{}"))
    again = q.run(q.verbs.enqueue([event]))[0]
    assert (again.id, again.duplicate) == (first.id, False)
    other = q.run(q.verbs.enqueue([outgoing(event.unique, inbox="yours", fields=("reply_to", "yours", "ttl", 10_000))]))
    assert other[0].duplicate
    assert q.stats().ready == 1


def test_a_request_whose_time_is_over_is_asked_anew(q: Rig):
    event = request()
    first = q.put(event)[0]
    q.client.set(q.keys.mark(event.unique), first + b"|box|1")
    assert q.put(event)[0] != first
    assert q.stats().ready == 2


def test_lanes_are_made_when_they_are_first_used(q: Rig):
    q.put(outgoing(priority=7), outgoing(), outgoing(priority=255), outgoing(priority=7))
    assert b"lanes=255,7" in q.client.get(q.key("settings"))
    q.open("c")
    assert [entry.lane for entry in q.take("c")] == [b"255", b"7", b"7", b"0"]


def test_a_delayed_event_waits_until_it_is_due(q: Rig):
    plain, late = outgoing(), outgoing(delay=60_000, priority=2)
    receipts = q.run(q.verbs.enqueue([late, plain]))
    q.open("c")
    taken = q.taken("c")
    assert bodies(taken.entries) == [plain.json]
    assert 59_000 < taken.next_event <= 60_000 or taken.next_event == -1
    assert q.stats().delayed == 1
    q.make_due()
    (entry,) = q.take("c")
    assert (entry.lane, entry.fields[b"event"]) == (b"2", late.json)
    assert entry.timestamp == receipts[0].timestamp
    assert q.stats().delayed == 0


def test_an_element_of_the_delayed_set_that_makes_no_sense_is_a_dead_letter(q: Rig):
    q.client.zadd(q.key("delayed"), {b"\xffnonsense": 1, b"\x01": 1})
    q.put()
    q.open("c")
    assert len(q.take("c")) == 1
    assert {entry.fields[b"reason"] for entry in q.run(q.verbs.dead_letters())} == {b"unreadable"}
    assert not q.client.exists(q.key("delayed"))


def test_many_at_once(q: Rig):
    """More than the 8,000 values that Lua's unpack() can take."""
    events = [outgoing() for _ in range(9000)]
    q.put(*events)
    assert all(receipt.duplicate for receipt in q.run(q.verbs.enqueue(events)))
    q.open("c")
    taken = q.take("c", 10_000)
    assert bodies(taken) == [event.json for event in events]
    assert q.settle("c", taken) == frozenset()
    assert q.stats().completed == 9000


def test_an_event_with_as_many_fields_as_fit_goes_all_ways(q: Rig):
    fields = [part for i in range(3498) for part in (f"f{i}", i)]
    q.put(outgoing(fields=tuple(fields)))
    q.open("c")
    q.run(q.verbs.requeue("c", named(q.take("c")), failed=True))
    q.run(q.verbs.requeue("c", named(q.take("c")), failed=True, delay=1))
    q.make_due()
    taken = q.take("c")
    q.run(q.verbs.reject("c", named(taken), "rejected"))
    assert q.stats().dead == 1


def test_an_event_with_too_many_fields_is_refused_and_the_batch_with_it(q: Rig):
    fields = [part for i in range(3600) for part in (f"f{i}", i)]
    with pytest.raises(redis.ResponseError, match="ELKMQ_TOO_MANY_FIELDS"):
        q.put(outgoing(), outgoing(fields=tuple(fields)))
    assert q.names() == set()


def test_a_foreign_entry_with_too_many_fields_gets_to_the_dead_letters(q: Rig):
    q.client.xadd(q.keys.lane(0), {f"f{i}": i for i in range(5000)} | {"event": "{}", "ttl": "5"})
    q.open("c")
    taken = q.take("c") or q.run(q.verbs.recover("c", [], 10))
    assert taken == []  # its time was over
    q.client.xadd(q.keys.lane(0), {f"f{i}": i for i in range(5000)} | {"event": "{}", "priority": "4"})
    assert q.run(q.verbs.reject("c", named(q.take("c")), "unreadable")) == ["dead"]
    assert q.run(q.verbs.dead_letters())[0].fields[b"priority"] == b"4"


# -- max length


def test_a_full_queue_refuses_the_whole_batch(q: Rig):
    q.configure(max_length=3)
    q.put(outgoing(), outgoing(delay=60_000))
    before = q.snapshot()
    with pytest.raises(redis.ResponseError, match="ELKMQ_QUEUE_FULL"):
        q.put(outgoing(), outgoing())
    assert q.snapshot() == before
    q.put()
    assert q.stats().ready + q.stats().delayed == 3


def test_a_full_queue_still_answers_for_what_it_has_accepted(q: Rig):
    q.configure(max_length=2)
    events = [outgoing(), outgoing()]
    q.put(*events)
    assert all(receipt.duplicate for receipt in q.run(q.verbs.enqueue([*events, events[0]])))


def test_what_is_in_flight_takes_no_room(q: Rig):
    q.configure(max_length=2)
    q.put(outgoing(), outgoing())
    q.open("c")
    q.take("c")
    q.put(outgoing(), outgoing())
    assert (q.stats().ready, q.stats().in_flight) == (2, 2)


@pytest.mark.parametrize("size", [1, 5, 2500])
def test_the_oldest_makes_room(q: Rig, size: int):
    q.configure(max_length=4, overflow="drop_oldest")
    old = [outgoing(), outgoing(priority=1)]
    q.put(*old)
    new = [outgoing() for _ in range(size)]
    q.put(*new)
    q.open("c")
    kept = bodies(q.take("c"))
    assert (
        kept == [old[1].json, *[event.json for event in ([old[0], *new])[-3:]]][:4]
        if size > 1
        else [old[1].json, old[0].json, new[0].json]
    )
    assert q.stats().dropped == 2 + size - len(kept)


def test_what_was_dropped_goes_on_where_dead_letters_go(q: Rig):
    q.configure(max_length=1, overflow="drop_oldest", dead_letter_exchange="dlx")
    first = outgoing()
    q.put(first, outgoing())
    (onward,) = q.run(q.verbs.outbox())
    assert (onward.fields[b"event"], onward.fields[b"reason"], onward.fields[b"exchange"]) == (
        first.json,
        b"maxlen",
        b"dlx",
    )
    assert (q.stats().dead_lettered, q.stats().dropped) == (1, 0)


def test_a_response_between_originals_is_not_what_makes_room(q: Rig):
    q.configure(max_length=1, overflow="drop_oldest")
    q.client.xadd(q.keys.lane(0), {"response": '{"timeout":60}'})
    events = [outgoing(), outgoing()]
    q.put(*events)
    assert q.client.xlen(q.keys.lane(0)) == 2
    assert (q.stats().ready, q.stats().dropped) == (1, 1)


def test_a_queue_that_is_gone_takes_nothing(q: Rig):
    q.client.set(q.key("settings"), "format=1\ngone=1\n")
    assert [receipt.id for receipt in q.run(q.verbs.enqueue([outgoing(), outgoing()]))] == [b"~", b"~"]
    assert q.names() == {b"settings"}


def test_a_newer_format_is_refused(q: Rig):
    q.client.set(q.key("settings"), "format=2\n")
    with pytest.raises(redis.ResponseError, match="ELKMQ_FORMAT"):
        q.put()
    assert q.names() == {b"settings"}


def test_names_of_any_kind(server, name):
    rig = Rig(server, name)
    for queue in (f"{name}-ünï", f"{name}(odd", f"{name}%[x]*?"):
        rig.keys = QueueKeys(queue)
        rig.verbs = type(rig.verbs)(rig.keys, counting=rig.old)
        rig.open("c")
        event = Outgoing(b'{"request_uuid":1,"timeout":1,"action":"\xff\x00","payload":null}', "u|x")
        rig.put(event)
        assert bodies(rig.take("c")) == [event.json]
    rig.close()
