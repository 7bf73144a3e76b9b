"""`dequeue` and `dequeue_blocking` whose callers are torn away, or whose connection breaks, over a queue that is not empty."""

from __future__ import annotations

import asyncio
import random
import signal
import threading

import pytest

from elkmq import EmptyQueue, EventQueue, aio
from elkmq.errors import ServerConnectionError
from tests.library.helpers import event, fill, soon, until
from tests.waiting import eventually

SLOW = 700
"""Milliseconds of a network on which a reply can be met on its way."""

CALLS = {"dequeue": lambda queue: queue.dequeue(), "blocking": lambda queue: queue.dequeue_blocking(30)}


async def rest(queue) -> list[str]:
    """What is left, also what is just on its way back."""
    found: list[str] = []
    while True:
        try:
            found.append((await queue.dequeue()).event.payload)
        except EmptyQueue:
            stats = await queue.stats()
            if stats.ready == stats.in_flight == 0:
                return found


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_cancelled_at_any_moment_it_loses_nothing(fast_url, name, call):
    random.seed(5)
    found, torn = [], 0
    async with aio.EventQueue(name, fast_url) as queue, aio.EventQueue(name, fast_url) as other:
        await fill(other, 200)
        for _ in range(200):
            task = asyncio.ensure_future(call(queue))
            # Steps of the loop, not time: the cancellation meets every state of the call.
            for _ in range(random.randrange(12)):
                await asyncio.wait([task], timeout=0)
            task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                torn += 1
            else:
                found.append(task.result().event.payload)
        found += await rest(other)
    assert sorted(found, key=int) == [str(i) for i in range(200)]
    assert torn > 50


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_reply_to_a_cancelled_call_goes_back_at_once(fast_url, name, make_proxy, call):
    proxy = make_proxy(fast_url)
    async with aio.EventQueue(name, proxy.url) as queue, aio.EventQueue(name, fast_url) as other:
        await fill(queue, 1)
        proxy.latency(SLOW)
        task = asyncio.ensure_future(call(queue))
        await until(other, completed=1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        proxy.latency(0)
        assert (await soon(other.dequeue_blocking(10))).event.payload == "0"


async def test_a_cancelled_call_whose_client_is_closed_at_once_loses_nothing(fast_url, name):
    async with aio.EventQueue(name, fast_url) as other:
        await fill(other, 20)
        for _ in range(20):
            queue = aio.EventQueue(name, fast_url)
            await queue.stats()
            task = asyncio.ensure_future(queue.dequeue())
            for _ in range(4):
                await asyncio.wait([task], timeout=0)
            task.cancel()
            await asyncio.wait([task])
            await queue.close()
            if not task.cancelled():
                await other.enqueue(task.result().event)
        assert len(await rest(other)) == 20


def test_an_event_loop_that_ends_takes_nothing_along(fast_url, name, make_proxy):
    proxy = make_proxy(fast_url)
    with EventQueue(name, fast_url) as other:
        other.enqueue(event())

        async def leave():
            queue = aio.EventQueue(name, proxy.url)
            await queue.stats()
            proxy.latency(SLOW)
            task = asyncio.ensure_future(queue.dequeue())
            while other.stats().ready:
                await asyncio.wait([task], timeout=0.01)
            assert (
                not task.done()
            )  # the server handed it out, the answer is on its way: the loop's end cancels the task
            proxy.latency(0)

        asyncio.run(leave())
        assert other.dequeue_blocking(10).event.action == "a"


class Torn(Exception):
    """Out of a signal handler, as Celery's soft time limit."""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, Torn])
def test_an_exception_out_of_a_signal_handler_sends_the_event_back(fast_url, name, make_proxy, call, error):
    def tear(number, frame):
        raise error

    before = signal.signal(signal.SIGUSR1, tear)
    proxy = make_proxy(fast_url)
    try:
        with EventQueue(name, proxy.url) as queue, EventQueue(name, fast_url) as other:
            queue.enqueue(event(payload="x"))
            proxy.latency(SLOW)

            def interrupt():
                eventually(lambda: other.stats().completed == 1)  # and the reply is on its way
                proxy.latency(0)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(error):
                call(queue)
            thread.join()
            assert other.dequeue().event.payload == "x"
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_reply_that_is_lost_is_given_again(library, fast_url, name, make_proxy, call):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue = lib.queue(name, proxy.url)
        await fill(queue, 2)
        assert (await soon(call(queue))).event.payload == "0"
        proxy.swallow("reply", name.encode())
        assert (await soon(call(queue))).event.payload == "1"
        await asyncio.to_thread(proxy.wait_until_swallowed)
        stats = await queue.stats()
        assert (stats.completed, stats.ready, stats.in_flight) == (2, 0, 0)


async def test_a_connection_that_broke_unnoticed_is_no_reason_to_fail(library, fast_url, name, fast_server):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for _ in range(5):
            await fill(queue, 1)
            kill_connections(fast_server)
            assert (await queue.dequeue()).event.payload == "0"


def kill_connections(server):
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_an_event_handed_out_before_an_outage_is_the_next_dequeue_s(library, fast_url, name, make_proxy):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue = lib.queue(name, proxy.url, retry_for=0.3)
        other = lib.queue(name, fast_url)
        await fill(queue, 2)
        proxy.latency(SLOW)
        task = asyncio.ensure_future(queue.dequeue())
        await until(other, completed=1)
        proxy.cut(refuse=True)
        proxy.latency(0)
        with pytest.raises(ServerConnectionError, match="next dequeue gets it"):
            await soon(task, 20)
        proxy.heal()
        assert [(await queue.dequeue()).event.payload for _ in range(2)] == ["0", "1"]
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
