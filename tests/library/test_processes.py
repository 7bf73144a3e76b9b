"""Forks, stops, kills and threads: real processes, since nothing else shows what happens in them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from elkmq import EmptyQueue, EventQueue, Options
from tests.library.helpers import event

FORK = """
import os, sys, threading
from elkmq import EmptyQueue, EventQueue, Options, QueueClosed, ServiceEvent

url, name = sys.argv[1:]
queue = EventQueue(name, url, options=Options(lease=2))
queue.enqueue(ServiceEvent(10, "held"))
queue.enqueue(ServiceEvent(10, "taken by a consumer"))
held = queue.receive()
consumer = queue.consumer()
taken = consumer.get(5)

def wait():
    try:
        queue.dequeue_blocking()
    except QueueClosed:
        pass

threads = [threading.Thread(target=wait) for _ in range(3)]  # at work while it forks
for thread in threads:
    thread.start()
queue2 = EventQueue(name + "-2", url)
asking = threading.Thread(target=lambda: print("answer", queue2.call("ask", timeout=30)))
asking.start()

child = os.fork()
if child == 0:
    try:
        # What is the parent's is left to it.
        for call in (held.ack, taken.requeue, consumer.get):
            try:
                call()
            except QueueClosed as error:
                assert "parent" in str(error)
            else:
                raise AssertionError("the child settled what is the parent's")
        consumer.close()
        with held:
            pass
        # And it goes on with its own.
        own = EventQueue(name + "-3", url)
        for one in (queue, own):
            one.enqueue(ServiceEvent(10, "child", "x"), dedupe_id="")
        own.dequeue()
        queue2.enqueue(ServiceEvent(10, "child"))
        with queue2.receive(5) as first, queue2.receive(5) as second:
            for delivery in (first, second):
                if delivery.awaited:
                    delivery.respond("ask", "from the child")
        queue.close()
        queue2.close()
        own.close()
        print("child done")
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
_, status = os.waitpid(child, 0)
assert status == 0, status
asking.join(20)
held.ack()
taken.ack()
stats = queue.stats()
print("parent done", stats.completed, stats.in_flight)
queue.close()
queue2.close()
"""


def test_a_fork_while_everything_is_in_use(fast_url, name, make_program):
    program = make_program(FORK, fast_url, name)
    program.wait(60)
    assert "child done" in program.lines
    assert "answer from the child" in program.lines
    # held, taken, and the child's one, which one of the threads dequeued
    assert "parent done 3 0" in program.lines
    # From 3.12 on Python warns of what is tested here.
    assert [line for line in program.errors.splitlines() if "Warning" not in line and "os.fork()" not in line] == []


FORK_IN_HANDLER = """
import os, sys
from elkmq import EventQueue
queue = EventQueue(sys.argv[2], sys.argv[1])
with queue.receive(10) as delivery:
    child = os.fork()
    if child == 0:
        sys.exit(3)  # runs through the block's end in the child
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    print("in flight", queue.stats().in_flight)
print("completed", queue.stats().completed)
queue.close()
"""


def test_a_child_that_leaves_the_block_settles_nothing(fast_url, name, make_program):
    with EventQueue(name, fast_url) as queue:
        queue.enqueue(event())
        program = make_program(FORK_IN_HANDLER, fast_url, name)
        program.wait(30)
        assert program.lines == ["in flight 1", "completed 1"]


FORK_AIO = """
import asyncio, os, sys
from elkmq import ServiceEvent
from elkmq.aio import EventQueue

url, name = sys.argv[1:]
queue = EventQueue(name, url)

async def use(payload):
    await queue.enqueue(ServiceEvent(10, "a", payload))
    async with await queue.receive() as delivery:
        return delivery.event.payload

async def main():
    assert await use("1") == "1"
    held = await queue.consumer()
    child = os.fork()
    if child == 0:
        return None
    assert os.waitpid(child, 0)[1] == 0
    assert await use("3") == "3"
    await held.close()
    await queue.close()
    return child

async def in_child():
    assert await use("2") == "2"
    await queue.close()

if asyncio.run(main()) is None:
    asyncio.run(in_child())
    print("child done")
else:
    print("parent done")
"""


def test_a_fork_in_asyncio(fast_url, name, make_program):
    program = make_program(FORK_AIO, fast_url, name)
    program.wait(30)
    assert sorted(program.lines) == ["child done", "parent done"]


STOPPED = """
import sys, threading
from elkmq import EventQueue, LeaseLost

queue = EventQueue(sys.argv[2], sys.argv[1])
lost = threading.Event()
consumer = queue.consumer(prefetch=5, lease=1, on_lost=lost.set)
first = consumer.get(10)
print("started", first.event.payload)
sys.stdin.readline()
try:
    first.ack()
    print("acked")
except LeaseLost:
    print("lease lost")
seen = []
while (delivery := consumer.get(1)) is not None:
    seen.append(delivery.event.payload)
    delivery.ack()
print("started after it", sorted(seen), lost.is_set())
consumer.close()
queue.close()
"""

STOPPED_AIO = """
import asyncio, sys
from elkmq import LeaseLost
from elkmq.aio import EventQueue

async def main():
    async with EventQueue(sys.argv[2], sys.argv[1]) as queue:
        lost = []
        consumer = await queue.consumer(prefetch=5, lease=1, on_lost=lambda: lost.append(1))
        first = await consumer.get(10)
        print("started", first.event.payload)
        sys.stdin.readline()  # blocks the loop, as a handler may
        try:
            await first.ack()
            print("acked")
        except LeaseLost:
            print("lease lost")
        seen = []
        while (delivery := await consumer.get(1)) is not None:
            seen.append(delivery.event.payload)
            await delivery.ack()
        print("started after it", sorted(seen), bool(lost))

asyncio.run(main())
"""


@pytest.mark.parametrize("source", [STOPPED, STOPPED_AIO], ids=["sync", "asyncio"])
def test_a_process_that_was_stopped_for_longer_than_its_lease_starts_nothing_it_had_buffered(
    fast_url, name, make_program, source
):
    with EventQueue(name, fast_url) as queue:
        queue.enqueue_many([event(payload=str(i)) for i in range(5)])
        program = make_program(source, fast_url, name)
        program.wait_for("started 0")
        program.pause()
        with queue.consumer(lease=3) as consumer:
            mine = [consumer.get(15) for _ in range(5)]
            assert sorted(d.event.payload for d in mine) == list("01234")
            program.resume()
            program.send("go on")
            program.wait_for("lease lost")
            assert program.wait_for("started after it") == "started after it [] True"
            program.wait()
            queue.ack_many(mine)
        assert queue.stats().completed == 5


@pytest.mark.parametrize("source", [STOPPED, STOPPED_AIO], ids=["sync", "asyncio"])
def test_a_process_that_was_stopped_for_less_goes_on(fast_url, name, make_program, source):
    with EventQueue(name, fast_url) as queue:
        queue.enqueue_many([event(payload=str(i)) for i in range(5)])
        program = make_program(source, fast_url, name)
        program.wait_for("started 0")
        program.pause()
        program.resume()
        program.send("go on")
        program.wait_for("acked")
        assert program.wait_for("started after it") == "started after it ['1', '2', '3', '4'] False"
        program.wait()
        assert queue.stats().completed == 5


def test_threads_share_one_queue_object(fast_url, name):
    threads, each = 12, 40
    seen, errors = [], []
    with EventQueue(name, fast_url, max_connections=8) as queue:
        barrier = threading.Barrier(threads)

        def work(number):
            try:
                barrier.wait(10)
                for i in range(each):
                    queue.enqueue(event(payload=f"{number}-{i}"))
                    if number % 3 == 0:
                        seen.append(queue.dequeue_blocking(10).event.payload)
                    elif number % 3 == 1:
                        with queue.receive(10) as delivery:
                            seen.append(delivery.event.payload)
                    else:
                        [delivery] = queue.receive_many(1, 10)
                        queue.ack_many([delivery])
                        seen.append(delivery.event.payload)
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert errors == []
        assert sorted(seen) == sorted(f"{n}-{i}" for n in range(threads) for i in range(each))
        stats = queue.stats()
        assert (stats.completed, stats.ready, stats.in_flight) == (threads * each, 0, 0)


def test_nothing_is_left_running_and_no_connection_open(make_server, name):
    server = make_server()
    before = set(threading.enumerate())
    for _ in range(3):
        with EventQueue(name, server.url, options=Options(lease=1)) as queue:
            queue.enqueue_many([event(payload=str(i)) for i in range(4)])
            queue.dequeue()
            with queue.receive():
                pass
            with queue.consumer() as consumer:
                consumer.get(1).ack(wait=False)
            queue.purge()
            with pytest.raises(EmptyQueue):
                queue.dequeue_blocking(0.01)
            with pytest.raises(RuntimeError):
                queue.call("nobody", timeout=0.05)
    with server.client() as client:
        from tests.waiting import eventually

        eventually(lambda: len(client.client_list()) == 1, why="only this connection to be left")
        eventually(lambda: set(threading.enumerate()) <= before, why="the threads to end")


def test_in_asyncio_nothing_is_left_running_either(make_server, name):
    from elkmq import aio
    from tests.waiting import eventually

    server = make_server()
    before = set(threading.enumerate())

    async def use():
        async with aio.EventQueue(name, server.url, options=Options(lease=1)) as queue:
            await queue.enqueue_many([event(payload=str(i)) for i in range(4)])
            await queue.dequeue()
            async with await queue.receive():
                pass
            async with await queue.consumer() as consumer:
                await (await consumer.get(1)).ack(wait=False)
            await queue.purge()
            with pytest.raises(EmptyQueue):
                await queue.dequeue_blocking(0.01)
            with pytest.raises(RuntimeError):
                await queue.call("nobody", timeout=0.05)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for _ in range(2):
        asyncio.run(use())
    with server.client() as client:
        eventually(lambda: len(client.client_list()) == 1, why="only this connection to be left")
        eventually(lambda: set(threading.enumerate()) <= before, why="the threads to end")


def test_a_queue_that_is_dropped_and_not_closed_loses_its_lease(fast_url, name):
    import gc

    queue = EventQueue(name, fast_url, options=Options(lease=1))
    queue.enqueue(event())
    queue.receive()
    del queue
    gc.collect()
    with EventQueue(name, fast_url) as other, other.receive(10) as delivery:
        assert delivery.failed == 1
