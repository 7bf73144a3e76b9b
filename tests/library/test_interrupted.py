"""Callers of the library that are torn away: cancelled tasks, Ctrl-C, an event loop that ends. What they had is others'."""

from __future__ import annotations

import asyncio
import dis
import gc
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from elkmq import EmptyQueue, EventQueue, LeaseLost, Options, Service, aio
from tests.library.helpers import drain, event, fill, soon, until
from tests.waiting import eventually


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["receive", "get"])
async def test_a_cancelled_wait_takes_nothing_along(fast_url, name, how):
    found = []
    async with aio.EventQueue(name, fast_url) as queue, aio.EventQueue(name, fast_url) as other:
        consumer = await queue.consumer()
        wait = {"receive": queue.receive, "get": consumer.get}[how]
        for i in range(10):
            task = asyncio.ensure_future(wait(30))
            if i % 2:
                await asyncio.wait([task], timeout=0.01 * random.random())
            task.cancel()
            await other.enqueue(event(payload=str(i)))
            await asyncio.wait([task])
            if not task.cancelled():  # it was faster
                found.append(task.result().event.payload)
                await task.result().ack()
        # Nobody asks with that consumer or receiver any more, and all of it can be had by others.
        if how == "get":
            await consumer.close()
        while len(found) < 10:
            delivery = await soon(other.receive(15), 20)
            found.append(delivery.event.payload)
            await delivery.ack()
        assert sorted(found, key=int) == [str(i) for i in range(10)]


async def test_a_cancelled_blocking_dequeue_takes_nothing_that_comes_afterwards(fast_url, name):
    async with aio.EventQueue(name, fast_url) as queue, aio.EventQueue(name, fast_url) as other:
        for i in range(10):
            task = asyncio.ensure_future(queue.dequeue_blocking(30))
            await asyncio.wait([task], timeout=0.01 * random.random())
            await cancelled(task)
            await other.enqueue(event(payload=str(i)))
            async with await other.receive(15) as delivery:
                assert delivery.event.payload == str(i)


async def test_entries_that_were_under_way_to_a_cancelled_receiver_come_back(fast_url, name, make_proxy):
    proxy = make_proxy(fast_url)
    options = Options(lease=3)  # others see to such entries with their chores
    async with aio.EventQueue(name, proxy.url) as queue, aio.EventQueue(name, fast_url, options=options) as other:
        held_by_user = None
        for held in (False, True):
            if held:
                await fill(other, 1)
                held_by_user = await queue.receive(5)
            else:
                with pytest.raises(EmptyQueue):
                    await queue.receive()
            await fill(other, 1)
            proxy.stall()
            task = asyncio.ensure_future(queue.receive(30))
            await asyncio.wait([task], timeout=0.05)
            task.cancel()
            await asyncio.wait([task])
            proxy.heal()
            again = await soon(other.receive(15), 20)
            assert again.event.payload == "0"
            await again.ack()
        assert held_by_user is not None
        await held_by_user.ack()
        await until(other, completed=3, in_flight=0)


@pytest.mark.parametrize("verb", ["ack", "reject", "requeue", "complete"])
async def test_a_verb_that_was_cancelled_can_be_tried_again(fast_url, name, make_proxy, verb):
    proxy = make_proxy(fast_url)
    async with aio.EventQueue(name, proxy.url) as queue, aio.EventQueue(name, fast_url) as other:
        await fill(queue, 2)
        for delivery in await queue.receive_many(2):
            proxy.stall()
            task = asyncio.ensure_future(getattr(delivery, verb)())
            await asyncio.wait([task], timeout=0.02)
            await cancelled(task)
            assert not delivery.settled
            proxy.heal()
            await getattr(delivery, verb)()
        stats = await other.stats()
        expected = {"ack": (2, 0, 0), "complete": (2, 0, 0), "reject": (0, 2, 0), "requeue": (0, 0, 2)}[verb]
        assert (stats.completed, stats.dead, stats.ready, stats.in_flight) == (*expected, 0)


async def test_a_block_that_is_cancelled_sends_its_delivery_back(fast_url, name):
    async with aio.EventQueue(name, fast_url) as queue:
        await fill(queue, 1)

        at_work = asyncio.Event()

        async def work():
            async with await queue.receive(5):
                at_work.set()
                await asyncio.sleep(100)

        task = asyncio.ensure_future(work())
        await at_work.wait()
        await cancelled(task)
        delivery = await queue.receive(5)
        assert (delivery.failed, delivery.handed_out) == (0, 2)


async def test_a_cancelled_request_leaves_the_others_alone(fast_url, name, caplog):
    async with aio.EventQueue(name, fast_url) as queue, aio.EventQueue(name, fast_url) as serving:
        tasks = [asyncio.ensure_future(queue.call("echo", str(i), timeout=20)) for i in range(20)]
        deliveries = []
        while len(deliveries) < 20:
            deliveries += await serving.receive_many(20, 5)
        for task in tasks[::2]:
            await cancelled(task)
        for delivery in deliveries:
            await delivery.respond("echo", delivery.event.payload)
        assert await soon(asyncio.gather(*tasks[1::2])) == [str(i) for i in range(1, 20, 2)]
    assert "never retrieved" not in caplog.text


async def test_cancelled_at_any_moment(fast_url, name):
    """However a consumer's task is torn apart, each event is completed once."""
    random.seed(11)
    async with aio.EventQueue(name, fast_url) as queue:
        await queue.enqueue_many([event(payload=str(i)) for i in range(100)])
        done = []

        async def work(consumer):
            while True:
                async with await consumer.get(0.5) as delivery:
                    await asyncio.sleep(0)
                done.append(delivery.event.payload)

        async with await queue.consumer(prefetch=7) as consumer:
            while (await queue.stats()).completed < 100:
                task = asyncio.ensure_future(work(consumer))
                for _ in range(random.randrange(60)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or isinstance(task.exception(), (TypeError, AttributeError)), task
        stats = await queue.stats()
        assert (stats.completed, stats.ready, stats.in_flight, stats.dead) == (100, 0, 0, 0)
        assert len(done) == len(set(done))


async def _much_under_way(queue: aio.EventQueue) -> list[object]:
    """Waits, requests, a batch, and an acknowledgement that nobody waits for; returns what has to be kept alive."""
    await queue.enqueue_many([event() for _ in range(20)])
    consumer = await queue.consumer()
    delivery = await consumer.get()
    calls = [
        queue.await_response(event()),
        queue.dequeue_blocking(30),
        queue.enqueue_many([event()] * 2000),
        consumer.get(),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    await delivery.ack(wait=False)
    return [consumer, delivery, *tasks]


def test_an_event_loop_that_ends_with_much_under_way_leaves_no_task_behind(fast_url, name, monkeypatch, recwarn):
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    async def use() -> list[object]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        queue = aio.EventQueue(name, fast_url)
        return [queue, *await _much_under_way(queue)]

    for _ in range(5):
        kept = asyncio.run(use())
        del kept
        gc.collect()
    assert complaints == []
    assert [str(w.message) for w in recwarn if "elkmq" in str(w.message) or "never awaited" in str(w.message)] == []


def test_what_is_tidied_up_at_the_end_of_an_event_loop_is_answered(fast_url, name, recwarn, caplog):
    """At whichever of its steps a receive is when the loop ends: what it had, or was about to have, is back in the queue."""

    async def use(queue_name: str, steps: int) -> None:
        queue = aio.EventQueue(queue_name, fast_url)
        await fill(queue, 3)

        async def hold() -> None:
            async with await queue.receive():
                await asyncio.Event().wait()

        kept.extend(asyncio.ensure_future(hold()) for _ in range(3))
        for _ in range(steps):
            await asyncio.sleep(0)

    kept: list[object] = []
    for steps in range(40):
        asyncio.run(use(f"{name}-{steps}", steps))
        kept.clear()
        with EventQueue(f"{name}-{steps}", fast_url) as after:
            stats = after.stats()
            assert (stats.ready, stats.in_flight) == (3, 0), steps
    gc.collect()
    assert [record.getMessage() for record in caplog.records if "destroyed" in record.getMessage()] == []


async def test_who_cancels_all_tasks_until_none_is_left_comes_to_an_end(fast_url, name):
    async with aio.EventQueue(name, fast_url) as queue:
        kept = await _much_under_way(queue)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await soon(asyncio.wait(others))
        assert await queue.enqueue(event()) > 0  # and whoever goes on is served
        del kept


def test_a_queue_object_goes_on_in_the_next_event_loop(fast_url, name):
    queue = aio.EventQueue(name, fast_url, options=Options(lease=1))

    async def use(payload):
        await queue.enqueue(event(payload=payload))
        async with await queue.receive(5) as delivery:
            assert delivery.event.payload == payload
        asking = asyncio.ensure_future(queue.call("ask", payload, timeout=10))
        delivery = await queue.receive(5)
        await delivery.respond("ask", payload)
        assert await asking == payload

    for payload in "123":
        asyncio.run(use(payload))
    asyncio.run(queue.close())
    with EventQueue(name, fast_url) as other:
        assert other.stats().completed == 6


CTRL_C = """
import signal, sys
from elkmq import EmptyQueue, EventQueue

def interrupt(number, frame):
    global armed
    if armed:  # an interrupt outside of the call, or a second one, would be the end of this program
        armed = False
        raise KeyboardInterrupt

armed = False
signal.signal(signal.SIGINT, interrupt)
queue = EventQueue(sys.argv[2], sys.argv[1])
consumer = queue.consumer()
wait = {"receive": queue.receive, "get": consumer.get}[sys.argv[3]]
interrupted = handled = 0
while handled < 20:
    try:
        armed = True
        print("waiting")
        found = wait(30)
        armed = False
    except KeyboardInterrupt:
        interrupted += 1
    else:
        found.ack()
        handled += 1
print("interrupted", interrupted > 0)
consumer.close()
queue.close()
"""


@pytest.mark.parametrize("how", ["receive", "get"])
def test_ctrl_c_while_it_waits_loses_nothing(fast_url, name, make_program, how):
    program = make_program(CTRL_C, fast_url, name, how)
    with EventQueue(name, fast_url) as queue:
        for _ in range(20):
            seen = len(program.lines)
            program.wait_for("waiting", since=max(0, seen - 1))
            program.signal(signal.SIGINT)
            queue.enqueue(event())
        assert program.wait_for("interrupted", 30) == "interrupted True"
        program.wait()
        stats = queue.stats()
        assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 0)
        assert stats.completed >= 20


async def test_nothing_warns(fast_url, name, recwarn):
    async with aio.EventQueue(name, fast_url) as queue:
        await fill(queue, 3)
        consumer = await queue.consumer()
        await (await consumer.get(5)).ack(wait=False)
        task = asyncio.ensure_future(consumer.get(30))
        await drain(queue)
        await asyncio.wait([task], timeout=0.05)
    with pytest.raises(RuntimeError):
        await (await task).ack()
    assert [str(warning.message) for warning in recwarn] == []


LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "JUMP_ABSOLUTE")
"""What the opcodes begin with, from 3.10 to 3.13, after which CPython looks."""


class Torn(BaseException):
    """Out of a signal handler."""


class TornError(Exception):
    """Out of one that knows no better, such as Celery's for the soft time limit."""


@pytest.mark.parametrize("kind", [Torn, TornError])
def test_who_reads_for_others_and_is_torn_away_anywhere_loses_nothing_of_theirs(fast_url, name, kind):
    with EventQueue(name, fast_url) as served, EventQueue(name, fast_url) as queue, ThreadPoolExecutor(8) as others:
        serving, answered, found = Service(served, concurrency=16), {}, []

        @serving.on("gate", delivery=True)
        def gate(delivery):  # by now it is the caller who reads
            mine = delivery.id
            answered[mine] = threading.Event()
            found.append((mine, others.submit(queue.call, "echo", mine, timeout=30)))
            answered[mine].wait(30)

        @serving.on("echo", delivery=True)
        def echo(delivery):
            delivery.respond("echo", delivery.event.payload)
            answered[delivery.event.payload].set()

        thread = threading.Thread(target=serving.run)
        thread.start()
        try:
            # How far it is depends on whether both responses come at once. Where they are handed out counts most.
            for where, places in (("/elkmq/", 60), ("/_core/inbox.py", 12)):
                torn = 0
                for place in range(1, places):
                    for at in (0, place):
                        torn += _torn_at(at, lambda: queue.call("gate"), where, kind)
                        while found:
                            mine, call = found.pop()
                            assert call.result(40) == mine, (where, place)
                assert torn > places / 3
        finally:
            serving.stop()
            thread.join()


def test_a_caller_torn_away_anywhere_leaves_its_turn_to_read(fast_url, name):
    """CPython runs signal handlers after calls and at jumps back: after each call that `call` makes, one raises."""
    serving = Service(EventQueue(name, fast_url))
    serving.on("echo")(lambda payload: payload)
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        with EventQueue(name, fast_url) as queue, ThreadPoolExecutor(1) as others:
            torn, places = True, 0
            while torn:
                places += 1
                _torn_at(0, lambda: queue.call("echo", "warm"))  # CPython 3.12 traces opcodes from the second time on
                torn = _torn_at(places, lambda: queue.call("echo", "x"))
                # By another thread: this one could take its own lock again.
                assert others.submit(queue.call, "echo", "after", timeout=30).result(40) == "after", places
        assert places > 30
    finally:
        serving.stop()
        thread.join()


def test_a_receiver_torn_away_anywhere_leaves_its_event_to_be_had(fast_url, name):
    with ExitStack() as stack:
        torn, queues = True, []
        while torn:
            queue = stack.enter_context(EventQueue(f"{name}-{len(queues)}", fast_url, options=Options(lease=2)))
            queue.enqueue(event())
            _torn_at(0, lambda q=queue: q.receive().ack())
            queue.enqueue(event())
            torn = _torn_at(len(queues) + 1, queue.receive, "/consumer.py")
            queues.append(queue)
        assert len(queues) > 10
        for queue in queues:
            eventually(lambda q=queue: q.receive(), 15, "the event", ignoring=(EmptyQueue,))


def _torn_at(n, work, where="/elkmq/_sync/", kind=Torn):
    """Do some work; raise at the n-th place in such files where CPython looks for signals. Whether it came to that."""
    seen, raised, last = 0, False, (None, "")

    def trace(frame, happened, argument):
        nonlocal seen, raised, last
        if where not in frame.f_code.co_filename or "dropped" in (frame.f_code.co_name, frame.f_back.f_code.co_name):
            return None  # out of a finalizer nothing is raised
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if happened == "opcode":
            looks = last[0] is frame and last[1].startswith(LOOKS)
            last = frame, dis.opname[frame.f_code.co_code[frame.f_lasti]]
            seen += looks
            if looks and seen == n:
                raised = True
                raise kind
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except kind:
        return True
    finally:
        sys.settrace(before)
        last = (None, "")
        gc.collect()  # frames that were traced keep what they had in hand
    assert not raised, "it was swallowed"
    return False


@pytest.mark.parametrize("at", ["receive", "_refuse_if_closed", "_send", "_obtain"])
def test_a_signal_handler_may_use_the_queue_that_its_thread_is_at_work_on(fast_url, name, at):
    """It settles, enqueues and receives in the middle of a call of the same thread on the same connection."""
    with EventQueue(name, fast_url) as filling:
        filling.enqueue_many([event(str(i)) for i in range(40)])
    queue = EventQueue(name, fast_url)
    held = []
    nested = []

    def handle():
        nested.append(at)
        queue.enqueue(event("nested"))
        if held:
            held.pop().requeue()
        if held:
            held.pop().ack(wait=False)

    def trace(frame, happened, argument):
        if frame.f_code.co_name == at and "/elkmq/" in frame.f_code.co_filename and len(nested) < 10:
            sys.settrace(None)
            handle()
            sys.settrace(trace)

    sys.settrace(trace)
    try:
        queue.enqueue(event("first"))
        held += queue.receive_many(20, 5)
        while len(held) > 5:
            held.pop().ack()
            held.pop().ack(wait=False)
            held.pop().reject("no")
    finally:
        sys.settrace(None)
    assert nested
    queue.ack_many(held)
    for delivery in queue.receive_many(100, 1):
        delivery.ack()
    stats = queue.stats()
    assert (stats.in_flight, stats.ready) == (0, 0)
    assert stats.completed + stats.dead == 41 + len(nested)
    queue.close()


@pytest.mark.parametrize("prefetch", [1, 5])
def test_a_consumer_torn_away_anywhere_goes_on_and_leaves_nothing_behind(fast_url, name, prefetch):
    """In the middle of a wait, of a delivery, of its acknowledgement, whether it is waited for or not."""
    with EventQueue(name, fast_url, options=Options(lease=2)) as queue, queue.consumer(prefetch=prefetch) as consumer:
        handled, torn = set(), 0

        def work(wait):
            delivery = consumer.get(5)
            delivery.ack(wait=wait)
            handled.add(delivery.event.payload)

        for where, places in (
            ("/elkmq/", 60),
            ("/_sync/delivery.py", 12),
            ("/verbs/leases.py", 12),
            ("/holder.py", 12),
        ):
            for place in range(1, places):
                for wait in (True, False):
                    queue.enqueue(event(payload=f"{where} {place} {wait}"))
                    torn += _torn_at(place, lambda wait=wait: work(wait), where)
        assert torn > 80
        # What it has not handled comes back to it, though each tear may have cost something of its prefetch; then nothing is left.
        eventually(lambda: consumer.get(0.2).ack() if queue.stats().ready + queue.stats().in_flight else True, 60,
            "the rest", ignoring=(AttributeError, LeaseLost))  # fmt: skip
        stats = queue.stats()
        assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 0)
        assert not consumer.state.held
