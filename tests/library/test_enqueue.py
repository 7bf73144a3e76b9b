"""How events are accepted: once, later, urgent, for a time, and only so many."""

from __future__ import annotations

import asyncio

import pytest

from elkmq import EmptyQueue, InvalidEvent, InvalidOption, Options, QueueFull, Send, ServiceEvent
from tests.library.helpers import clock_passes, drain, event, fill, until


async def test_the_same_event_again_adds_nothing_and_gets_the_first_answer(library, server_url, name):
    sent = event()
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        stamp = await queue.enqueue(sent)
        assert await other.enqueue(sent) == stamp
        assert (await queue.enqueue_many([sent, event(payload="2"), sent]))[::2] == [stamp, stamp]
        assert await queue.enqueue(sent, priority=5) == stamp
        assert await drain(queue) == [None, "2"]
        assert await queue.enqueue(sent) == stamp  # although it was handed out since
        assert await drain(queue) == []


async def test_a_dedupe_id_stands_for_the_event(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        stamp = await queue.enqueue(event(payload="1"), dedupe_id="order 17")
        assert await queue.enqueue(event(payload="2"), dedupe_id="order 17") == stamp
        delivery = await queue.receive()
        assert (delivery.event.payload, delivery.unique_id) == ("1", "order 17")
        await delivery.ack()
        assert await drain(queue) == []


async def test_without_a_dedupe_id_it_is_accepted_however_often_it_comes(library, fast_url, name):
    sent = event()
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for _ in range(3):
            await queue.enqueue(sent, dedupe_id="")
        assert len(await drain(queue)) == 3


async def test_a_dedupe_window_of_zero_remembers_nothing(library, fast_url, name):
    sent = event()
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(dedupe_window=0))
        await queue.enqueue(sent)
        await queue.enqueue(sent)
        assert len(await drain(queue)) == 2


async def test_the_window_ends(library, fast_server, name):
    sent = event()
    async with library() as lib:
        queue = lib.queue(name, fast_server.url, options=Options(dedupe_window=20))
        await queue.enqueue(sent)
        with fast_server.client() as client:
            key = f"{name}(enqueued:{sent.uuid.hex})"
            assert 19_000 < client.pttl(key) <= 20_000
            client.delete(key)
        await queue.enqueue(sent)
        assert len(await drain(queue)) == 2


@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize("how", ["one", "many", "request"])
async def test_enqueued_once_although_the_connection_is_cut(library, fast_url, make_proxy, name, side, how):
    proxy = make_proxy(fast_url)
    sent = event("cut-here")
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        await queue.stats()
        # Loaded already, so that the next request with these bytes is the event's.
        await queue.enqueue(event("warm"))
        await drain(other)
        proxy.swallow(side, b"cut-here")
        if how == "one":
            await queue.enqueue(sent)
        elif how == "many":
            await queue.enqueue_many([sent, event()])
        else:
            waiting = asyncio.ensure_future(queue.await_response(sent))
            assert await (await other.receive(5)).respond("yes")
            assert (await waiting).event.action == "yes"
        await asyncio.to_thread(proxy.wait_until_swallowed)
        assert len(await drain(other)) == {"one": 1, "many": 2, "request": 0}[how]
        assert await _actions(other) == []


async def _actions(queue):
    try:
        return [d.event.action for d in await queue.receive_many(10)]
    except EmptyQueue:
        return []


async def test_a_delayed_event_waits_in_the_broker(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.enqueue(event(payload="late"), delay=0.2)
        await queue.enqueue(event(payload="later"), delay=0.3, priority=4)
        stats = await queue.stats()
        assert (stats.delayed, stats.ready) == (2, 0)
        assert 0 < stats.next_due <= 0.2
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
        first, second = await queue.receive(5), await queue.receive(5)
        assert [first.event.payload, second.event.payload] == ["late", "later"]
        assert (second.priority, first.handed_out) == (4, 1)


async def test_a_higher_priority_comes_first_and_order_holds_within_one(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        for i, priority in enumerate([0, 9, 255, 9, 0, 255]):
            await queue.enqueue(event(payload=str(i)), priority=priority)
        assert await drain(queue) == ["2", "5", "1", "3", "0", "4"]


async def test_an_event_whose_time_is_over_is_not_handed_out_and_is_counted(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.enqueue(event(payload="short"), ttl=0.05)
        await queue.enqueue(event(payload="long"), ttl=60)
        await clock_passes(server_url, 50)
        delivery = await queue.receive()
        assert delivery.event.payload == "long"
        assert 50 < delivery.remaining <= 60
        assert (await queue.stats()).expired == 1


async def test_an_event_that_expires_in_a_consumers_buffer_is_not_handed_out(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue(event(payload="1"))
        await queue.enqueue(event(payload="2"), ttl=0.2)
        await queue.enqueue(event(payload="3"))
        async with await queue.consumer() as consumer:
            held = await consumer.get(5)  # all are taken with it; dropped, it would go back
            assert held.event.payload == "1"
            assert (await queue.stats()).in_flight == 3
            await clock_passes(fast_url, 250)  # the consumer knows it from the last reply, which took its time
            assert (await consumer.get(5)).event.payload == "3"
        assert (await queue.stats()).expired == 1


async def test_the_queues_ttl_holds_for_all_events(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.configure(ttl=0.05, dead_letter_expired=True)
        await queue.enqueue(event(), ttl=60)
        await clock_passes(fast_url, 50)
        with pytest.raises(EmptyQueue):
            await queue.receive()
        [dead] = await queue.dead.list()
        assert dead.reason == "expired"


async def test_a_full_queue_refuses(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.configure(max_length=2)
        await fill(queue, 2)
        refused = event(payload="3")
        with pytest.raises(QueueFull, match="is not in the queue; try later"):
            await queue.enqueue(refused)
        with pytest.raises(QueueFull):
            await queue.enqueue_many([event(), event()])
        assert await queue.enqueue_many([]) == []
        await queue.dequeue()
        await queue.enqueue(refused)  # it had not been accepted, so it is no duplicate
        assert await drain(queue) == ["1", "3"]


async def test_a_full_queue_drops_the_oldest(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.configure(max_length=3, overflow="drop_oldest")
        await fill(queue, 5)
        assert (await queue.stats()).dropped == 2
        assert await drain(queue) == ["2", "3", "4"]


async def test_many_events_and_how_each_is_to_be_enqueued(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        sends = [event(payload="0"), Send(event(payload="1"), priority=2), Send(event(payload="2"), delay=60)]
        stamps = await queue.enqueue_many(sends + [event(payload=str(i)) for i in range(3, 1204)])
        assert len(stamps) == 1204
        assert stamps == sorted(stamps)
        await until(queue, ready=1203, delayed=1)
        assert (await queue.dequeue()).event.payload == "1"


async def test_what_came_out_can_be_put_back(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 1)
        _, taken = await queue.dequeue()
        await queue.enqueue(taken)
        await queue.enqueue(taken)
        assert await drain(queue) == ["0"]


@pytest.mark.parametrize(
    "bad",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"delay": 10**400},
        {"delay": "1"},
        {"ttl": 0},
        {"ttl": True},
        {"priority": -1},
        {"priority": 256},
        {"priority": 1.5},
        {"priority": 10**5000},
        {"dedupe_id": "a|b"},
        {"dedupe_id": "line\nbreak"},
        {"dedupe_id": "x" * 256},
        {"dedupe_id": 7},
        {"dedupe_id": "\ud800"},
    ],
    ids=lambda bad: str(*bad)[:20] + "-" + repr(*bad.values())[:12] if bad.get("priority") != 10**5000 else "huge",
)
async def test_options_that_make_no_sense(library, fast_url, name, bad):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        with pytest.raises(InvalidOption, match="nothing was sent") as caught:
            await queue.enqueue(event(), **bad)
        assert len(str(caught.value)) < 300
        assert (await queue.stats()).enqueued == 0


@pytest.mark.parametrize("headers", [{"a": object()}, {"a": float("nan")}, {"a": "\ud800"}, {(1, 2): 3}, 7])
async def test_headers_that_are_no_json(library, fast_url, name, headers):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        with pytest.raises(RuntimeError, match="nothing was sent"):
            await queue.enqueue(event(), headers=headers)
        assert (await queue.stats()).enqueued == 0


@pytest.mark.parametrize("thing", ["text", None, {"action": "a"}, b"{}", 7])
async def test_what_is_no_event(library, fast_url, name, thing):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for call in (
            queue.enqueue,
            queue.await_response,
            queue.enqueue_response,
            lambda one: queue.enqueue_many([one]),
        ):
            with pytest.raises(ValueError, match="is not an event; nothing was sent"):
                await call(thing)
        assert (await queue.stats()).enqueued == 0


async def test_a_large_payload_arrives_whole(library, fast_url, name):
    sent = ServiceEvent(10, "large", "\0ä€" * 1_500_000)
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue(sent)
        assert (await queue.dequeue()).event == sent


async def test_many_large_ones_go_in_pieces(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        await queue.stats()
        with server.client() as client:
            client.config_resetstat()
            events = [ServiceEvent(10, str(i), "x" * 3_000_000) for i in range(20)]
            assert len(await queue.enqueue_many(events)) == 20
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] >= 4
        assert (await queue.stats()).ready == 20


BIG = "x" * 280_000_000


async def test_headers_that_no_server_takes_are_refused_before_anything_is_sent(library, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue = lib.queue(name, proxy.url)
        with pytest.raises(InvalidEvent, match=r"takes 560,\d+,\d+ bytes and Redis takes at most .*; nothing was sent"):
            await queue.enqueue(event(payload=BIG), headers={"big": BIG})
        assert await drain(queue) == []
        assert proxy.accepted <= 2


async def test_a_step_that_no_server_takes_is_refused_and_can_be_taken_in_parts(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue(event())
        delivery = await queue.receive()
        with pytest.raises(
            InvalidEvent, match=r"complete the event: all in all it takes 560,\d+,\d+ bytes .* nothing was sent"
        ):
            await delivery.complete(events=[event(payload=BIG), event(payload=BIG)])
        assert (await queue.stats()).in_flight == 1
        await delivery.complete(events=[event(payload="small")])
        assert await drain(queue) == ["small"]
        effect = queue.once("big")
        await effect.claim()
        effect.result = BIG + BIG
        with pytest.raises(InvalidEvent, match="record the effect"):
            await effect.finish()


async def test_large_headers_go_in_pieces(library, make_server, name):
    server = make_server()
    with server.client() as client:
        client.config_set("client-query-buffer-limit", 40_000_000)
    sends = [Send(event(payload=str(n)), headers={"big": "x" * 9_000_000}) for n in range(6)]
    async with library() as lib:
        queue = lib.queue(name, server.url)
        stamps = await queue.enqueue_many(sends)
        assert stamps == await queue.enqueue_many(sends)
        assert await drain(queue) == [str(n) for n in range(6)]


async def test_what_is_no_list_of_events_and_no_time_is_refused(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        for items in (None, "text", b"bytes", 7):
            with pytest.raises(InvalidOption, match="nothing was sent"):
                await queue.enqueue_many(items)
        consumer = await queue.consumer()
        for timeout in (float("nan"), float("inf"), -1, "1", True):
            with pytest.raises(InvalidOption, match="timeout"):
                await consumer.get(timeout)
