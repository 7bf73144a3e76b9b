"""Connections cut and servers restarted under whoever uses them: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import logging

import pytest

from elkmq import EmptyQueue, Options, QueueClosed, ServerConnectionError, TimeoutExpired
from tests.library.helpers import drain, event, fill, soon, until
from tests.waiting import eventually, eventually_async


async def test_deliveries_outlive_their_connection_and_their_acks_count(library, server_url, make_proxy, name):
    proxy = make_proxy(server_url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, server_url)
        await fill(queue, 10)
        async with await queue.consumer(prefetch=10) as consumer:
            held = [await consumer.get(5) for _ in range(10)]
            for i, delivery in enumerate(held):
                await asyncio.to_thread(proxy.cut)
                await delivery.ack(wait=i % 2 == 0)
                with pytest.raises(EmptyQueue):
                    await other.receive()
            assert await consumer.get(0.1) is None
        await until(other, completed=10, in_flight=0, ready=0, dead=0, requeued=0)


async def test_what_a_broken_connection_had_been_given_is_delivered_once(library, fast_server, make_proxy, name):
    proxy = make_proxy(fast_server.url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_server.url)
        async with await queue.consumer(prefetch=3) as consumer:
            assert await consumer.get(0) is None
            for round_ in range(4):
                waiting = asyncio.ensure_future(consumer.get(20))
                await _is_blocked(fast_server)
                await _lose_what_comes(other, proxy, event(payload=str(round_)))
                delivery = await soon(waiting)
                assert (delivery.event.payload, delivery.handed_out) == (str(round_), 1)
                await delivery.ack()
        await until(other, completed=4, requeued=0, in_flight=0)


async def _lose_what_comes(queue, proxy, sent):
    """The reply of the blocking read is lost on its way: the event is pending, and nobody has seen it."""
    await asyncio.to_thread(proxy.blackhole)
    await queue.enqueue(sent)
    await until(queue, in_flight=1)
    await asyncio.to_thread(proxy.heal)
    await asyncio.to_thread(proxy.cut)


async def _is_blocked(server):
    def holds():
        with server.client() as client:
            return any("b" in one["flags"] for one in client.client_list())

    await asyncio.to_thread(eventually, holds, why="a client to be blocked")


async def test_a_connection_that_goes_mute_does_not_cost_the_lease_however_patient_its_options_are(
    library, fast_server, make_proxy, name
):
    proxy, lease = make_proxy(fast_server.url), Options(lease=9)
    async with library() as lib:
        queue = lib.queue(name, proxy.url, options=lease, socket_timeout=60, socket_connect_timeout=60)
        other = lib.queue(name, fast_server.url, options=lease)
        await fill(queue, 1)
        async with await other.consumer() as heir, await queue.consumer() as consumer:
            delivery = await consumer.get(5)
            assert await heir.get(0) is None  # it is registered, and would take over
            before = _lease_ends(fast_server, name, consumer)
            proxy.blackhole()
            accepted = proxy.accepted
            await asyncio.to_thread(eventually, lambda: proxy.accepted > accepted, 30, why="another connection")
            proxy.heal()
            # Renewed, or taken over from.
            await asyncio.to_thread(eventually, lambda: _lease_ends(fast_server, name, consumer) != before, 60)
            assert _lease_ends(fast_server, name, consumer) is not None
            assert not delivery.lost
            await asyncio.to_thread(proxy.cut)  # the other mute ones, for which nobody is to wait


def _lease_ends(server, name, consumer):
    with server.client() as client:
        return client.zscore(f"{name}(consumers)", consumer.state.name)


@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize("verb", ["ack", "reject", "requeue", "complete"])
async def test_a_verb_whose_connection_is_cut_takes_effect_once(library, fast_url, make_proxy, name, side, verb):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        await fill(queue, 2)
        first, second = await queue.receive_many(2)
        options = [{"events": [event("next")]} if verb == "complete" else {} for _ in range(2)]
        await getattr(second, verb)(**options[0])  # its script is loaded now
        proxy.swallow(side, first.id.partition("/")[2].encode())
        await getattr(first, verb)(**options[1])
        assert proxy.swallowed == 1
        stats = await other.stats()
        found = (stats.completed, stats.dead, stats.requeued, stats.ready, stats.in_flight)
        expected = {
            "ack": (2, 0, 0, 0, 0),
            "reject": (0, 2, 0, 0, 0),
            "requeue": (0, 0, 2, 2, 0),
            "complete": (2, 0, 0, 2, 0),
        }
        assert found == expected[verb]


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_take_whose_connection_is_cut_loses_nothing_and_holds_no_more_than_the_prefetch(
    library, fast_url, make_proxy, name, side
):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        await queue.configure(retention_count=1)  # a queue with settings is read by a script that is repeated
        await fill(queue, 9)
        async with await queue.consumer(prefetch=3) as consumer:
            await (await consumer.get(5)).ack()
            for _ in range(3):
                delivery = await consumer.get(5)
                proxy.swallow(side, consumer.state.name.encode())
                await delivery.ack()
                assert (await other.stats()).in_flight <= 3
            found = []
            while (delivery := await consumer.get(0.2)) is not None:
                await eventually_async(lambda: _at_most(other, 3))
                found.append(delivery)
                await delivery.ack()
        await until(other, completed=9, in_flight=0, ready=0, dead=0)


async def _at_most(queue, count):
    return (await queue.stats()).in_flight <= count


async def test_connections_cut_all_the_time(library, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    seen = []
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        events = [event(payload=str(i)) for i in range(150)]

        async def produce():
            for one in events:
                await queue.enqueue(one)

        async def consume():
            async with await queue.consumer(prefetch=4) as consumer:
                while len(seen) < 150:
                    delivery = await consumer.get(20)
                    seen.append(delivery.event.payload)
                    await delivery.ack(wait=len(seen) % 3 == 0)

        async def cut():
            while True:
                await asyncio.sleep(0.02)  # the pace of the fault: nothing waits for it
                await asyncio.to_thread(proxy.cut)

        cutting = asyncio.ensure_future(cut())
        try:
            await soon(asyncio.gather(produce(), consume()), 60)
        finally:
            cutting.cancel()
        assert sorted(map(int, seen)) == list(range(150))
        await until(other, completed=150, ready=0, in_flight=0, dead=0)


async def test_a_blocking_dequeue_loses_nothing_on_its_way(library, fast_server, make_proxy, name):
    proxy = make_proxy(fast_server.url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_server.url)
        for round_ in range(4):
            waiting = asyncio.ensure_future(queue.dequeue_blocking(20))
            await until(
                other, consumers=round_ + 1
            )  # those before keep their names until the server has heard of the end
            await _is_blocked(fast_server)
            await _lose_what_comes(other, proxy, event(payload=str(round_)))
            assert (await soon(waiting)).event.payload == str(round_)
        assert await drain(other) == []
        await until(other, completed=4, in_flight=0)


async def test_a_blocking_dequeue_whose_connection_is_cut_while_nothing_comes_goes_on(
    library, fast_url, make_proxy, name
):
    proxy = make_proxy(fast_url)
    async with library() as lib:
        queue, other = lib.queue(name, proxy.url), lib.queue(name, fast_url)
        waiting = asyncio.ensure_future(queue.dequeue_blocking(20))
        await until(other, consumers=1)
        for _ in range(3):
            taken = proxy.accepted
            await asyncio.to_thread(proxy.cut)
            await asyncio.to_thread(proxy.wait_for_accepted, taken)
        await fill(other, 1)
        assert (await soon(waiting)).event.payload == "0"


async def test_a_restart_is_not_noticed(library, make_server, name):
    server = make_server(appendonly=True, appendfsync="always")
    async with library() as lib:
        queue = lib.queue(name, server.url)
        await fill(queue, 3)
        async with await queue.consumer(prefetch=1) as consumer:
            held = await consumer.get(5)
            await asyncio.to_thread(server.restart, hard=True)
            await held.ack()
            for payload in "12":
                delivery = await consumer.get(10)
                assert (delivery.event.payload, delivery.handed_out) == (payload, 1)
                await delivery.ack()
                await asyncio.to_thread(server.restart)
        await until(queue, completed=3, ready=0, in_flight=0)


async def test_a_verb_that_failed_can_be_tried_again(library, make_server, name):
    server = make_server(appendonly=True, appendfsync="always")
    async with library() as lib:
        queue = lib.queue(name, server.url, retry_for=0.2, options=Options(lease=60))
        await fill(queue, 4)
        deliveries = await queue.receive_many(4)
        await asyncio.to_thread(server.stop)
        for call in (
            deliveries[0].ack(),
            deliveries[1].reject(),
            deliveries[2].requeue(),
            deliveries[3].complete(),
            queue.ack_many(deliveries[:1]),
        ):
            with pytest.raises(ServerConnectionError, match="check the address and that the server runs"):
                await call
        assert not any(delivery.settled for delivery in deliveries)
        await asyncio.to_thread(server.start)
        await deliveries[0].ack()
        await deliveries[1].reject()
        await deliveries[2].requeue()
        await deliveries[3].complete()
        await until(queue, completed=2, dead=1, ready=1, in_flight=0)


async def test_a_block_whose_end_cannot_be_told_to_the_server_hands_it_out_again(library, make_server, name):
    server = make_server(appendonly=True, appendfsync="always")
    async with library() as lib:
        queue = lib.queue(name, server.url, retry_for=0.2, options=Options(lease=60))
        await fill(queue, 2)
        async with await queue.consumer(prefetch=2) as consumer:
            with pytest.raises(ServerConnectionError):
                async with await consumer.get(5):
                    await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            second = await consumer.get(10)
            with pytest.raises(ZeroDivisionError):
                async with second:
                    await asyncio.to_thread(server.stop)
                    raise ZeroDivisionError
            await asyncio.to_thread(server.start)
            again = [await consumer.get(10), await consumer.get(10)]
            assert sorted(d.event.payload for d in again) == ["0", "1"]
            await queue.ack_many(again)
        await until(queue, completed=2, in_flight=0, ready=0)


async def test_closing_while_the_server_is_away_does_not_take_for_ever(library, make_server, name, caplog):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        await fill(queue, 1)
        await queue.receive()
        await asyncio.to_thread(server.stop)
        await soon(queue.close(), 15)
    assert "back when the lease is over" in caplog.text


@pytest.mark.parametrize("fault", ["stop", "pause"])
async def test_closing_does_not_wait_for_a_server_that_is_gone(library, make_server, name, fault):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url, retry_for=600)
        consumers = [await queue.consumer(prefetch=1) for _ in range(4)]
        under_way = []
        for consumer in consumers:
            await queue.enqueue(event())
            under_way.append(await consumer.get(5))
        getattr(server, fault)()
        tasks = [asyncio.ensure_future(delivery.ack()) for delivery in under_way]
        for consumer in consumers:
            await eventually_async(lambda consumer=consumer: _is_positive(consumer._channel.outstanding))
        await soon(queue.close(), 60)
        for outcome in await soon(asyncio.gather(*tasks, return_exceptions=True), 60):
            assert isinstance(outcome, ServerConnectionError | QueueClosed)
        if fault == "pause":
            server.resume()


async def _is_positive(number):
    return number > 0


@pytest.mark.parametrize("how", ["stop", "pause"])
async def test_a_request_ends_with_its_time_though_the_server_is_away(library, make_server, name, how):
    server = make_server()
    async with library() as lib:
        queue, other = lib.queue(name, server.url, retry_for=600), lib.queue(name, server.url)
        waiting = asyncio.ensure_future(queue.call("nobody", timeout=2))
        await asyncio.to_thread(eventually, lambda: _is_there(server, name), why="the request")
        await asyncio.to_thread(getattr(server, how))
        try:
            with pytest.raises(TimeoutExpired):
                await soon(waiting, 30)
        finally:
            await asyncio.to_thread(server.resume if how == "pause" else server.start)
        assert (await other.stats()).ready <= 1


def _is_there(server, name):
    with server.client() as client:
        return client.xlen(f"{name}(event_stream)") == 1


async def test_heartbeats_that_do_not_arrive_are_told_once_and_that_they_go_on_again_once(
    library, make_server, name, caplog
):
    server = make_server(appendonly=True, appendfsync="always")
    caplog.set_level(logging.DEBUG, "elkmq")

    def said(words: str, level: int) -> int:
        # Of this server: what other tests left behind in this process may miss its own.
        told = [r.getMessage() for r in list(caplog.records) if r.levelno == level]
        return sum(words in text and f":{server.port}/" in text for text in told)

    async with library() as lib:
        queue = lib.queue(name, server.url, options=Options(lease=1))
        await fill(queue, 1)
        held = await queue.receive(5)
        await asyncio.to_thread(server.stop)
        # Each attempt after the first is a matter of DEBUG only.
        await asyncio.to_thread(eventually, lambda: said("no heartbeat to", logging.DEBUG) >= 3, 60)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(eventually, lambda: said("go on", logging.WARNING) == 1, 60)
        assert said("no heartbeat to", logging.WARNING) == 1
        held.forget()
