"""A queue that is set to serve consumers of elk-mq 0.1: what we enqueue and ask reaches them; and both kinds competing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis

from elkmq import DequeueError, EmptyQueue, Options, Send, ServiceEvent, TimeoutExpired
from tests.interop.conftest import Original, Raised, leftovers
from tests.library.helpers import event, soon
from tests.waiting import eventually_async

Originals = Callable[[str, str], Original]


@pytest.fixture
def served(library: Any, name: str, fast_url: str) -> Callable[[Any], Any]:
    async def queue(lib: Any, **options: Any) -> Any:
        queue = lib.queue(name, fast_url, **options)
        await queue.configure(serve_elkmq01=True)
        return queue

    return queue


async def taken_by(original: Original, count: int) -> list[str]:
    """The actions of the next events, as the original takes them, waiting for each."""
    found = []
    for _ in range(count):
        original.tell("dequeue_blocking", seconds=20)
        found.append((await asyncio.to_thread(original.answer))[1]["action"])
    return found


async def test_our_events_are_its_to_consume(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str
) -> None:
    original = originals(name, fast_url)
    async with library() as lib:
        queue = await served(lib)
        sent = ServiceEvent(12, "a", 'Grüße "\\\n\x01 \U0001f98c')
        timestamp = await queue.enqueue(sent)
        assert await queue.enqueue(sent) == timestamp  # once
        await queue.enqueue_many([event(str(n)) for n in range(3)])
        found = await asyncio.to_thread(original.dequeue)
        assert found == [timestamp, {**sent.to_dict(), "uuid": str(sent.request_uuid)}]
        assert await taken_by(original, 3) == ["0", "1", "2"]
        with pytest.raises(Raised, match="EmptyQueue"):
            await asyncio.to_thread(original.dequeue)
        assert (await queue.stats()).ready == 0


async def test_priorities_hold(library: Any, served: Any, originals: Originals, name: str, fast_url: str) -> None:
    async with library() as lib:
        queue = await served(lib)
        await queue.enqueue_many([Send(event(str(p)), priority=p) for p in (0, 3, 200, 3, 0, 7)])
        assert await taken_by(originals(name, fast_url), 6) == ["200", "7", "3", "3", "0", "0"]


@pytest.mark.parametrize("who", ["the one that sent it", "another one"])
async def test_delays_hold_though_no_consumer_of_ours_is_there(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str, who: str
) -> None:
    original = originals(name, fast_url)
    async with library() as lib:
        queue = await served(lib)
        sent = await queue.enqueue(event("late"), delay=0.3)
        if who == "another one":
            await queue.close()
            await lib.queue(name, fast_url).enqueue(event("now"))
            assert await taken_by(original, 1) == ["now"]
        original.tell("dequeue_blocking", seconds=20)
        timestamp, found = await asyncio.to_thread(original.answer)
        assert found["action"] == "late"
        assert timestamp - sent >= 300


async def test_delays_hold_for_a_client_that_was_there_before_the_setting(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str
) -> None:
    original = originals(name, fast_url)
    async with library() as lib:
        early = lib.queue(name, fast_url)
        await early.stats()
        await (await served(lib)).close()
        await early.enqueue_many([Send(event("late"), delay=0.3), event("now")])
        assert await taken_by(original, 2) == ["now", "late"]


async def test_its_responders_answer_our_requests(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str
) -> None:
    original = originals(name, fast_url)
    async with library() as lib:
        queue = await served(lib)
        for n in range(3):  # the third comes when nobody listened any more, or somebody still does
            original.tell("serve", seconds=20, action="pong")
            request = event("ping", f"Grüße {n}", timeout=20)
            response = await soon(queue.await_response(request), 20)
            assert response.event.to_dict() == {**request.to_dict(), "action": "pong"}
            await asyncio.to_thread(original.answer)
        assert leftovers(fast_url, name) == {}


async def test_many_requests_at_once(library: Any, served: Any, originals: Originals, name: str, fast_url: str) -> None:
    original = originals(name, fast_url)
    original.tell("serve", seconds=20, action="pong", times=50)
    async with library() as lib:
        queue = await served(lib)
        requests = [event("ping", str(n), timeout=30) for n in range(50)]
        responses = await soon(asyncio.gather(*(queue.await_response(one) for one in requests)), 30)
        assert [response.event.payload for response in responses] == [str(n) for n in range(50)]
        await asyncio.to_thread(original.answer)
    assert leftovers(fast_url, name) == {}


async def test_two_answers_are_one_and_a_late_one_is_none(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str
) -> None:
    original = originals(name, fast_url)
    async with library() as lib:
        queue = await served(lib)
        with pytest.raises(TimeoutExpired):
            await queue.await_response(event("ping", timeout=1))
        original.dequeue()
        original.tell("respond", action="late")
        original.answer()
        waiting = asyncio.ensure_future(queue.await_response(event("ping", timeout=20)))
        original.tell("dequeue_blocking", seconds=20)
        await asyncio.to_thread(original.answer)
        for action in ("first", "second"):
            original.tell("respond", action=action)
            await asyncio.to_thread(original.answer)
        assert (await soon(waiting)).event.action == "first"


# -- both kinds of consumers on one queue


async def blocked(url: str, command: str) -> None:
    """Wait until a client of the server waits in that command."""
    with redis.Redis.from_url(url) as client:

        async def waits() -> bool:
            return any(other["cmd"] == command and "b" in other["flags"] for other in client.client_list())

        await eventually_async(waits, why=f"a client to wait in {command}")


async def test_consumers_of_ours_are_refused_and_the_event_is_the_original_s(
    library: Any, served: Any, originals: Originals, name: str, fast_url: str
) -> None:
    async with library() as lib:
        queue = await served(lib)
        await queue.enqueue(event("a"))

        async def consume() -> None:
            consumer = await queue.consumer()
            try:
                await consumer.get(5)
            finally:
                await consumer.close()

        for call in (consume, queue.receive, queue.dequeue, lambda: queue.dequeue_blocking(1)):
            with pytest.raises(DequeueError, match="set to serve consumers of elk-mq 0.1"):
                await call()
        assert await taken_by(originals(name, fast_url), 1) == ["a"]
        knowing = lib.queue(name, fast_url, options=Options(compete_with_originals=True))
        await queue.enqueue(event("b"))
        assert [(await knowing.receive(5)).event.action for _ in range(2)] == ["a", "b"]  # "a" is handed out twice


@pytest.mark.parametrize("how", ["consumer", "receive", "dequeue_blocking"])
async def test_one_that_waits_when_the_setting_comes_is_refused_too(
    library: Any, originals: Originals, name: str, make_server: Any, how: str
) -> None:
    url = make_server().url  # its own, so that no other test's consumer is taken for this one
    async with library() as lib:
        queue, other = lib.queue(name, url), lib.queue(name, url)
        consumer = await queue.consumer()
        calls = {"consumer": consumer.get, "receive": queue.receive, "dequeue_blocking": queue.dequeue_blocking}
        waiting = asyncio.ensure_future(calls[how](30))
        await blocked(url, "xreadgroup")
        await other.configure(serve_elkmq01=True)
        await other.enqueue(event("a"))
        with pytest.raises(DequeueError, match="set to serve consumers of elk-mq 0.1"):
            await soon(waiting)
        assert await taken_by(originals(name, url), 1) == ["a"]
        await consumer.close()


async def test_ours_say_that_an_original_answers_where_they_consume(
    library: Any, originals: Originals, name: str, make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()  # its own, so that no other test's consumer is taken for this one
    original = originals(f"{name}-other", server.url)
    original.enqueue("ping")
    original.dequeue()
    original.tell("use", queue=name)
    original.answer()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        waiting = asyncio.ensure_future(queue.receive(20))
        await blocked(server.url, "xreadgroup")
        with caplog.at_level(logging.WARNING, "elkmq"):
            for _ in range(2):
                original.tell("respond", action="pong")
                original.answer()
            original.enqueue("last")
            assert (await soon(waiting)).event.action == "last"
        assert caplog.text.count("a consumer of elk-mq 0.1 answers requests on the queue") == 1


async def test_an_original_competes_and_nobody_can_tell(
    library: Any, originals: Originals, name: str, make_server: Any
) -> None:
    """What the documentation says of it: each of them is handed the event."""
    server = make_server()
    original = originals(name, server.url)
    async with library() as lib:
        queue = lib.queue(name, server.url)
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
        original.tell("dequeue_blocking", seconds=20)
        await blocked(server.url, "brpop")
        producer = originals(name, server.url)
        producer.enqueue("both")
        assert (await asyncio.to_thread(original.answer))[1]["action"] == "both"
        assert (await queue.dequeue()).event.action == "both"
