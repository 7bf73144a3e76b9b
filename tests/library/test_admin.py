"""Looking after a queue: settings, purge, deletion, the log of completed events, and what is to be seen."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest

from elkmq import EmptyQueue, InvalidOption, Options, QueueSettings
from tests.library.helpers import clock_passes, drain, event, fill, until


async def test_settings_are_kept_at_the_server(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        assert await queue.settings() == QueueSettings()
        await queue.configure(max_length=5, overflow="drop_oldest", ttl=timedelta(minutes=1), retention=2.5)
        wanted = QueueSettings(max_length=5, overflow="drop_oldest", ttl=60.0, retention=2.5)
        assert await other.settings() == wanted
        assert await other.configure(max_length=None, overflow=None, ttl=None) == QueueSettings(retention=2.5)
        assert (await queue.stats()).settings == QueueSettings(retention=2.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_lenght": 1},
        {"max_length": 0},
        {"max_length": "5"},
        {"overflow": "explode", "max_length": 1},
        {"overflow": "reject"},
        {"ttl": 0},
        {"ttl": float("nan")},
        {"retention": -1},
        {"paused": "yes"},
        {"delivery_limit": -1},
        {"serve_elkmq01": True, "max_length": 5},
    ],
    ids=str,
)
async def test_settings_that_make_no_sense_change_nothing(library, fast_url, name, bad):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        with pytest.raises(InvalidOption):
            await queue.configure(**bad)
        assert await queue.settings() == QueueSettings()


async def test_purge_removes_what_is_ready_and_leaves_what_is_in_flight(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 10)
        await queue.enqueue(event(), priority=7)
        await queue.enqueue(event(), delay=60)
        delivery = await queue.receive()
        assert await queue.purge() == 10
        await until(queue, ready=0, in_flight=1, delayed=1, purged=10)
        await delivery.ack()
        assert await queue.purge(delayed=True) == 1
        await until(queue, ready=0, in_flight=0, delayed=0, purged=11, completed=1)


async def test_more_than_one_step_of_a_purge(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue_many([event() for _ in range(12_000)])
        assert await queue.purge() == 12_000
        assert await drain(queue) == []


async def test_delete_leaves_nothing_behind(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url, options=Options(dedupe_window=0))
        await queue.configure(retention_count=10, max_length=100)
        await fill(queue, 3, priority=2)
        await queue.enqueue(event(), delay=60)
        await (await queue.receive()).ack()
        await (await queue.receive()).reject()
        assert not await queue.delete(if_empty=True)
        assert not await queue.delete(if_unused=True)
        assert await queue.delete()
        with fast_server.client() as client:
            assert [key for key in client.keys("*") if name.encode() in key] == []


async def test_completed_events_are_kept_as_a_log(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 1)
        await (await queue.receive()).ack()
        assert [entry async for entry in queue.log()] == []  # before it was asked for
        await queue.configure(retention_count=100)
        events = await fill(queue, 4)
        await (await queue.receive()).requeue(failed=True)
        for delivery in await queue.receive_many(4):
            await delivery.ack()
        entries = [entry async for entry in queue.log()]
        assert {entry.event for entry in entries} == set(events)
        assert [entry.failed for entry in entries] == [1, 0, 0, 0]
        assert all(entry.enqueued <= entry.completed for entry in entries)
        assert (await queue.stats()).log == 4


async def test_the_log_can_be_read_again_by_id_and_by_time(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure(retention_count=10_000)
        for _ in range(3):
            await fill(queue, 1)
            await (await queue.receive()).ack()
            await clock_passes(fast_url, 1)  # each in a millisecond of its own
        entries = [entry async for entry in queue.log()]
        first, middle, last = entries

        async def read(*args):
            return [entry async for entry in queue.log(*args)]

        assert await read(middle.id) == [middle, last]
        assert await read(middle.id, middle.id) == [middle]
        assert await read(None, first.completed) == [first]
        assert await read(middle.completed, middle.completed) == [middle]
        at = datetime.fromtimestamp(last.completed / 1000, timezone.utc)
        assert await read(at) == [last]
        assert await read(at + timedelta(hours=1)) == []
        assert await read(first.completed, first.completed - 1) == []


async def test_a_log_longer_than_a_page(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure(retention_count=10_000)
        await queue.enqueue_many([event(payload=str(i)) for i in range(1100)])
        await queue.ack_many(await queue.receive_many(1100))
        assert [int(entry.event.payload) async for entry in queue.log()] == list(range(1100))


async def test_what_is_older_than_the_retention_goes(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure(retention=0.05)
        await fill(queue, 2)
        await (await queue.receive()).ack()
        await clock_passes(fast_url, 50)
        await (await queue.receive()).ack()
        assert [entry.event.payload async for entry in queue.log()] == ["1"]


@pytest.mark.parametrize("bad", ["yesterday", "1-2-3", -5, datetime(2026, 1, 1), 1.5])  # noqa: DTZ001
async def test_a_place_in_the_log_that_is_none(library, fast_url, name, bad):
    async with library() as lib:
        with pytest.raises(InvalidOption, match="nothing was read"):
            [entry async for entry in lib.queue(name, fast_url).log(bad)]


async def test_what_is_to_be_seen_of_a_queue(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 5)
        await queue.enqueue(event(), delay=60)
        async with await queue.consumer(prefetch=2, lease=7) as consumer:
            first, _second = await consumer.get(5), await consumer.get(5)  # one that is dropped would go back
            stats = await queue.stats()
            assert (stats.ready, stats.in_flight, stats.delayed, stats.enqueued) == (3, 2, 1, 6)
            assert 59 < stats.next_due <= 60
            assert 0 <= stats.oldest_age < 60
            [seen] = stats.consumers
            assert (seen.alive, seen.in_flight, seen.kind) == (True, 2, "consumer")
            assert 0 < seen.lease_left <= 7
            await first.ack()
            await (await consumer.get(5)).reject()
        stats = await queue.stats()
        assert (stats.completed, stats.dead, stats.ready, stats.in_flight) == (1, 1, 3, 0)
        assert stats.to_dict()["ready"] == 3


@pytest.mark.parametrize("how", ["receive", "consumer"])
async def test_who_asks_and_does_not_wait_hears_how_it_is_now(library, fast_url, name, how):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        consumer = await queue.consumer()

        async def ask():
            if how == "consumer":
                return await consumer.get(0)
            try:
                return await queue.receive()
            except EmptyQueue:
                return None

        for _ in range(3):
            assert await ask() is None
            await other.enqueue(event())
            await other.pause()
            assert await ask() is None
            await other.resume()
            await (await ask()).ack()


async def test_who_was_told_of_a_pause_with_an_event_passes_it_on(library, fast_url, name):
    async with library() as lib:
        queues = [lib.queue(name, fast_url) for _ in range(3)]
        for queue in queues:
            for _ in range(2):  # afterwards it reads the lanes, and hears of changes by wake tokens only
                await queue.enqueue(event())
                await (await queue.receive()).ack()
        held = []
        for i in range(3):
            await queues[0].enqueue(event(payload=str(i)))
        await queues[0].pause()
        for queue in queues:
            with contextlib.suppress(EmptyQueue):
                held.append(await queue.receive())
        assert held == []
        await queues[0].resume()
        held = [await queue.receive() for queue in queues]
        assert {delivery.event.payload for delivery in held} == {"0", "1", "2"}
