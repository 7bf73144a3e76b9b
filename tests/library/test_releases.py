"""Two releases on one queue: this one, and a copy of it in other processes that lays things out by the next format."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

import elkmq
from elkmq import EmptyQueue, FormatTooNew, Options
from elkmq.keys import FORMAT
from tests.library.helpers import event, fill, soon, until
from tests.waiting import NotInTime

NEXT = FORMAT + 1
UTIL = """
import os, sys
sys.path[:0] = filter(None, [os.environ.get("OTHER_RELEASE")])
from elkmq import EventQueue, Options, ServiceEvent, keys
url, name = sys.argv[1:3]
queue = EventQueue(name, url, options=Options(lease=float(os.environ.get("LEASE", "1"))))
"""
CONSUME = (
    UTIL
    + """
with queue.consumer(prefetch=3) as consumer:
    print("ready", keys.FORMAT)
    for delivery in consumer:
        delivery.ack()
        print("done", delivery.event.payload)
"""
)
ENQUEUE = (
    UTIL
    + """
for i in range(int(sys.argv[3])):
    queue.enqueue(ServiceEvent(60, "a", f"{sys.argv[4]}{i}"), ttl=600)
print("enqueued", keys.FORMAT)
"""
)
CONFIGURE = UTIL + "print('configured', queue.configure(max_length=int(sys.argv[3])).max_length)"


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> dict[str, str]:
    """The environment in which programs run the next release."""
    folder = tmp_path_factory.mktemp("newer")
    shutil.copytree(Path(elkmq.__file__).parent, folder / "elkmq", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "elkmq" / "keys.py"
    source, n = re.subn(rf"^FORMAT = {FORMAT}$", f"FORMAT = {NEXT}", module.read_text("utf-8"), flags=re.MULTILINE)
    assert n == 1
    module.write_text(source, "utf-8")
    return {"OTHER_RELEASE": str(folder)}


def done_by(*programs):
    return [line.removeprefix("done ") for program in programs for line in program.lines if line.startswith("done ")]


@pytest.mark.parametrize("how", ["receive", "consumer", "dequeue", "dequeue_blocking"])
async def test_entries_of_a_newer_release_wait_for_one_that_knows_them(
    library, fast_url, name, newer, make_program, how, caplog
):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure()
        make_program(ENQUEUE, fast_url, name, "5", "new", env=newer).wait()
        await fill(queue, 1)
        if how == "consumer":
            async with await queue.consumer() as consumer:
                delivery = await soon(consumer.get(20), 30)
                assert delivery.event.payload == "0"
                await delivery.ack()
        elif how == "receive":
            async with await queue.receive(20) as delivery:
                assert delivery.event.payload == "0"
        else:
            assert (await getattr(queue, how)()).event.payload == "0"
        letters = [letter async for letter in queue.dead]
        assert [letter.reason for letter in letters] == ["format"] * 5
        assert all(f"format {NEXT}" in letter.error and letter.event is None for letter in letters)
        stats = await queue.stats()
        assert (stats.dead, stats.dead_lettered, stats.completed, stats.ready, stats.in_flight) == (5, 5, 1, 0, 0)
        program = make_program(CONSUME, fast_url, name, env=newer)
        for i in range(5):
            program.wait_for(f"done new{i}")
        await until(queue, dead=0, completed=6, ready=0, in_flight=0)
        assert sorted(done_by(program)) == [f"new{i}" for i in range(5)]


async def test_entries_that_come_to_one_who_waits_are_set_aside_too(library, fast_url, name, newer, make_program):
    async with library() as lib:
        for how in ("consumer", "dequeue_blocking"):
            queue = lib.queue(f"{name}-{how}", fast_url)
            if how == "consumer":
                consumer = await queue.consumer()
                task = asyncio.ensure_future(consumer.get(30))
            else:
                task = asyncio.ensure_future(queue.dequeue_blocking(30))
            await until(queue, consumers=1)
            make_program(ENQUEUE, fast_url, queue.name, "1", "new", env=newer).wait()
            await until(queue, dead=1, ready=0, in_flight=0)
            await fill(queue, 1)
            found = await soon(task, 30)
            assert found.event.payload == "0"
            if how == "consumer":
                await found.ack()


async def test_both_at_once_on_one_queue_lose_nothing(fast_url, name, newer, make_program):
    n = 40
    old, new = make_program(CONSUME, fast_url, name), make_program(CONSUME, fast_url, name, env=newer)
    assert old.wait_for("ready") == f"ready {FORMAT}"
    assert new.wait_for("ready") == f"ready {NEXT}"
    producers = [
        make_program(ENQUEUE, fast_url, name, str(n), "old"),
        make_program(ENQUEUE, fast_url, name, str(n), "new", env=newer),
    ]
    for program in producers:
        program.wait()
    for i in range(n):
        new.wait_for(f"done new{i}", 60)
    async with elkmq.aio.EventQueue(name, fast_url) as queue:
        await until(queue, 30, ready=0, in_flight=0, dead=0, completed=2 * n)
    assert sorted(done_by(old, new)) == sorted(f"{which}{i}" for which in ("old", "new") for i in range(n))
    assert not [payload for payload in done_by(old) if payload.startswith("new")]


def test_what_an_idle_consumer_of_before_is_given_goes_on_to_a_newer_one_at_once(fast_url, name, newer, make_program):
    lease = {"LEASE": "600"}  # chores are done every third of it: nothing may wait for them
    old, new = (
        make_program(CONSUME, fast_url, name, env=lease),
        make_program(CONSUME, fast_url, name, env=newer | lease),
    )
    assert old.wait_for("ready") == f"ready {FORMAT}"
    assert new.wait_for("ready") == f"ready {NEXT}"
    make_program(ENQUEUE, fast_url, name, "60", "new", env=newer).wait()
    for i in range(60):
        new.wait_for(f"done new{i}", 30)
    assert not done_by(old)
    assert len(done_by(new)) == 60


async def test_a_queue_that_was_raised_is_left_alone_by_clients_that_were_open(
    library, fast_url, name, newer, make_program
):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(lease=2))
        await fill(queue, 1)
        held = await queue.receive(5)
        # Each waits its way when the queue is raised.
        consumers = [await queue.consumer(lease=2) for _ in range(3)]
        waiting = [asyncio.ensure_future(consumer.get(60)) for consumer in consumers]
        waiting.append(asyncio.ensure_future(queue.dequeue_blocking(60)))
        await until(queue, consumers=5)
        make_program(CONFIGURE, fast_url, name, "1000", env=newer).wait()
        for task in waiting:
            with pytest.raises(FormatTooNew, match="upgrade this program"):
                await soon(task, 30)
        calls = [
            queue.enqueue(event()), queue.dequeue(), consumers[0].get(0), queue.stats(), queue.purge(), queue.call("a", timeout=1),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(FormatTooNew):
                await call
        await held.ack()  # what is in hand can be finished
        make_program(ENQUEUE, fast_url, name, "3", "new", env=newer).wait()
        program = make_program(CONSUME, fast_url, name, env=newer)
        for i in range(3):
            program.wait_for(f"done new{i}")
        assert len(done_by(program)) == 3


async def test_what_clients_of_before_had_not_started_goes_to_the_newer_ones(
    library, fast_url, name, newer, make_program
):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 5)
        consumer = await queue.consumer(prefetch=10, lease=1)
        first = await consumer.get(5)
        make_program(CONFIGURE, fast_url, name, "1000", env=newer).wait()
        await first.ack()
        await consumer.close()
        program = make_program(CONSUME, fast_url, name, env=newer)
        for i in range(1, 5):
            program.wait_for(f"done {i}", 30)
        with pytest.raises(NotInTime):
            program.wait_for("done 0", 0.1)


async def test_a_queue_of_a_newer_release_is_refused_and_stays_as_it_is(
    library, fast_server, name, newer, make_program
):
    make_program(CONFIGURE, fast_server.url, name, "1000", env=newer).wait()
    make_program(ENQUEUE, fast_server.url, name, "2", "new", env=newer).wait()

    def dump():
        with fast_server.client() as client:
            return {key: client.dump(key) for key in client.scan_iter(match=f"{name}*", count=1000)}

    before = dump()
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        for call in (queue.enqueue(event()), queue.receive(), queue.dequeue(), queue.stats(), queue.dead.list()):
            with pytest.raises(FormatTooNew):
                await call
    assert dump() == before
    program = make_program(CONSUME, fast_server.url, name, env=newer)
    for i in range(2):
        program.wait_for(f"done new{i}")


async def test_an_entry_with_a_format_that_is_no_number_is_set_aside(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.configure()
        with fast_server.client() as client:
            for v in ("next", "", "1.5", "1e9", "-", "99999999999999999999"):
                client.xadd(f"{name}(event_stream)", {"event": event().to_json(), "v": v})
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
        assert [letter.reason async for letter in queue.dead] == ["format"] * 6
