"""Each verb with each key of the queue in another program's hands, and with the server's memory full: all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from elkmq._core.call import Call
from tests.scripts.rig import Rig, named, of_format, outgoing, request, uuid_of

ENDINGS = (
    "event_stream", "event_stream:5", "event_stream:redelivered", "wake", "settings", "consumers", "consumer_info", "delayed",
    "dead_letters", "outbox", "event_log", "counters", "rates", "signals", "active_consumer", "exclusive_consumer",
    "message_queue", "response_stream", "answered", "newer_entries", "replies:box", "once:k",
)  # fmt: skip

Scene = Callable[[Rig], Call[Any]]
SCENES: dict[str, Scene] = {}
UNIQUE = "fixed"


def scene(make: Scene) -> Scene:
    SCENES[make.__name__] = make
    return make


def held(q: Rig, *events: Any, consumer: str = "c") -> list[tuple[bytes, bytes]]:
    """Deliveries of a consumer, of different lanes."""
    q.open(consumer, "other")
    q.put(*(events or (outgoing(), outgoing(priority=5), outgoing())))
    taken = q.take(consumer)
    q.run(q.verbs.requeue(consumer, named(taken[:1]), failed=True))
    return named(taken[1:] + q.take(consumer))


@scene
def enqueue(q: Rig) -> Call[Any]:
    return q.verbs.enqueue([outgoing(), outgoing()])


@scene
def enqueue_mixed(q: Rig) -> Call[Any]:
    q.open("c")
    return q.verbs.enqueue([outgoing(), outgoing(delay=5000), outgoing(UNIQUE, priority=5), outgoing(), request()])


@scene
def enqueue_drop_oldest(q: Rig) -> Call[Any]:
    q.configure(max_length=2, overflow="drop_oldest", dead_letter_exchange="dlx")
    q.put(outgoing(), outgoing(priority=5))
    return q.verbs.enqueue([outgoing(), outgoing()])


@scene
def open_(q: Rig) -> Call[Any]:
    q.put(outgoing(), outgoing(priority=5))
    return q.verbs.open("c", 30_000, {})


@scene
def settle(q: Rig) -> Call[Any]:
    return q.verbs.settle("c", held(q))


@scene
def settle_kept(q: Rig) -> Call[Any]:
    q.configure(retention_count=2, retention_ms=5)
    return q.verbs.settle("c", held(q), keep=True)


@scene
def requeue(q: Rig) -> Call[Any]:
    return q.verbs.requeue("c", held(q), failed=True)


@scene
def requeue_delayed(q: Rig) -> Call[Any]:
    return q.verbs.requeue("c", held(q), failed=False, delay=1000)


@scene
def requeue_too_often(q: Rig) -> Call[Any]:
    q.verbs.delivery_limit = 1
    return q.verbs.requeue("c", held(q), failed=True)


@scene
def reject(q: Rig) -> Call[Any]:
    return q.verbs.reject("c", held(q), "rejected", "why")


@scene
def complete(q: Rig) -> Call[Any]:
    asked = request()
    delivered = held(q, outgoing(), asked)
    q.configure(retention_count=2)
    events = [(q.keys, outgoing()), (None, outgoing()), (q.keys, outgoing(delay=1000)), (q.keys, outgoing(priority=5))]
    return q.verbs.complete(
        "c", delivered[0], keep=True, response=b"{}", request_uuid=uuid_of(asked), timeout=10, events=events
    )


@scene
def complete_for_an_original(q: Rig) -> Call[Any]:
    asked = outgoing()
    q.open("c")
    q.client.xadd(q.keys.lane(0), {"event": asked.json})
    delivered = named(q.take("c"))
    return q.verbs.complete("c", delivered[0], response=b"{}", request_uuid=uuid_of(asked), timeout=10)


@scene
def respond(q: Rig) -> Call[Any]:
    asked = request()
    q.put(asked)
    return q.verbs.respond(uuid_of(asked), 10, b"{}")


@scene
def leave(q: Rig) -> Call[Any]:
    held(q)
    q.configure(single_active=1)
    q.taken("c")
    return q.verbs.leave("c")


@scene
def take_over(q: Rig) -> Call[Any]:
    held(q)
    q.let_lease_end("c")
    return q.verbs.tend("other", 30_000, chores=True)


@scene
def recover(q: Rig) -> Call[Any]:
    held(q)
    return q.verbs.recover("c", [], 100)


@scene
def start(q: Rig) -> Call[Any]:
    return q.verbs.start("c", held(q)[0])


@scene
def purge(q: Rig) -> Call[Any]:
    q.put(outgoing(), outgoing(priority=5), outgoing(delay=5000))
    return q.verbs.purge(delayed=True)


@scene
def revive(q: Rig) -> Call[Any]:
    q.run(q.verbs.reject("c", held(q), "rejected"))
    return q.verbs.revive([entry.id.decode() for entry in q.run(q.verbs.dead_letters())])


@scene
def configure(q: Rig) -> Call[Any]:
    q.open("c")
    return q.verbs.configure({"ttl": "5000", "single_active": "1"})


@scene
def bury(q: Rig) -> Call[Any]:
    q.put()
    return q.verbs.bury(q.run(q.verbs.dequeue()).entries[0], "unreadable")


def newer_entries(q: Rig, n: int) -> None:
    """As newer releases write them."""
    for i in range(n):
        q.client.xadd(q.keys.lane(0), {"event": outgoing().json, "v": 2 + i})


@scene
def take_of_a_newer_release_s(q: Rig) -> Call[Any]:
    q.open("c")
    newer_entries(q, 2)
    return q.verbs.take("c", 10)


@scene
def reject_a_newer_release_s(q: Rig) -> Call[Any]:
    q.open("c")
    newer_entries(q, 1)
    return q.verbs.reject("c", named(q.run(q.verbs.read_entries("c", 5, [b"0"]))), "format")


@scene
def take_of_what_was_set_aside(q: Rig) -> Call[Any]:
    q.open("c")
    newer_entries(q, 2)
    q.take("c")
    q.open("n")
    return of_format(2, q.verbs.take("n", 10))


@scene
def bring_back_for_originals(q: Rig) -> Call[Any]:
    q.open("c")
    newer_entries(q, 1)
    q.take("c")
    q.run(q.verbs.leave("c", 10))
    q.configure(serve_elkmq01=1)
    return of_format(2, q.verbs.tend("", 0, chores=True))


@scene
def join(q: Rig) -> Call[Any]:
    q.put()
    q.open("c")
    return q.verbs.join()


@scene
def dequeue_again(q: Rig) -> Call[Any]:
    held(q)
    q.put()
    q.run(q.verbs.dequeue(client="me", turn=1, keep=60_000))
    q.put()
    return q.verbs.dequeue(client="me", turn=2, keep=60_000)


@scene
def dequeue_what_a_read_was_handed(q: Rig) -> Call[Any]:
    held(q)
    return q.verbs.dequeue("c", 5000, client="me", turn=1, keep=60_000)


@scene
def undo_dequeue(q: Rig) -> Call[Any]:
    held(q)
    q.put()
    q.run(q.verbs.dequeue(client="me", turn=1, keep=60_000))
    return q.verbs.undo_dequeue("me", 1, 60_000)


@scene
def claim(q: Rig) -> Call[Any]:
    return q.verbs.claim("k", "me", 1000)


@scene
def finish(q: Rig) -> Call[Any]:
    q.run(q.verbs.claim("k", "me", 1000))
    return q.verbs.finish("k", "me", b"1", 1000)


@scene
def consume_alone(q: Rig) -> Call[Any]:
    q.open("c")
    return q.verbs.consume_alone("c", on=True)


@scene
def consume_alone_no_more(q: Rig) -> Call[Any]:
    q.open("c")
    q.run(q.verbs.consume_alone("c", on=True))
    return q.verbs.consume_alone("c", on=False)


@scene
def drop(q: Rig) -> Call[Any]:
    held(q)
    return q.verbs.drop()


def usurp(q: Rig, ending: str) -> None:
    """Another program's value is at that key."""
    key = q.key(ending)
    text = q.client.type(key) != b"string" and ending not in ("settings", "active_consumer", "exclusive_consumer")
    q.client.delete(key)
    if text:
        q.client.set(key, "mine")
    else:
        q.client.rpush(key, "mine")


def refusal(q: Rig, call: Call[Any]) -> str:
    """The error that the call ends in, '' if it does not."""
    try:
        q.run(call)
    except redis.ResponseError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_a_key_of_another_type_stops_a_verb_before_it_changes_anything(server, name, scene):
    stopped = []
    for ending in ENDINGS:
        q = Rig(server, f"{name}-{ending}")
        call = scene(q)
        usurp(q, ending)
        before = q.snapshot()
        error = refusal(q, call)
        after = q.snapshot()
        if error:
            stopped.append(ending)
            assert "WRONG" in error, ending
            if (
                scene is take_over
            ):  # each chore by itself: the lease is renewed, and the take-over stays where a later one fails
                if isinstance(after[b"event_stream"], tuple) and not after[b"event_stream"][0]:
                    assert len(after[b"event_stream:redelivered"][0]) == 3
                    continue
                del before[b"consumers"], after[b"consumers"]
            if scene is bring_back_for_originals and not after[b"dead_letters"][0]:
                continue  # done, and a later chore stopped
            if scene is take_of_a_newer_release_s and ending in ("dead_letters", "newer_entries", "wake", "signals"):
                assert after[b"event_stream"][0] == before[b"event_stream"][0]  # and pending, to be had by `recover`
                continue
            assert after == before, ending
        elif ending not in ("settings", "message_queue") and scene is not drop:
            assert q.client.type(q.key(ending)) in (b"string", b"list"), f"{ending} was written over"
        q.close()
    assert stopped


@pytest.mark.parametrize(
    "ending", ["event_stream:5", "event_stream", "dead_letters", "delayed", "answered", "counters"]
)
def test_what_was_taken_from_one_lane_is_not_hidden_by_another(q: Rig, ending):
    deliveries = held(q)
    q.put()
    q.run(q.verbs.requeue("c", deliveries, failed=False))
    usurp(q, ending)
    if ending == "delayed":
        assert "WRONGTYPE" in refusal(q, q.verbs.take("c", 10))
        assert q.run(q.verbs.recover("c", [], 10)) == []
        return
    taken = q.take("c")
    assert len(taken) >= 3
    assert q.settle("c", taken) == frozenset()


GO_ON = {
    "open_", "revive", "settle", "settle_kept", "requeue", "requeue_delayed", "requeue_too_often", "reject", "leave",
    "take_over", "recover", "start", "purge", "drop", "join", "take_of_a_newer_release_s", "reject_a_newer_release_s",
    "take_of_what_was_set_aside", "bring_back_for_originals",
    "dequeue_again", "dequeue_what_a_read_was_handed",
    "undo_dequeue", "consume_alone", "consume_alone_no_more",
}  # fmt: skip


def test_a_full_memory_stops_what_brings_more_and_nothing_else(server, make_server, name):
    own = make_server(server.binary)
    for i, (title, scene) in enumerate(SCENES.items()):
        q = Rig(own, f"{name}-{i}")
        call = scene(q)
        if call.script:
            q.client.script_load(call.script.source)
        before = q.snapshot()
        q.client.config_set("maxmemory", "1")
        error = refusal(q, call)
        q.client.config_set("maxmemory", "0")
        assert (not error) == (title in GO_ON), f"{title}: {error}"
        if error:
            assert "OOM" in error or "maxmemory" in error
            assert q.snapshot() == before, title
        q.close()


def test_with_a_full_memory_consumers_start_take_finish_and_keep_their_lease(server, make_server, name):
    q = Rig(make_server(server.binary), name)
    q.put(outgoing(), outgoing(delay=5000), outgoing(), outgoing())
    q.make_due()
    for call in (
        q.verbs.open("x", 1000, {}),
        q.verbs.take("x", 1),
        q.verbs.settle("x", []),
        q.verbs.tend("x", 5, chores=True),
    ):
        q.run(call)
    q.run(q.verbs.leave("x"))
    q.run(q.verbs.dequeue())
    q.client.config_set("maxmemory", "1")
    q.open("c")
    taken = q.take("c")
    assert len(taken) == 3
    assert q.tend("c", chores=True).taken_over == 0
    assert q.settle("c", taken[:1]) == frozenset()
    assert q.run(q.verbs.requeue("c", named(taken[1:]), failed=True)) == ["requeued"] * 2
    assert q.run(q.verbs.leave("c")) == 0
    assert len(q.run(q.verbs.dequeue("d", 1000)).entries) == 1
    q.close()
