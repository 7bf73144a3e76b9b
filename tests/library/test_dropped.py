"""Deliveries that nobody settles: dropped, garbage collected, or on their way to a `receive` that was torn away."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
import warnings

import pytest

from elkmq import EmptyQueue, EventQueue, Options, aio
from elkmq._aio._concurrency import Turn
from tests.library.helpers import event, fill, soon, until
from tests.waiting import eventually


async def take_and_drop(queue, how):
    if how == "receive":
        await queue.receive(5)
        return None
    if how == "many":
        await queue.receive_many(10)
        return None
    consumer = await queue.consumer()
    await consumer.get(5)
    return consumer


@pytest.mark.parametrize("how", ["receive", "many", "consumer"])
async def test_a_delivery_that_is_dropped_goes_back_at_once(library, fast_url, name, how, caplog, recwarn):
    async with library() as lib:
        queue, other = lib.queue(name, fast_url), lib.queue(name, fast_url)
        await fill(queue, 1)
        consumer = await take_and_drop(queue, how)
        gc.collect()
        delivery = await soon(other.receive(20), 25)
        assert (delivery.event.payload, delivery.failed, delivery.handed_out) == ("0", 1, 2)
        await delivery.ack()
        await until(other, in_flight=0, completed=1)
        if consumer is not None:  # it goes on
            await fill(queue, 1)
            await (await consumer.get(5)).ack()
    assert "was dropped unsettled" in caplog.text
    # Among others perhaps, of what earlier tests left to the garbage collector.
    assert any("was dropped unsettled" in str(w.message) for w in recwarn if w.category is ResourceWarning)


async def test_one_that_is_dropped_again_and_again_ends_among_the_dead_letters(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(delivery_limit=2))
        await fill(queue, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(3):
                await queue.receive(10)
                gc.collect()
        await until(queue, dead=1, in_flight=0)
        [letter] = await queue.dead.list()
        assert (letter.reason, letter.error) == ("delivery_limit", "it was dropped unsettled")


async def test_what_was_settled_or_is_anothers_by_now_is_dropped_in_silence(library, fast_url, name, recwarn):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 4)
        for verb in ("ack", "reject", "requeue", "complete"):
            delivery = await queue.receive(5)
            await getattr(delivery, verb)()
        delivery = await queue.receive(5)
        await queue.close()
        del delivery
        gc.collect()
        async with library() as again:
            await until(again.queue(name, fast_url), in_flight=0, completed=2, dead=1, ready=1)
    assert [str(warning.message) for warning in recwarn] == []


def test_a_forked_child_s_end_drops_nothing_of_its_parent(fast_url, name):
    with EventQueue(name, fast_url) as queue:
        queue.enqueue(event())
        delivery = queue.receive(5)
        child = os.fork()
        if not child:
            del delivery
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert queue.stats().in_flight == 1
        delivery.ack()


ENDING = """
import sys
from elkmq import EventQueue
queue = EventQueue(sys.argv[2], sys.argv[1])
held = queue.receive_many(3)
more = queue.consumer().get(5)
"""


def test_a_program_that_ends_holding_deliveries_ends_quietly(fast_url, name, make_program):
    with EventQueue(name, fast_url) as queue:
        for _ in range(4):
            queue.enqueue(event())
        program = make_program(ENDING, fast_url, name)
        program.wait()
        assert "Traceback" not in program.errors
        assert "Exception ignored" not in program.errors


async def everything(other) -> list[str]:
    """What is in the queue, also what is just on its way back to it."""
    found: list[str] = []
    while True:
        try:
            delivery = await other.receive(0)
        except EmptyQueue:
            stats = await other.stats()
            if stats.ready == stats.in_flight == 0:
                return found
        else:
            found.append(delivery.event.payload)
            await delivery.ack()


@pytest.mark.parametrize("how", ["receive", "receive_many", "wait_for"])
async def test_a_receive_that_is_cancelled_holds_nothing_back(fast_url, name, how):
    random.seed(9)
    found, torn = [], 0
    # With a lease this long, nothing comes back because somebody else looks after it.
    options = Options(lease=3600)
    async with (
        aio.EventQueue(name, fast_url, options=options) as queue,
        aio.EventQueue(name, fast_url, options=options) as other,
    ):
        await fill(other, 200)
        for round_ in range(200):
            if how == "wait_for":
                longest = 1e-3 if round_ % 2 else 1e-4  # about as long as a receive takes, and less than one ever does
                task = asyncio.ensure_future(asyncio.wait_for(queue.receive(), longest * random.random()))
            else:
                task = asyncio.ensure_future(queue.receive(30) if how == "receive" else queue.receive_many(3, 30))
                for _step in range(random.randrange(10)):
                    await asyncio.wait([task], timeout=0)
                task.cancel()
            await asyncio.wait([task])
            if task.cancelled() or task.exception() is not None:
                assert task.cancelled() or isinstance(task.exception(), asyncio.TimeoutError | EmptyQueue)
                torn += 1
                continue
            got = task.result()
            for delivery in got if isinstance(got, list) else [got]:
                found.append(delivery.event.payload)
                await delivery.ack()
            if len(found) > 150:
                break
        # The first client lives on, and sends nothing back on anybody's asking.
        found += await soon(everything(other), 60)
    assert sorted(found, key=int) == [str(i) for i in range(200)]
    assert torn > 20


@pytest.mark.parametrize("how", ["receive", "consumer"])
def test_a_receive_that_is_interrupted_holds_nothing_back(fast_url, name, make_proxy, how):
    proxy = make_proxy(fast_url)
    with EventQueue(name, proxy.url) as queue, EventQueue(name, fast_url) as other:
        queue.enqueue(event(payload="x"))
        consumer = queue.consumer()
        proxy.latency(700)

        def interrupt():
            eventually(lambda: other.stats().in_flight == 1)  # and the reply is on its way
            proxy.latency(0)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            queue.receive(30) if how == "receive" else consumer.get(30)
        thread.join()
        if how == "consumer":
            assert consumer.get(5).event.payload == "x"
        else:
            with other.receive(9) as delivery:
                assert delivery.event.payload == "x"


def test_a_turn_that_a_closed_loop_left_taken_is_given_back_without_a_word():
    """What waits in a loop when it is closed ends when it is found to be garbage, and finds no loop."""
    turn, loop = Turn(), asyncio.new_event_loop()

    async def hold():
        try:
            await turn.take(None)
            await asyncio.Event().wait()
        finally:
            turn.give()

    task = loop.create_task(hold())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task.get_coro().close()
    task._log_destroy_pending = False
