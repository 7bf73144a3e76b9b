"""Requests and their responses: how they find each other, and what is left behind when they do not."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from elkmq import EmptyQueue, EnqueueError, EventQueue, RequestFailed, Service, ServiceEvent, TimeoutExpired, aio
from tests.library.helpers import event, soon, until


async def answer(queue, count):
    """Take requests and answer each with its own payload."""
    async with await queue.consumer(prefetch=100) as consumer:
        for _ in range(count):
            delivery = await consumer.get(20)
            await delivery.respond("echo", delivery.event.payload)


async def test_many_requests_at_once_each_get_their_own_response(library, server_url, name):
    async with library() as lib:
        asking, serving = lib.queue(name, server_url), lib.queue(name, server_url)
        serving = asyncio.ensure_future(answer(serving, 100))
        calls = [asking.call("echo", str(i), timeout=20) for i in range(100)]
        assert await asyncio.gather(*calls) == [str(i) for i in range(100)]
        await serving


async def test_waiting_costs_the_server_no_commands(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        await queue.configure()
        with server.client() as client:
            waiting = asyncio.ensure_future(queue.await_response(event(timeout=3), timeout=3))
            await until(queue, ready=1)
            client.config_resetstat()
            await asyncio.wait([waiting], timeout=1.5)
            stats = client.info("commandstats")
        assert not waiting.done()
        calls = {command: seen["calls"] for command, seen in stats.items() if command != "cmdstat_info"}
        # XREAD counts when it begins to wait; in these one and a half seconds it went on waiting.
        assert sum(calls.values()) <= 2, calls
        waiting.cancel()
        await asyncio.wait([waiting])


def test_a_request_that_nobody_answers_blocks_once(make_server, name):
    server = make_server()
    with EventQueue(name, server.url) as queue, server.client() as client:
        for _ in range(2):  # the first makes the connection and loads the scripts
            client.config_resetstat()
            with pytest.raises(TimeoutExpired):
                queue.call("nobody", timeout=0.3)
        assert client.info("commandstats")["cmdstat_xread"]["calls"] == 1


async def test_late_responses_leave_nothing_behind(library, make_server, name):
    server = make_server()
    async with library() as lib:
        asking, serving = lib.queue(name, server.url), lib.queue(name, server.url)
        waiting = [asyncio.ensure_future(asking.await_response(event(), timeout=0.4)) for _ in range(3)]
        deliveries = []
        while len(deliveries) < 3:
            deliveries += await serving.receive_many(3, 5)
        with server.client() as client:
            for task in waiting:
                with pytest.raises(TimeoutExpired):
                    await task
            assert not await deliveries[0].respond("late")
            await deliveries[1].ack()
            done = await deliveries[2].complete(response=ServiceEvent.create_response(deliveries[2].event, "late"))
            assert done.response == "late"
            assert [key for key in client.keys("*") if b"(replies:" in key] == []
            await asking.close()
            await serving.close()
            left = {key: client.pttl(key) for key in client.keys("*")}
        lasting = sorted(key.decode().removeprefix(name) for key, ttl in left.items() if ttl < 0)
        assert set(lasting) <= {"(event_stream)", "(event_stream:redelivered)", "(wake)", "(counters)", "(rates)"}, left


async def test_the_inbox_is_empty_after_its_time(library, make_server, name):
    server = make_server()
    async with library() as lib:
        asking, serving = lib.queue(name, server.url), lib.queue(name, server.url)
        task = asyncio.ensure_future(answer(serving, 5))
        for i in range(5):
            assert await asking.call("echo", str(i), timeout=1) == str(i)
        await task
        with server.client() as client:
            [inbox] = [key for key in client.keys("*") if b"(replies:" in key]
            assert 0 < client.pttl(inbox) <= 2100  # a second after the last deadline it goes by itself


async def test_lost_scripts_hold_no_request_up(library, make_server, name):
    server = make_server()
    async with library() as lib:
        asking, serving = lib.queue(name, server.url), lib.queue(name, server.url)
        with server.client() as client:
            for i in range(3):
                client.script_flush()
                # The read that awaits the response waits up to ten seconds, and is under way when the server says that it
                # lacks the request's script.
                waiting = asyncio.ensure_future(asking.await_response(event(str(i), timeout=60)))
                delivery = await serving.receive(8)
                await delivery.respond("here", str(i))
                assert (await waiting).event.payload == str(i)


async def test_a_request_is_answered_once(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        waiting = asyncio.ensure_future(queue.await_response(event()))
        _, request = await queue.dequeue_blocking(5)
        first = ServiceEvent.create_response(request, "first")
        stamp = await queue.enqueue_response(first)
        assert await queue.enqueue_response(ServiceEvent.create_response(request, "second")) == stamp
        assert (await waiting).event.action == "first"


async def test_a_response_that_nobody_waits_for_is_not_written(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        waiting = asyncio.ensure_future(queue.await_response(event(), timeout=0.2))
        _, request = await queue.dequeue_blocking(5)
        with pytest.raises(TimeoutExpired):
            await waiting
        await queue.enqueue_response(ServiceEvent.create_response(request, "late"))
        with server.client() as client:
            assert [key for key in client.keys("*") if b"replies" in key or b"response_stream" in key] == []
        with pytest.raises(EmptyQueue):
            await queue.dequeue()


async def test_the_same_request_twice_is_refused_and_the_first_goes_on(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        sent = event("ask")
        waiting = asyncio.ensure_future(queue.await_response(sent))
        delivery = await other.receive(5)
        with pytest.raises(EnqueueError, match="is awaited already; nothing was sent"):
            await queue.await_response(sent)
        with pytest.raises(EnqueueError, match="was enqueued before"):
            await other.await_response(sent)
        await delivery.respond("yes")
        assert (await waiting).event.action == "yes"
        enqueued = event()
        await queue.enqueue(enqueued)
        with pytest.raises(EnqueueError, match="was enqueued before"):
            await queue.await_response(enqueued)


async def test_an_event_that_came_out_of_a_queue_can_be_asked_again(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name + "-2", fast_url)
        await queue.enqueue(event("forwarded"))
        _, taken = await queue.dequeue()
        waiting = asyncio.ensure_future(other.await_response(taken))
        _, request = await other.dequeue_blocking(5)
        await other.enqueue_response(ServiceEvent.create_response(request, "yes"))
        assert (await soon(waiting)).event.action == "yes"


async def test_timeouts_of_many_at_once_are_each_kept(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure()

        async def ask(timeout):
            begun = time.monotonic()
            with pytest.raises(TimeoutExpired):
                await queue.await_response(event(timeout=60), timeout=timeout)
            return time.monotonic() - begun - timeout

        late = await asyncio.gather(*[ask(timeout) for timeout in (2.0, 0.3, 0.6, 1.0, 0.3)])
        assert min(late) >= 0
        assert max(late) < 0.6, late


async def test_a_request_that_is_refused_does_not_hold_up_the_next(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        taken = event(timeout=30)
        await other.enqueue(taken)
        await other.dequeue()
        with pytest.raises(EnqueueError):
            await queue.await_response(taken)
        with pytest.raises(TimeoutExpired):
            await soon(queue.await_response(event(), timeout=0.3))
        task = asyncio.ensure_future(answer(other, 1))
        assert await queue.call("echo", "x", timeout=5) == "x"
        await task


@pytest.mark.parametrize("bad", [0, -1, float("nan"), 65_536, 10**400, "1", True])
async def test_timeouts_that_are_none(library, fast_url, name, bad):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for call in (lambda: queue.await_response(event(), timeout=bad), lambda: queue.call("a", timeout=bad)):
            with pytest.raises(ValueError, match="nothing was sent"):
                await call()
        assert (await queue.stats()).enqueued == 0


async def test_responses_go_on_after_the_connection_was_cut(library, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        asking, serving = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        for _ in range(3):
            waiting = [asyncio.ensure_future(asking.await_response(event(), timeout=20)) for _ in range(10)]
            deliveries = []
            while len(deliveries) < 10:
                deliveries += await serving.receive_many(10, 10)
            await asyncio.to_thread(proxy.cut)
            await asyncio.gather(*[delivery.respond("yes") for delivery in deliveries])
            assert {response.event.action for response in await soon(asyncio.gather(*waiting), 20)} == {"yes"}


async def test_call_raises_what_the_handler_raised(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        waiting = asyncio.ensure_future(queue.call("divide", "1/0"))
        delivery = await queue.receive(5)
        await delivery.respond("elkmq.error", '{"type": "ZeroDivisionError", "message": "division by zero"}')
        with pytest.raises(RequestFailed, match="the handler of 'divide' failed: ZeroDivisionError: division by zero"):
            await waiting


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_thousands_of_requests_awaited_at_once_over_few_connections(make_server, name, count):
    server = make_server()
    async with aio.EventQueue(name, server.url) as queue:
        await queue.configure()
        waiting = [asyncio.ensure_future(queue.call("echo", str(i), timeout=100)) for i in range(count)]
        await until(queue, 60, ready=count)
        with server.client() as client:
            assert len(client.client_list()) <= 1 + 2  # this one; one for calls, one for responses
        async with aio.EventQueue(name, server.url) as serving:
            task = asyncio.ensure_future(answer(serving, count))
            assert await soon(asyncio.gather(*waiting), 100) == [str(i) for i in range(count)]
            await task


def test_threads_that_wait_share_one_connection(make_server, name):
    server = make_server()

    async def case():
        loop = asyncio.get_running_loop()
        with EventQueue(name, server.url) as queue, server.client() as client, ThreadPoolExecutor(8) as threads:
            queue.stats()
            waiting = [loop.run_in_executor(threads, queue.call, "echo", str(i)) for i in range(8)]
            async with aio.EventQueue(name, server.url) as serving:
                await until(serving, ready=8)
                connections = len(client.client_list())
                await answer(serving, 8)
            assert await asyncio.gather(*waiting) == [str(i) for i in range(8)]
            assert (
                connections <= 1 + 1 + 8 + 1 + 1
            )  # ours, the other's, at most one a thread for calls, one for responses

    asyncio.run(case())


def test_responses_that_were_read_do_not_pile_up_and_go_with_their_reader(make_server, name):
    server = make_server()
    with EventQueue(name, server.url) as served, server.client() as client:
        service = Service(served)
        service.on("echo")(lambda payload: payload)
        thread = threading.Thread(target=service.run)
        thread.start()
        with EventQueue(name, server.url) as queue:
            for _ in range(250):
                queue.call("echo", "x", timeout=3600)
            (inbox,) = client.keys("*(replies:*")
            assert client.xlen(inbox) <= 101
            for _ in range(3):
                queue.call("echo", "x" * 600_000, timeout=3600)
            assert client.memory_usage(inbox) < 1_500_000
        assert not client.exists(inbox)
        service.stop()
        thread.join()
