"""The delivery limit, and what can be done with events that were given up."""

from __future__ import annotations

import pytest

from elkmq import EmptyQueue, InvalidOption, Options
from tests.library.helpers import drain, event, fill, until


async def kill(queue, count, reason="rejected"):
    events = await fill(queue, count)
    for delivery in await queue.receive_many(count):
        await delivery.reject(f"error {delivery.event.payload}", reason=reason)
    return events


@pytest.mark.parametrize("limit", [1, 3])
async def test_what_fails_more_often_than_the_limit_becomes_a_dead_letter(library, server_url, name, limit):
    async with library() as lib:
        queue = lib.queue(name, server_url, options=Options(delivery_limit=limit))
        [sent] = await fill(queue, 1)
        for failed in range(limit):
            delivery = await queue.receive()
            assert delivery.failed == failed
            assert await delivery.requeue(failed=True, error="try again")
        assert not await (await queue.receive()).requeue(failed=True, error="once too often")
        [dead] = await queue.dead.list()
        assert (dead.event, dead.reason, dead.error) == (sent, "delivery_limit", "once too often")
        assert (dead.failed, dead.handed_out) == (limit + 1, limit + 1)
        assert dead.first <= dead.died
        with pytest.raises(EmptyQueue):
            await queue.receive()


async def test_the_queues_limit_goes_before_the_clients(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(delivery_limit=0))
        await queue.configure(delivery_limit=1)
        await fill(queue, 1)
        await (await queue.receive()).requeue(failed=True)
        await (await queue.receive()).requeue(failed=True)
        await until(queue, dead=1, ready=0)


async def test_without_a_limit_it_comes_back_for_ever(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(delivery_limit=0))
        await fill(queue, 1)
        for _ in range(30):
            await (await queue.receive()).requeue(failed=True)
        assert (await queue.receive()).failed == 30


async def test_only_failures_count_towards_the_limit(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(delivery_limit=1))
        await fill(queue, 1)
        for _ in range(5):
            await (await queue.receive()).requeue()
        delivery = await queue.receive()
        assert (delivery.handed_out, delivery.failed) == (6, 0)


async def test_they_can_be_listed_and_looked_at(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        events = await kill(queue, 5, reason="odd")
        found = await queue.dead.list()
        assert [dead.event for dead in found] == events
        assert [dead.error for dead in found] == [f"error {i}" for i in range(5)]
        assert await queue.dead.list(2) == found[:2]
        assert await queue.dead.list(2, after=found[1].id) == found[2:4]
        seen = found[0].to_dict()
        assert seen["event"]["payload"] == "0"
        assert seen["reason"] == "odd"
        assert [dead async for dead in queue.dead] == found


async def test_more_than_a_page_of_them_can_be_iterated(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue_many([event(payload=str(i)) for i in range(230)])
        async with await queue.consumer(prefetch=300) as consumer:
            for _ in range(230):
                await (await consumer.get(5)).reject()
        assert [int(dead.event.payload) async for dead in queue.dead] == list(range(230))


async def test_requeued_they_are_work_again_with_a_clean_record(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await kill(queue, 3)
        ids = [dead.id for dead in await queue.dead.list()]
        assert await queue.dead.requeue(ids[:2]) == 2
        assert await queue.dead.requeue(ids[:2]) == 0
        again = await queue.receive_many(5)
        assert [(d.event.payload, d.failed, d.handed_out) for d in again] == [("0", 0, 1), ("1", 0, 1)]
        await queue.ack_many(again)
        await until(queue, dead=1, revived=2, completed=2)


async def test_dropped_they_are_gone(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await kill(queue, 3)
        ids = [dead.id for dead in await queue.dead.list()]
        assert await queue.dead.drop([ids[0], ids[2], "1-1"]) == 2
        assert [dead.id for dead in await queue.dead.list()] == [ids[1]]
        assert await drain(queue) == []


async def test_only_so_many_are_kept(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure(dead_letter_max=2)
        await kill(queue, 4)
        assert [dead.event.payload for dead in await queue.dead.list()] == ["2", "3"]


@pytest.mark.parametrize("bad", ["", "x", "1", "1-x", "1-2-3", "٣-0", 7, None, "-1-0"])
async def test_an_id_that_is_none(library, fast_url, name, bad):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await kill(queue, 1)
        for call in (lambda: queue.dead.requeue([bad]), lambda: queue.dead.drop([bad])):
            with pytest.raises(InvalidOption, match="is no id of a dead letter"):
                await call()
        if bad is not None:
            with pytest.raises(InvalidOption):
                await queue.dead.list(after=bad)
        await until(queue, dead=1)


@pytest.mark.parametrize("bad", [0, -1, "all", 1.5, True])
async def test_a_number_of_them_that_is_none(library, fast_url, name, bad):
    async with library() as lib:
        with pytest.raises(InvalidOption, match="limit is"):
            await lib.queue(name, fast_url).dead.list(bad)
