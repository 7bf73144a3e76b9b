"""Consumers: how much they hold, how soon they hear, and what they do when others come and go."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from elkmq import InvalidOption, Options, QueueClosed
from tests.library.helpers import BEFORE_ANOTHER_LOOK, event, fill, lose_leases, soon, until
from tests.waiting import eventually, eventually_async


async def test_iterating_gives_deliveries_until_it_is_stopped(library, server_url, name):
    found = []
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 5)
        async with await queue.consumer() as consumer:
            async for delivery in consumer:
                found.append(delivery.event.payload)
                await delivery.ack(wait=len(found) % 2 == 0)
                if len(found) == 5:
                    consumer.stop()
        assert found == list("01234")
        await until(queue, completed=5, in_flight=0, consumers=0)


@pytest.mark.parametrize("prefetch", [1, 7])
async def test_no_more_is_held_than_the_prefetch(library, server_url, name, prefetch):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 30)
        async with await queue.consumer(prefetch=prefetch) as consumer:
            held = [await consumer.get(5) for _ in range(prefetch)]
            assert (await queue.stats()).in_flight == prefetch
            assert await consumer.get(0) is None
            assert await consumer.get(0.05) is None
            assert (await queue.stats()).in_flight == prefetch
            await held[0].ack()
            held.append(await consumer.get(5))
            assert held[-1] is not None
            assert (await queue.stats()).in_flight <= prefetch


async def test_no_more_is_held_than_the_prefetch_with_many_lanes_at_once(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for priority in range(6):
            await queue.enqueue(event(), priority=priority)
        for delivery in await queue.receive_many(6):
            await delivery.ack()
        async with await queue.consumer(prefetch=2) as consumer:
            waiting = asyncio.ensure_future(consumer.get(10))
            await until(queue, consumers=2)
            for _ in range(10):  # as many lanes as can be are filled while it blocks
                await asyncio.gather(*[queue.enqueue(event(), priority=priority) for priority in range(6)])
            held = [await waiting, await consumer.get(5)]
            await eventually_async(lambda: _holds(queue, 2))
            while (delivery := held.pop(0)) is not None:
                await delivery.ack()
                held.append(await consumer.get(0.5))
                assert (await queue.stats()).in_flight <= 2
        assert (await queue.stats()).completed == 66


async def _holds(queue, count):
    return (await queue.stats()).in_flight == count


async def test_what_waits_when_it_is_full_comes_as_soon_as_there_is_room(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 2)
        async with await queue.consumer(prefetch=1) as consumer:
            first = await consumer.get(5)
            second = asyncio.ensure_future(consumer.get(10))
            await asyncio.wait([second], timeout=0.1)
            assert not second.done()
            await first.ack()
            assert (await soon(second, BEFORE_ANOTHER_LOOK)).event.payload == "1"


@pytest.mark.parametrize("timeout", [0.05, 0.4])
async def test_get_ends_in_time(library, fast_url, name, timeout):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        async with await queue.consumer() as consumer:
            assert await consumer.get(0) is None  # registers
            begun = time.monotonic()
            assert await soon(consumer.get(timeout), BEFORE_ANOTHER_LOOK) is None
            assert time.monotonic() - begun >= timeout


async def test_get_ends_in_time_while_another_thread_or_task_waits_too(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        async with await queue.consumer() as consumer:
            assert await consumer.get(0) is None
            long = asyncio.ensure_future(consumer.get(30))
            await asyncio.wait([long], timeout=0.05)
            assert await soon(consumer.get(0.2), BEFORE_ANOTHER_LOOK) is None
            assert await soon(consumer.get(0), BEFORE_ANOTHER_LOOK) is None
            await fill(queue, 1)
            assert (await soon(long)).event.payload == "0"


async def test_many_ask_one_consumer_at_once(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        async with await queue.consumer(prefetch=20) as consumer:
            waiting = [asyncio.ensure_future(consumer.get(10)) for _ in range(20)]
            await fill(queue, 20)
            found = await soon(asyncio.gather(*waiting))
            assert sorted(int(d.event.payload) for d in found) == list(range(20))
            await queue.ack_many(found)
        assert (await queue.stats()).completed == 20


async def test_many_receive_from_one_queue_object_at_once(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        waiting = [asyncio.ensure_future(queue.receive(10)) for _ in range(20)]
        await fill(queue, 20)
        found = await soon(asyncio.gather(*waiting))
        assert sorted(int(d.event.payload) for d in found) == list(range(20))
        await asyncio.gather(*[d.ack() for d in found])
        assert (await queue.stats()).completed == 20


async def test_an_idle_consumer_hears_at_once(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        async with await queue.consumer() as consumer:
            for priority in (0, 0, 5, 0, 9):
                waiting = asyncio.ensure_future(consumer.get(10))
                await until(other, consumers=1)
                await asyncio.wait([waiting], timeout=0.02)
                await other.enqueue(event(), priority=priority)
                delivery = await soon(waiting, BEFORE_ANOTHER_LOOK)
                assert delivery.priority == priority
                await delivery.ack()


@pytest.mark.parametrize("when", ["idle", "busy", "before", "dequeue"])
async def test_a_delay_is_kept_to_a_tenth_of_a_second(library, server_url, name, when):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        late = []
        async with await queue.consumer(prefetch=2) as consumer:
            if when == "busy":
                await fill(other, 1)
                busy = await consumer.get(5)
            waiting = None
            if when != "before":
                wait = queue.dequeue_blocking(10) if when == "dequeue" else consumer.get(10)
                waiting = asyncio.ensure_future(wait)
                await until(other, consumers=1)
            # The load of other tests can delay a single one.
            for delay in (0.3, 0.35, 0.4):
                stamp = await other.enqueue(event("d"), delay=delay)
                found = await soon(waiting or consumer.get(10))
                came = (await other.stats()).server_time
                late.append(came - stamp - delay * 1000)
                waiting = None if when != "dequeue" else asyncio.ensure_future(queue.dequeue_blocking(10))
                if when != "dequeue":
                    await found.ack()
            if when == "busy":
                await busy.ack()
            if waiting:
                await fill(other, 1)
                await waiting
        assert 0 <= min(late) < 100, late


async def test_a_paused_queue_hands_out_nothing_and_goes_on_at_once(library, server, name):
    async with library() as lib:
        queue, other = lib.queue(name, server.url), lib.queue(name, server.url)
        async with await queue.consumer(prefetch=1) as consumer:
            assert await consumer.get(0) is None
            waiting = asyncio.ensure_future(consumer.get(20))
            dequeuing = asyncio.ensure_future(queue.dequeue_blocking(20))
            await until(other, consumers=2)
            await other.pause()
            with server.client() as client:  # both have heard of it
                await asyncio.to_thread(eventually, lambda: _waiting_for_signals(client) == 2)
            await fill(other, 2)
            await asyncio.wait([waiting, dequeuing], timeout=0.3)
            assert not waiting.done()
            assert not dequeuing.done()
            assert (await other.stats()).ready == 2
            await other.resume()
            await (await soon(waiting, BEFORE_ANOTHER_LOOK)).ack()
            await soon(dequeuing, BEFORE_ANOTHER_LOOK)


def _waiting_for_signals(client):
    return sum(one["cmd"] == "xread" and "b" in one["flags"] for one in client.client_list())


async def test_one_active_consumer_at_a_time_and_its_successor_at_once(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.configure(single_active=True)
        await fill(queue, 4)
        first, second = await queue.consumer(), await queue.consumer()
        delivery = await first.get(5)
        assert await second.get(0.2) is None
        await delivery.ack()
        waiting = asyncio.ensure_future(second.get(20))
        await until(queue, consumers=2)
        await first.close()
        delivery = await soon(waiting, BEFORE_ANOTHER_LOOK)
        assert delivery.event.payload == "1"
        await delivery.ack()
        await second.close()


async def test_a_queue_deleted_under_a_consumer(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with await queue.consumer(lease=1, on_lost=lambda: loop.call_soon_threadsafe(lost.set)) as consumer:
            await fill(other, 1)
            delivery = await consumer.get(5)
            assert await other.delete()
            waiting = asyncio.ensure_future(consumer.get(20))
            await soon(lost.wait())
            assert delivery.lost
            await fill(other, 1)
            await (await soon(waiting)).ack()
        await until(other, completed=1)


async def test_a_server_that_was_flushed(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue, other = lib.queue(name, server.url), lib.queue(name, server.url)
        async with await queue.consumer(lease=2) as consumer:
            waiting = asyncio.ensure_future(consumer.get(20))
            await until(other, consumers=1)
            with server.client() as client:
                client.flushall()
                client.script_flush()
            await fill(other, 1)
            await (await soon(waiting)).ack()
        await until(other, completed=1)


async def test_a_consumer_that_was_declared_dead_starts_anew_and_says_so_once(library, fast_server, name):
    said = []
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)

        def say():
            said.append(1)
            raise RuntimeError("a callback's own trouble")

        async with await queue.consumer(lease=1, on_lost=say) as consumer:
            await fill(queue, 3)
            first = await consumer.get(5)
            await asyncio.to_thread(lose_leases, fast_server, name)
            await eventually_async(lambda: _is_lost(first))
            found = [await consumer.get(5) for _ in range(3)]
            assert {d.event.payload for d in found} == set("012")
            await queue.ack_many(found)
        assert said == [1]
        assert (await queue.stats()).completed == 3


async def _is_lost(delivery):
    return delivery.lost


async def test_more_deliveries_than_prefetch_are_not_held_because_leases_were_lost(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await fill(queue, 4)
        async with await queue.consumer(prefetch=2, lease=1) as consumer:
            for _ in range(3):  # deliveries that were lost and that nobody settles do not count for ever
                held = [await consumer.get(5), await consumer.get(5)]
                await asyncio.to_thread(lose_leases, fast_server, name)
                await eventually_async(lambda held=held: _is_lost(held[0]))
            assert await consumer.get(5) is not None


async def test_a_takeover_happens_soon_after_the_lease_is_over(library, fast_url, name, make_program):
    program = make_program(HOLDS, fast_url, name)
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 1)
        await asyncio.to_thread(program.wait_for, "holding")
        async with await queue.consumer() as consumer:
            waiting = asyncio.ensure_future(consumer.get(20))
            await until(queue, consumers=2)
            await asyncio.to_thread(program.kill)
            delivery = await soon(waiting, BEFORE_ANOTHER_LOOK)  # its lease was one second
            assert (delivery.failed, delivery.handed_out) == (1, 2)
            await delivery.ack()


HOLDS = """
import sys, time
from elkmq import EventQueue, Options
queue = EventQueue(sys.argv[2], sys.argv[1], options=Options(lease=1))
held = queue.receive(10)
print("holding")
time.sleep(100)
"""


@pytest.mark.parametrize("bad", [{"prefetch": 0}, {"prefetch": 10**9}, {"lease": 0}, {"lease": 4000}, {"lease": "x"}])
async def test_options_of_a_consumer_that_make_no_sense(library, fast_url, name, bad):
    async with library() as lib:
        with pytest.raises(InvalidOption, match="nothing was sent"):
            await lib.queue(name, fast_url, options=Options()).consumer(**bad)


FROZEN = """
import sys
from elkmq import EventQueue
EventQueue(sys.argv[2], sys.argv[1]).consumer(lease=3600).get()
"""


async def test_a_wake_token_in_the_hands_of_one_that_is_frozen_keeps_the_others_no_longer_than_their_own_wait(
    library, make_server, make_program, name
):
    server = make_server()
    program = make_program(FROZEN, server.url, name)

    def blocked(n: int) -> bool:
        with server.client() as client:
            return client.info("clients")["blocked_clients"] == n

    await asyncio.to_thread(eventually, lambda: blocked(1), 30)
    program.signal(signal.SIGSTOP)
    async with library() as lib:
        queue = lib.queue(name, server.url)
        consumer = await queue.consumer(lease=3)  # and so a read of a second at most
        waiting = asyncio.ensure_future(consumer.get(60))
        await asyncio.to_thread(eventually, lambda: blocked(2), 30)
        sent = event()
        await queue.enqueue(sent, priority=5)  # in a lane that nobody reads yet: they have to be told
        with server.client() as client:
            assert client.xpending(f"{name}(wake)", "elkmq")["pending"] == 1  # the frozen one was
        delivery = await soon(waiting, 30)
        assert delivery.event == sent
        await delivery.ack()
    program.signal(signal.SIGCONT)


async def test_what_was_handed_back_at_the_close_is_not_settled_any_more(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue_many([event(str(i)) for i in range(5)])
        consumer = await queue.consumer(prefetch=5)
        held = await consumer.get_many(5, 5)
        await consumer.close()
        verbs = (
            lambda d: d.ack(),
            lambda d: d.ack(wait=False),
            lambda d: d.reject("no"),
            lambda d: d.requeue(),
            lambda d: d.respond("a", "b", wait=False),
        )
        for settle, delivery in zip(verbs, held, strict=True):
            with pytest.raises(QueueClosed, match="was closed, which handed it back; nothing changed"):
                await settle(delivery)
        assert (await queue.stats()).ready == 5
