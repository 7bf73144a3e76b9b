"""One queue shared with the original, with no setting: its producers and requesters, our consumers and responders.

Each case ends with a look at every key: nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from elkmq import EmptyQueue, Options, Reject, ServiceEvent
from elkmq._core.call import command
from elkmq._core.verbs import Verbs
from elkmq._endpoint import Endpoint
from elkmq._sync.link import Channel
from elkmq.keys import QueueKeys
from tests.interop.conftest import Original, Raised, leftovers, nothing_left
from tests.library.helpers import soon, until
from tests.waiting import eventually, eventually_async

TEXT = 'Grüße "\\\n\x01 \U0001f98c'
SHORT = Options(lease=1.0)

Originals = Callable[[str, str], Original]


async def take(queue: Any, how: str, count: int) -> list[tuple[int, ServiceEvent]]:
    """So many events, in one of the ways there are."""
    found: list[tuple[int, ServiceEvent]] = []
    if how.startswith("dequeue"):
        while len(found) < count:
            taken = await (queue.dequeue() if how == "dequeue" else queue.dequeue_blocking(20))
            found.append((taken.timestamp, taken.event))
    elif how == "consumer":
        consumer = await queue.consumer(prefetch=2)
        while len(found) < count:
            delivery = await consumer.get(20)
            found.append((delivery.timestamp, delivery.event))
            await delivery.ack()
        await consumer.close()
    else:
        while len(found) < count:
            for delivery in [await queue.receive(20)] if how == "receive" else await queue.receive_many(10, 20):
                found.append((delivery.timestamp, delivery.event))
                await delivery.ack()
    return found


WAYS = ["dequeue", "dequeue_blocking", "receive", "receive_many", "consumer"]


@pytest.mark.parametrize("how", WAYS)
async def test_its_events_are_ours_to_consume(library: Any, originals: Originals, name: str, fast_url: str, how: str):
    original = originals(name, fast_url)
    sent = [original.enqueue(str(n), TEXT if n else None, 7 + n) for n in range(3)]
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for timestamp, event in await take(queue, how, 3):
            wanted, number = sent.pop(0)
            assert (timestamp, event.request_uuid) == (wanted, int(number))
            n = int(event.action)
            assert (event.timeout, event.payload) == (7 + n, TEXT if n else None)
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
        stats = await queue.stats()
        assert (stats.enqueued, stats.completed, stats.ready, stats.in_flight) == (3, 3, 0, 0)
    assert leftovers(fast_url, name) == {}


@pytest.mark.parametrize("how", WAYS[1:])
async def test_an_event_that_comes_while_ours_wait(
    library: Any, originals: Originals, name: str, fast_url: str, how: str
):
    original = originals(name, fast_url)
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        waiting = asyncio.ensure_future(take(queue, how, 2))
        await until(queue, consumers=1)
        for n in range(2):
            await asyncio.to_thread(original.enqueue, str(n))
        assert [event.action for _, event in await soon(waiting, 20)] == ["0", "1"]
        with pytest.raises(EmptyQueue):  # ours may have been done before the second of its two commands
            await queue.dequeue()
    assert leftovers(fast_url, name) == {}


async def answer_one(queue: Any, how: str) -> None:
    if how == "respond":
        delivery = await queue.receive(20)
        await delivery.respond("pong", delivery.event.payload)
    else:
        event = (await queue.dequeue_blocking(20)).event
        await queue.enqueue_response(ServiceEvent.create_response(event, "pong", event.payload))


@pytest.mark.parametrize("how", ["respond", "enqueue_response"])
async def test_its_request_is_answered(library: Any, originals: Originals, name: str, fast_url: str, how: str):
    original = originals(name, fast_url)
    original.tell("await_response", action="ping", payload=TEXT, timeout=2)
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=SHORT)
        await answer_one(queue, how)
        asked, _, response = await asyncio.to_thread(original.answer)
        assert response == {"uuid": asked, "timeout": 2, "action": "pong", "payload": TEXT}
        assert leftovers(fast_url, name).get("response_stream") == 1

        async def swept() -> bool:
            with pytest.raises(EmptyQueue):
                await queue.dequeue()  # whoever looks does the chores
            assert leftovers(fast_url, name) == {}
            return True

        await eventually_async(swept, why="the response to go with its requester's time")
        stats = await queue.stats()
        assert (stats.enqueued, stats.completed, stats.ready, stats.responses) == (1, 1, 0, 0)


async def test_our_service_serves_it(library: Any, originals: Originals, name: str, fast_url: str):
    original = originals(name, fast_url)
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=SHORT)
        service = lib.service(queue, concurrency=2, retry_delay=0.01)

        async def greet(payload: str) -> str:
            return f"Hello, {payload}!"

        tries = []

        async def flaky(payload: str) -> str:
            tries.append(payload)
            if len(tries) == 1:
                raise ValueError("no such luck")
            return "after all"

        async def refuse(payload: str) -> str:
            raise Reject("no such luck")

        for handler in (greet, flaky, refuse):
            service.on(handler.__name__)(handler)
        running = asyncio.ensure_future(service.run())
        answers = {
            "greet": ("greet", f"Hello, {TEXT}!"),
            "flaky": ("flaky", "after all"),
            "refuse": ("elkmq.error", "no such luck"),
            "nothing": ("elkmq.error", "no handler for the action 'nothing'"),
        }
        for action, (answer, payload) in answers.items():
            original.tell("await_response", action=action, payload=TEXT, timeout=3)
            response = (await asyncio.to_thread(original.answer))[2]
            assert response["action"] == answer
            assert payload in response["payload"]
        await asyncio.to_thread(nothing_but_us_left, fast_url, name)
        service.stop()
        await soon(running)
        assert len(await queue.dead.list()) == 2
        await queue.delete()
    nothing_left(fast_url, name)


def nothing_but_us_left(url: str, name: str) -> None:
    """The service is a consumer while it runs; the responses go when their time is over."""
    eventually(
        lambda: set(leftovers(url, name)) <= {"consumers", "consumer_info", "dead_letters"},
        15,
        "the responses to be swept away",
    )


async def test_a_request_that_ours_do_not_answer_in_time(library: Any, originals: Originals, name: str, fast_url: str):
    original = originals(name, fast_url)
    original.tell("await_response", action="ping", timeout=1)
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        delivery = await queue.receive(20)
        with pytest.raises(Raised, match="TimeoutExpired"):
            await asyncio.to_thread(original.answer)
        await eventually_async(lambda: over(fast_url, delivery.timestamp + 1000), why="the server's time to be over")
        await delivery.respond("pong")
    assert leftovers(fast_url, name) == {}


async def over(url: str, then: int) -> bool:
    """Whether the server's clock, in milliseconds, is past that."""
    with redis.Redis.from_url(url) as client:
        seconds, micros = client.time()
    return seconds * 1000 + micros // 1000 > then


def test_an_event_whose_queue_is_opened_between_its_two_commands(originals: Originals, name: str, fast_url: str):
    """Queue after queue is opened the moment its first entry is there; whatever the timing, no event is lost."""
    original = originals(name, fast_url)
    channel = Channel(Endpoint.from_url(fast_url))
    between = 0
    for n in range(100):
        keys = QueueKeys(f"{name}-{n}")
        verbs = Verbs(keys)
        original.tell("use", queue=keys.name)
        original.answer()
        channel.run(verbs.stats())  # so that the connection is there
        original.tell("enqueue", action=str(n), payload=None, timeout=10)
        look = command("EXISTS", keys.lane(0), parse=bool)
        while not channel.run(look):
            pass
        channel.run(verbs.open("c", 30_000, {}))
        taken = channel.run(verbs.take("c", 10))
        between += not taken.entries
        original.answer()
        entries = taken.entries or channel.run(verbs.take("c", 10)).entries or channel.run(verbs.take("c", 10)).entries
        assert [ServiceEvent.from_json(entry.fields[b"event"]).action for entry in entries] == [str(n)]
        assert channel.run(verbs.settle("c", [(entry.lane, entry.id) for entry in entries])) == frozenset()
        channel.run(verbs.leave("c"))
        assert leftovers(fast_url, keys.name) == {}
    channel.close()
    print(f"{between} of 100 queues were opened between the two commands")
