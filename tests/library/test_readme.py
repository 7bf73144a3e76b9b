"""The system of elk-mq's README, over both flavours and every server."""

from __future__ import annotations

import asyncio
import time

import pytest

import elkmq
from elkmq import EmptyQueue, EventQueueError, ServiceEvent, TimeoutExpired, TimestampedEvent
from tests.library.helpers import BEFORE_ANOTHER_LOOK, soon
from tests.waiting import eventually_async


async def test_the_readmes_first_example(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        event = ServiceEvent(10, "test_event", "serialized_data")
        timestamp = await queue.enqueue(event)
        taken = await queue.dequeue()
        assert taken == (timestamp, event)
        assert isinstance(taken, TimestampedEvent)
        assert abs(timestamp - time.time() * 1000) < 60_000
        with pytest.raises(EmptyQueue, match="has nothing to hand out"):
            await queue.dequeue()


async def test_events_come_out_in_the_order_in_which_they_went_in(library, server_url, name):
    events = [ServiceEvent(10, "n", str(i)) for i in range(25)]
    async with library() as lib:
        queue = lib.queue(name, server_url)
        stamps = [await queue.enqueue(event) for event in events]
        assert stamps == sorted(stamps)
        assert [(await queue.dequeue()).event for _ in events] == events


async def test_a_request_and_its_response(library, server_url, name):
    async with library() as lib:
        asking, serving = lib.queue(name, server_url), lib.queue(name, server_url)
        event = ServiceEvent(20, "test_awaited_event", "serialized_data")
        waiting = asyncio.ensure_future(asking.await_response(event))
        _, request = await serving.dequeue_blocking(10)
        assert request == event
        stamp = await serving.enqueue_response(ServiceEvent.create_response(request, "answer", "42"))
        response = await waiting
        assert response.event == ServiceEvent(20, "answer", "42", uuid=event.uuid)
        assert response.timestamp == stamp


async def test_a_request_that_nobody_answers_expires_in_time(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.configure()
        begun = time.monotonic()
        with pytest.raises(TimeoutExpired, match="no response to 'a' came within 1 s"):
            await soon(queue.await_response(ServiceEvent(1, "a")))
        assert time.monotonic() - begun >= 1.0
        with pytest.raises(EmptyQueue):
            await queue.dequeue()  # it is not handed out any more


async def test_a_timeout_of_the_call_goes_before_the_events_own(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure()
        begun = time.monotonic()
        with pytest.raises(TimeoutExpired):
            await soon(queue.await_response(ServiceEvent(60, "a"), timeout=0.2))
        assert time.monotonic() - begun >= 0.2


async def test_waiting_for_an_event_that_comes(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        waiting = asyncio.ensure_future(queue.dequeue_blocking(10))
        await eventually_async(lambda: _consumers(other, 1))
        event = ServiceEvent(10, "late")
        await other.enqueue(event)
        assert (await asyncio.wait_for(waiting, 5)).event == event
        assert (await other.stats()).in_flight == 0
        assert await _consumers(other, 0)


async def _consumers(queue, count):
    return len((await queue.stats()).consumers) == count


@pytest.mark.parametrize("timeout", [0.05, 0.3, 1])
async def test_waiting_for_an_event_ends_in_time(library, fast_url, name, timeout):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure()
        begun = time.monotonic()
        with pytest.raises(EmptyQueue):
            await soon(queue.dequeue_blocking(timeout), BEFORE_ANOTHER_LOOK)
        assert time.monotonic() - begun >= timeout


async def test_any_number_of_clients_share_a_queue(library, server_url, name):
    events = [ServiceEvent(10, "n", str(i)) for i in range(60)]
    async with library() as lib:
        queues = [lib.queue(name, server_url) for _ in range(6)]
        await asyncio.gather(*[q.enqueue(e) for i, e in enumerate(events) for q in [queues[i % 6]]])

        async def drain(queue):
            found = []
            while True:
                try:
                    found.append((await queue.dequeue()).event)
                except EmptyQueue:
                    return found

        taken = [one for found in await asyncio.gather(*map(drain, queues)) for one in found]
    assert sorted(taken, key=lambda e: e.uuid) == sorted(events, key=lambda e: e.uuid)


async def test_every_error_is_a_runtime_error_as_in_the_original(library, fast_url, name):
    async with library() as lib:
        with pytest.raises(RuntimeError) as caught:
            await lib.queue(name, fast_url).dequeue()
    assert isinstance(caught.value, EventQueueError)
    for error in ("EmptyQueue", "TimeoutExpired", "EnqueueError", "DequeueError", "JSONDumpError", "JSONParseError"):
        assert issubclass(getattr(elkmq, error), EventQueueError)


async def test_a_closed_queue_says_so(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue(ServiceEvent(10, "a"))
        await queue.close()
        await queue.close()
        for call in (
            lambda: queue.enqueue(ServiceEvent(10, "b")),
            queue.dequeue,
            lambda: queue.dequeue_blocking(1),
            queue.receive,
            queue.stats,
            lambda: queue.await_response(ServiceEvent(1, "c")),
            queue.consumer,
        ):
            with pytest.raises(elkmq.QueueClosed, match="closed"):
                await call()


async def test_closing_tells_those_who_wait(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        consumer = await queue.consumer()
        calls = (queue.dequeue_blocking(60), queue.receive(60), consumer.get())
        waiting = [asyncio.ensure_future(call) for call in calls]
        await eventually_async(lambda: _consumers(other, 3))
        await _close_and_see(queue, waiting)


async def test_closing_tells_those_who_await_a_response(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        waiting = [asyncio.ensure_future(queue.await_response(ServiceEvent(60, "never"))) for _ in range(3)]
        await eventually_async(lambda: _ready(other, 3))
        await _close_and_see(queue, waiting)


async def _close_and_see(queue, waiting):
    await queue.close()
    done, pending = await asyncio.wait(waiting, timeout=5)
    assert not pending
    for task in done:
        assert isinstance(task.exception(), elkmq.QueueClosed), task


async def _ready(queue, count):
    return (await queue.stats()).ready == count


async def test_a_queue_knows_its_name_and_shows_no_password(library, make_server, name):
    server = make_server(password="s3cret/word")
    async with library() as lib:
        queue = lib.queue(name, server.url)
        assert queue.name == name
        assert name in repr(queue)
        await queue.enqueue(ServiceEvent(10, "a"))
        assert "s3cret" not in repr(queue)
