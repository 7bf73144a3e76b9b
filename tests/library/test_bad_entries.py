"""What others may leave in a queue's keys: nothing of it stops anybody, and nothing is lost."""

from __future__ import annotations

import json

import pytest

from elkmq import QueueSettings, ServerError, WrongKeyType
from tests.library.helpers import drain, event, fill, soon, until

GOOD = {"request_uuid": 1, "timeout": 10, "action": "a", "payload": None}

ENTRIES = {
    "not-json": {"event": "hello"},
    "empty": {"event": ""},
    "half-json": {"event": '{"request_uuid": 1'},
    "two-objects": {"event": json.dumps(GOOD) * 2},
    "array": {"event": "[1, 2]"},
    "number": {"event": "7"},
    "null": {"event": "null"},
    "no-fields": {"event": "{}"},
    "no-timeout": {"event": json.dumps({k: v for k, v in GOOD.items() if k != "timeout"})},
    "no-action": {"event": json.dumps({k: v for k, v in GOOD.items() if k != "action"})},
    "uuid-of-200-digits": {"event": json.dumps(GOOD).replace("1,", "1" * 200 + ",", 1)},
    "uuid-of-10000-digits": {"event": json.dumps(GOOD).replace("1,", "1" * 10_000 + ",", 1)},
    "uuid-text": {"event": json.dumps({**GOOD, "request_uuid": "1"})},
    "uuid-negative": {"event": json.dumps({**GOOD, "request_uuid": -1})},
    "uuid-float": {"event": json.dumps({**GOOD, "request_uuid": 1.0})},
    "timeout-text": {"event": json.dumps({**GOOD, "timeout": "10"})},
    "timeout-zero": {"event": json.dumps({**GOOD, "timeout": 0})},
    "timeout-65536": {"event": json.dumps({**GOOD, "timeout": 65_536})},
    "timeout-nan": {"event": json.dumps({**GOOD, "timeout": float("nan")})},
    "timeout-true": {"event": json.dumps({**GOOD, "timeout": True})},
    "action-number": {"event": json.dumps({**GOOD, "action": 5})},
    "action-half-surrogate": {"event": json.dumps({**GOOD, "action": "\ud800"})},
    "payload-object": {"event": json.dumps({**GOOD, "payload": {}})},
    "twice": {"event": json.dumps(GOOD)[:-1] + ', "timeout": 5}'},
    "no-utf-8": {"event": b"\xff\xfe"},
    "zero-bytes": {"event": b"\0\0"},
    "deep": {"event": "[" * 100_000},
    "other-field": {"something": "else"},
    "many-fields": {f"field-{i}": i for i in range(3000)},
    "deadline-of-no-use": {"event": "x", "ttl": "soon", "first": "never", "failed": "often", "handed_out": "?"},
}


@pytest.mark.parametrize("how", ["receive", "consumer", "dequeue", "dequeue_blocking"])
async def test_entries_that_are_no_events_become_dead_letters_and_stop_nobody(library, fast_server, name, how, caplog):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.configure()  # what was there before would be the history of original clients
        with fast_server.client() as client:
            for fields in ENTRIES.values():
                client.xadd(f"{name}(event_stream)", fields)
        [good] = await fill(queue, 1)
        if how == "consumer":
            async with await queue.consumer(prefetch=5) as consumer:
                delivery = await soon(consumer.get(20), 30)
                found = delivery.event
                await delivery.ack()
        elif how == "receive":
            delivery = await queue.receive(5)
            found = delivery.event
            await delivery.ack()
        else:
            found = (await getattr(queue, how)()).event
        assert found == good
        dead = [letter async for letter in queue.dead]
        assert [letter.reason for letter in dead] == ["unreadable"] * len(ENTRIES)
        for letter, (label, fields) in zip(dead, ENTRIES.items(), strict=True):
            assert letter.event is None, label
            assert letter.error, label
            wanted = fields.get("event")
            if wanted is not None:  # nothing is lost
                assert letter.raw[b"event"] == (wanted if isinstance(wanted, bytes) else wanted.encode()), label
            letter.to_dict()
        assert caplog.text.count("cannot be read") >= len(ENTRIES)
        await until(queue, ready=0, in_flight=0, completed=1, dead=len(ENTRIES))


@pytest.mark.parametrize(
    "fields",
    [
        {"ttl": "soon"},
        {"first": "never"},
        {"failed": "often"},
        {"handed_out": "x"},
        {"headers": "no json"},
        {"headers": "[1]"},
        {"v": "0"},
        {"priority": "high"},
        {"unique": b"\xff"},
        {"reply_to": ""},
        {"surprise": "x" * 100},
    ],
    ids=str,
)
async def test_other_fields_of_an_event_that_make_no_sense(library, fast_server, name, fields):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.configure()
        with fast_server.client() as client:
            client.xadd(f"{name}(event_stream)", {"event": json.dumps(GOOD), **fields})
        async with await queue.consumer() as consumer:
            delivery = await soon(consumer.get(5))
            assert delivery.event.action == "a"
            repr(delivery)
            for seen in ("timestamp", "unique_id", "id", "handed_out", "failed", "priority", "awaited", "remaining"):
                getattr(delivery, seen)
            await delivery.requeue(failed=True)
            delivery = await soon(consumer.get(5))
            await delivery.complete()
        await until(queue, ready=0, in_flight=0)


async def test_a_delayed_set_with_something_else_in_it(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        with fast_server.client() as client:
            client.zadd(f"{name}(delayed)", {b"\xff rubbish": 1, "text": 2})
        await queue.enqueue(event(payload="late"), delay=0.05)
        delivery = await queue.receive(5)
        assert delivery.event.payload == "late"
        await delivery.ack()
        assert (await queue.stats()).delayed == 0


async def test_settings_of_a_newer_format(library, fast_server, name):
    from elkmq import FormatTooNew

    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await fill(queue, 1)
        with fast_server.client() as client:
            client.set(f"{name}(settings)", "format=2\n")
        for call in (lambda: queue.enqueue(event()), queue.receive, queue.dequeue, queue.stats, queue.purge):
            with pytest.raises(FormatTooNew, match="nothing was changed; upgrade this program"):
                await call()
        with fast_server.client() as client:
            client.delete(f"{name}(settings)")
        assert await drain(queue) == ["0"]


@pytest.mark.parametrize(
    "written", ["max_length=inf", "max_length=0", "max_length=5\noverflow=explode", "ttl=-5"], ids=repr
)
async def test_settings_that_somebody_wrote_by_hand(library, fast_server, name, written):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        with fast_server.client() as client:
            client.set(f"{name}(settings)", f"{written}\n")
        names = [line.partition("=")[0] for line in written.splitlines()]
        with pytest.raises(ServerError, match=rf"{names[-1]} .*nothing was changed; set it anew"):
            await queue.settings()
        assert (await queue.stats()).settings == QueueSettings()
        assert await queue.configure(**dict.fromkeys(names)) == QueueSettings()
        assert await queue.settings() == QueueSettings()


# Which key another program took, as what, and what cannot be done then.
KEYS = {
    "event_stream": ("enqueue", "dequeue", "receive"),
    "event_stream:redelivered": ("dequeue", "receive"),
    "settings": ("enqueue", "dequeue", "receive", "configure"),
    "consumers": ("receive",),
    "consumer_info": ("receive",),
    "wake": ("receive",),
    "delayed": ("delay", "dequeue", "receive"),
    "counters": (),
    "dead_letters": ("list",),
    "event_log": (),
    "rates": (),
}


@pytest.mark.parametrize("how", ["receive", "consumer", "dequeue", "dequeue_blocking"])
async def test_a_response_where_none_belongs_is_a_dead_letter(library, fast_server, name, how):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.configure()
        async with await queue.consumer() as consumer:
            assert await consumer.get(0) is None  # it has made the lane
        with fast_server.client() as client:
            client.xadd(f"{name}(event_stream:redelivered)", {"response": "NaN"})
        await fill(queue, 1)
        if how == "consumer":
            async with await queue.consumer() as consumer:
                await (await soon(consumer.get(20))).ack()
        elif how == "receive":
            await (await soon(queue.receive(20))).ack()
        else:
            await soon(getattr(queue, how)())
        stats = await queue.stats()
        assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 1)
        assert [letter.reason for letter in await queue.dead.list()] == ["unreadable"]


@pytest.mark.parametrize("ending", KEYS)
@pytest.mark.parametrize("kind", ["string", "list", "hash", "zset"])
async def test_a_key_of_the_wrong_type(library, fast_server, name, ending, kind):
    key = f"{name}({ending})"
    with fast_server.client() as client:
        put = {
            "string": lambda: client.set(key, "theirs"),
            "list": lambda: client.rpush(key, "theirs"),
            "hash": lambda: client.hset(key, "theirs", "1"),
            "zset": lambda: client.zadd(key, {"theirs": 1}),
        }
        put[kind]()
        before = client.dump(key)
        async with library() as lib:
            queue = lib.queue(name, fast_server.url)
            calls = {
                "enqueue": lambda: queue.enqueue(event()),
                "dequeue": queue.dequeue,
                "receive": queue.receive,
                "configure": lambda: queue.configure(max_length=5),
                "delay": lambda: queue.enqueue(event(), delay=60),
                "list": queue.dead.list,
            }
            right = {"settings": "string", "consumers": "zset", "delayed": "zset", "counters": "hash", "rates": "list"}
            if right.get(ending, "hash" if ending == "consumer_info" else "stream") != kind:
                for what in KEYS[ending]:
                    with pytest.raises(WrongKeyType, match="choose another queue name"):
                        await soon(calls[what]())
        assert client.dump(key) == before  # theirs it stays
