"""A service: handlers by action, what becomes of what they raise, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time

import pytest

from elkmq import InvalidOption, Options, Reject, RequestFailed, Retry
from tests.library.helpers import event, fill, soon, until
from tests.waiting import eventually


@contextlib.asynccontextmanager
async def serving(service):
    task = asyncio.ensure_future(service.run(signals=False))
    try:
        yield task
    finally:
        service.stop()
        await soon(task)


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_handlers_answer_by_action(library, server_url, name, concurrency):
    async with library() as lib:
        queue, asking = lib.queue(name, server_url), lib.queue(name, server_url)
        service = lib.service(queue, concurrency=concurrency)

        @service.on("greet")
        async def greet(payload):
            return f"Hello, {payload}!"

        @service.on("sum", json=True)
        async def total(numbers):
            return {"sum": sum(numbers)}

        @service.on("nothing")
        async def nothing(payload):
            return None

        async with serving(service):
            assert await asking.call("greet", "you") == "Hello, you!"
            assert json.loads(await asking.call("sum", "[1, 2, 3]")) == {"sum": 6}
            assert await asking.call("nothing") is None
        await until(asking, completed=3, in_flight=0, consumers=0)


async def test_a_handler_can_be_given_the_delivery(library, fast_url, name):
    async with library() as lib:
        queue, asking = lib.queue(name, fast_url), lib.queue(name, fast_url)
        service = lib.service(queue)
        seen = []

        @service.on("a", delivery=True)
        async def handle(delivery):
            seen.append((delivery.headers, delivery.handed_out))
            if delivery.handed_out == 1:
                await delivery.requeue()

        async with serving(service):
            await asking.enqueue(event("a"), headers={"x": 1})
            await until(asking, completed=1)
        assert seen == [({"x": 1}, 1), ({"x": 1}, 2)]


async def test_a_request_whose_handler_raises_is_answered_with_the_error(library, server_url, name):
    async with library() as lib:
        queue, asking = lib.queue(name, server_url), lib.queue(name, server_url)
        service = lib.service(queue)

        @service.on("divide")
        async def divide(payload):
            return str(1 // int(payload))

        @service.on("wrong")
        async def wrong(payload):
            return 5

        async with serving(service):
            with pytest.raises(RequestFailed, match="ZeroDivisionError"):
                await asking.call("divide", "0")
            with pytest.raises(RequestFailed, match="return text or None"):
                await asking.call("wrong")
            with pytest.raises(RequestFailed, match="no handler for the action 'unknown'"):
                await asking.call("unknown")
        await until(asking, completed=3, dead=0)


async def test_any_other_event_is_tried_again_and_in_the_end_a_dead_letter(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url, options=Options(delivery_limit=2)), lib.queue(name, fast_url)
        service = lib.service(queue, retry_delay=0.01)
        tries = []

        @service.on("a")
        async def fail(payload):
            tries.append(payload)
            raise ValueError(f"no {len(tries)} \ud800")

        async with serving(service):
            await fill(other, 1)
            await until(other, dead=1)
        [dead] = await other.dead.list()
        assert (dead.failed, dead.reason, len(tries)) == (3, "delivery_limit", 3)
        assert dead.error == "ValueError: no 3 ?"


async def test_an_event_that_fails_once_is_handled_in_the_end(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        service = lib.service(queue, retry_delay=0.01)
        tries = []

        @service.on("a")
        async def fail(payload):
            tries.append(time.monotonic())
            if len(tries) < 3:
                raise ValueError("not yet")

        async with serving(service):
            await fill(other, 1)
            await until(other, completed=1)
        assert len(tries) == 3


async def test_what_a_handler_says_itself(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        service = lib.service(queue, retry_delay=60)
        tries = []

        @service.on("reject")
        async def reject(payload):
            raise Reject("not this one")

        @service.on("retry")
        async def retry(payload):
            tries.append(payload)
            if len(tries) == 1:
                raise Retry(0.05, failed=False)

        @service.on("bad", json=True)
        async def bad(payload):
            raise AssertionError("never called")

        async with serving(service):
            await other.enqueue(event("reject"))
            await other.enqueue(event("retry"))
            await other.enqueue(event("bad", "{no json"))
            await other.enqueue(event("nobody"))
            await until(other, dead=3, completed=1)
        found = {dead.event.action: dead for dead in await other.dead.list()}
        assert (found["reject"].error, found["reject"].reason) == ("not this one", "rejected")
        assert "is not JSON" in found["bad"].error
        assert "no handler" in found["nobody"].error


async def test_as_many_at_once_as_it_was_told(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        service = lib.service(queue, concurrency=3, prefetch=6)
        running, most, gate = 0, 0, asyncio.Event()

        @service.on("a")
        async def handle(payload):
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 3:
                gate.set()
            await gate.wait()
            running -= 1

        async with serving(service):
            await fill(other, 20)
            await until(other, completed=20)
        assert most == 3


async def test_stopping_lets_handlers_finish_and_hands_back_the_rest(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        service = lib.service(queue, concurrency=2, prefetch=10)
        started, go = asyncio.Event(), asyncio.Event()

        @service.on("a")
        async def handle(payload):
            started.set()
            await go.wait()

        await fill(other, 8)
        task = asyncio.ensure_future(service.run(signals=False))
        await soon(started.wait())
        await until(other, in_flight=8)
        service.stop()
        await asyncio.wait([task], timeout=0.2)
        assert not task.done()
        go.set()
        await soon(task)
        stats = await other.stats()
        assert stats.in_flight == 0
        assert stats.completed in (1, 2)
        assert stats.ready == 8 - stats.completed
        assert (await other.receive()).failed == 0
        # It can be started again.
        await (await other.receive()).requeue()
        async with serving(service):
            await until(other, ready=0)


async def test_a_handler_that_outlasts_the_grace_loses_its_event(library, fast_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        service = lib.service(queue, concurrency=2, grace=0.2)
        started, go = asyncio.Event(), asyncio.Event()

        @service.on("a")
        async def handle(payload):
            started.set()
            await go.wait()

        await fill(other, 1)
        task = asyncio.ensure_future(service.run(signals=False))
        await soon(started.wait())
        begun = time.monotonic()
        service.stop()
        await soon(task)
        assert time.monotonic() - begun >= 0.2
        delivery = await other.receive(5)
        assert delivery.failed == 0
        go.set()
        await delivery.ack()


async def test_it_goes_on_after_an_outage(library, make_server, name, caplog):
    server = make_server(appendonly=True, appendfsync="always")
    async with library() as lib:
        queue, other = lib.queue(name, server.url, retry_for=0.1), lib.queue(name, server.url)
        service = lib.service(queue)

        @service.on("a")
        async def handle(payload):
            return payload

        async with serving(service):
            assert await other.call("a", "1") == "1"
            await asyncio.to_thread(server.stop)
            # Longer than retry_for: the service has to go on by itself.
            await asyncio.to_thread(eventually, lambda: "the service goes on trying" in caplog.text)
            await asyncio.to_thread(server.start)
            assert await other.call("a", "2", timeout=20) == "2"


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_response_leaves_at_once_though_the_server_lost_the_script(library, make_server, name, concurrency):
    server = make_server()
    async with library() as lib:
        queue, other = lib.queue(name, server.url), lib.queue(name, server.url)
        service = lib.service(queue, concurrency=concurrency)

        @service.on("a")
        async def handle(payload):
            return payload

        async with serving(service):
            for i in range(5):
                assert await other.call("a", str(i)) == str(i)
                with server.client() as client:
                    client.script_flush()


async def test_it_goes_on_after_another_program_had_its_keys(library, server, name, caplog):
    async with library() as lib:
        queue, other = lib.queue(name, server.url), lib.queue(name, server.url)
        service = lib.service(queue)

        @service.on("a")
        async def handle(payload):
            return payload

        with server.client() as client:
            async with serving(service):
                assert await other.call("a", "1") == "1"
                keys = client.keys(f"{name}*")
                for key in keys:
                    client.pipeline().delete(key).set(key, "theirs").execute()
                await asyncio.to_thread(eventually, lambda: "the service goes on trying" in caplog.text)
                client.delete(*keys)
                assert await other.call("a", "2", timeout=20) == "2"


async def test_an_action_has_one_handler(library, fast_url, name):
    async with library() as lib:
        service = lib.service(lib.queue(name, fast_url))

        @service.on("a")
        async def one(payload): ...

        with pytest.raises(InvalidOption, match="has a handler already"):
            service.on("a")(one)


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"prefetch": -1}, {"retry_delay": -1}, {"grace": "x"}])
async def test_options_that_make_no_sense(library, fast_url, name, bad):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        with pytest.raises(InvalidOption):
            lib.service(queue, **bad)


# -- in processes of their own

SYNC = """
import sys
from elkmq import EventQueue, Service
queue, go = EventQueue(sys.argv[2], sys.argv[1]), EventQueue(sys.argv[2] + ".go", sys.argv[1])
service = Service(queue, concurrency=int(sys.argv[3]), prefetch=10, grace=float(sys.argv[4]))

@service.on("a")
def handle(payload):
    print(f"started {payload}\\n", end="")
    go.dequeue_blocking()
    print(f"finished {payload}\\n", end="")

def stop(stop=service.stop):
    print("stopping")
    stop()

service.stop = stop

print("serving")
service.run()
queue.close()
go.close()
print("ended")
"""

AIO = """
import asyncio, sys
from elkmq.aio import EventQueue, Service

async def main():
    async with EventQueue(sys.argv[2], sys.argv[1]) as queue, EventQueue(sys.argv[2] + ".go", sys.argv[1]) as go:
        service = Service(queue, concurrency=int(sys.argv[3]), prefetch=10, grace=float(sys.argv[4]))

        @service.on("a")
        async def handle(payload):
            print(f"started {payload}\\n", end="")
            await go.dequeue_blocking()
            print(f"finished {payload}\\n", end="")

        def stop(stop=service.stop):
            print("stopping")
            stop()

        service.stop = stop

        print("serving")
        await service.run()
    print("ended")

asyncio.run(main())
"""


def count(program, word):
    return sum(line.startswith(word) for line in program.lines)


@pytest.mark.parametrize("source", [SYNC, AIO], ids=["sync", "asyncio"])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_gracefully(fast_url, name, make_program, library, source, concurrency, number):
    if library.name == "asyncio":
        pytest.skip("the program is what is tested")
    program = make_program(source, fast_url, name, str(concurrency), "20")
    async with library() as lib:
        queue, go = lib.queue(name, fast_url), lib.queue(f"{name}.go", fast_url)
        await fill(queue, 5)
        await until(queue, 60, ready=0)
        await asyncio.to_thread(eventually, lambda: count(program, "started") == concurrency, 60)
        program.signal(number)
        await asyncio.to_thread(program.wait_for, "stopping", 60)
        await fill(go, concurrency)  # only now may they finish
        await asyncio.to_thread(program.wait_for, "ended", 60)
        await asyncio.to_thread(program.wait)
        stats = await queue.stats()
        assert count(program, "started") == count(program, "finished") == concurrency
        assert (stats.completed, stats.in_flight, stats.ready, len(stats.consumers)) == (
            concurrency,
            0,
            5 - concurrency,
            0,
        )
        assert "Traceback" not in program.errors


@pytest.mark.parametrize("source", [SYNC, AIO], ids=["sync", "asyncio"])
def test_a_handler_that_never_ends_does_not_keep_the_process_after_the_grace(fast_url, name, make_program, source):
    from elkmq import EventQueue

    program = make_program(source, fast_url, name, "2", "0.2")
    with EventQueue(name, fast_url) as queue:
        queue.enqueue(event("a", "1000"))
        program.wait_for("started")
        program.signal(signal.SIGTERM)
        program.wait()
        assert queue.receive(5).failed == 0


@pytest.mark.parametrize("source", [SYNC, AIO], ids=["sync", "asyncio"])
def test_killed_in_the_middle_its_event_comes_back_as_failed(fast_url, name, make_program, source):
    from elkmq import EventQueue

    program = make_program(
        source.replace(
            "EventQueue(sys.argv[2], sys.argv[1]",
            "EventQueue(sys.argv[2], sys.argv[1], options=__import__('elkmq').Options(lease=1)",
        ),
        fast_url,
        name,
        "1",
        "9",
    )
    with EventQueue(name, fast_url) as queue:
        queue.enqueue(event("a", "1000"))
        program.wait_for("started")
        program.kill()
        with queue.receive(10) as delivery:
            assert (delivery.failed, delivery.handed_out) == (1, 2)
