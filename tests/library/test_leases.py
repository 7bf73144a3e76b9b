"""Deliveries under a lease: what each verb does, once, and what a lost lease means."""

from __future__ import annotations

import asyncio

import pytest

from elkmq import DequeueError, EmptyQueue, LeaseLost, Options, QueueFull, Send, ServiceEvent
from tests.library.helpers import drain, event, fill, lose_leases, soon, until
from tests.waiting import eventually_async


async def test_what_is_received_and_acknowledged_is_gone(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        sent = event("a", "x")
        stamp = await queue.enqueue(sent, priority=3, headers={"trace": [1, None]})
        delivery = await queue.receive()
        assert delivery.event == sent
        assert delivery.timestamp == stamp
        assert delivery.headers == {"trace": [1, None]}
        assert (delivery.priority, delivery.handed_out, delivery.failed) == (3, 1, 0)
        assert (delivery.awaited, delivery.ours, delivery.settled, delivery.lost) == (False, True, False, False)
        assert delivery.unique_id == sent.uuid.hex
        assert (await queue.stats()).in_flight == 1
        await delivery.ack()
        assert delivery.settled
        stats = await queue.stats()
        assert (stats.in_flight, stats.ready, stats.completed) == (0, 0, 1)
        with pytest.raises(EmptyQueue):
            await queue.receive()


async def test_the_block_acknowledges_at_its_end(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 1)
        async with await queue.receive() as delivery:
            assert (await queue.stats()).in_flight == 1
        assert delivery.settled
        await until(queue, completed=1, in_flight=0, ready=0)


async def test_a_block_that_raises_sends_it_back_as_failed(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 2)
        with pytest.raises(ZeroDivisionError):
            async with await queue.receive():
                raise ZeroDivisionError("no")
        again = await queue.receive()
        assert (again.event.payload, again.failed, again.handed_out) == ("0", 1, 2)  # before new work
        assert again.id.startswith("r/")
        await again.ack()


async def test_a_block_that_is_left_by_the_programs_end_is_no_failure(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 1)
        with pytest.raises(asyncio.CancelledError):
            async with await queue.receive():
                raise asyncio.CancelledError
        again = await queue.receive()
        assert (again.failed, again.handed_out) == (0, 2)


async def test_reject_puts_it_among_the_dead_letters(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        [sent] = await fill(queue, 1)
        await (await queue.receive()).reject("it smells", reason="smell")
        [dead] = await queue.dead.list()
        assert (dead.event, dead.reason, dead.error, dead.handed_out) == (sent, "smell", "it smells", 1)
        assert await drain(queue) == []


async def test_requeue_with_a_delay(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 1)
        assert await (await queue.receive()).requeue(delay=0.3)
        with pytest.raises(EmptyQueue):
            await queue.receive()
        assert (await queue.stats()).delayed == 1
        again = await queue.receive(5)
        assert (again.event.payload, again.failed, again.handed_out) == ("0", 0, 2)
        await again.ack()


async def test_settled_again_the_same_way_it_does_nothing_another_way_it_is_refused(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 1)
        delivery = await queue.receive()
        await delivery.ack()
        await delivery.ack()
        for other in (delivery.reject, delivery.requeue, delivery.complete):
            with pytest.raises(DequeueError, match="was acknowledged before and cannot be"):
                await other()
        assert (await queue.stats()).completed == 1


async def test_bad_arguments_leave_the_delivery_as_it_was(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await fill(queue, 1)
        delivery = await queue.receive()
        for call in (
            lambda: delivery.requeue(delay=-1),
            lambda: delivery.complete(response="no event"),
            lambda: delivery.complete(events=["no event"]),
            lambda: delivery.complete(events=[Send(event(), queue="a b")]),
            lambda: delivery.respond(5),
        ):
            with pytest.raises(ValueError):
                await call()
        await delivery.ack()
        assert (await queue.stats()).completed == 1


async def test_respond_completes_and_answers_in_one_step(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        waiting = asyncio.ensure_future(queue.await_response(event("ask")))
        delivery = await queue.receive(5)
        assert delivery.awaited is True
        assert 0 < delivery.remaining <= 30
        assert await delivery.respond("answer", "42")
        assert (await waiting).event.payload == "42"
        assert (await queue.stats()).in_flight == 0


async def test_a_response_to_an_event_that_nobody_awaits_is_not_sent(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await fill(queue, 1)
        assert not await (await queue.receive()).respond("answer")
        assert (await queue.stats()).completed == 1


async def test_complete_sends_response_and_further_events_in_one_step(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name + "-2", server_url)
        waiting = asyncio.ensure_future(queue.await_response(event("ask")))
        delivery = await queue.receive(5)
        response = ServiceEvent.create_response(delivery.event, "done")
        further = [Send(event("b", "1"), queue=name + "-2"), event("c", "2"), Send(event("d", "3"), delay=60)]
        done = await delivery.complete(response=response, events=further)
        assert (done.outcome, done.response, len(done.receipts)) == ("mine", "sent", 3)
        assert (await waiting).event == response
        assert await drain(other) == ["1"]
        assert await drain(queue) == ["2"]
        assert (await queue.stats()).delayed == 1


async def test_complete_does_all_or_nothing(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name + "-2", server_url)
        await other.configure(max_length=1)
        await fill(queue, 1)
        delivery = await queue.receive()
        further = [event("b"), Send(event("c"), queue=name + "-2"), Send(event("d"), queue=name + "-2")]
        with pytest.raises(QueueFull):
            await delivery.complete(events=further)
        stats = await queue.stats()
        assert (stats.in_flight, stats.ready) == (1, 0)
        await delivery.complete(events=further[:2])  # it can be completed later
        assert (await queue.stats()).ready == (await other.stats()).ready == 1


async def test_many_are_received_and_acknowledged_at_once(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        await queue.enqueue_many([event(payload=str(i)) for i in range(1200)])
        deliveries = await queue.receive_many(1100)
        assert [d.event.payload for d in deliveries] == [str(i) for i in range(1100)]
        await queue.ack_many(deliveries)
        stats = await queue.stats()
        assert (stats.ready, stats.in_flight, stats.completed) == (100, 0, 1100)


# -- lost leases


@pytest.mark.parametrize("verb", ["ack", "reject", "requeue", "respond", "complete"])
async def test_a_lost_lease_is_told_to_every_verb_and_nothing_changes(library, fast_server, name, verb):
    async with library() as lib:
        mine, others = lib.queue(name, fast_server.url), lib.queue(name, fast_server.url)
        await fill(mine, 1)
        delivery = await mine.receive()
        await asyncio.to_thread(lose_leases, fast_server, name)
        theirs = await others.receive(5)
        assert (theirs.failed, theirs.handed_out) == (1, 2)
        with pytest.raises(LeaseLost, match="nothing changed; stop working on it"):
            await getattr(delivery, verb)(*(["x"] if verb == "respond" else []))
        assert (await mine.stats()).in_flight == 1
        await theirs.ack()
        stats = await mine.stats()
        assert (stats.completed, stats.dead, stats.ready) == (1, 0, 0)


async def test_of_many_acknowledged_at_once_those_that_were_lost_are_named(library, fast_server, name):
    async with library() as lib:
        mine, others = lib.queue(name, fast_server.url), lib.queue(name, fast_server.url)
        await fill(mine, 2)
        first = await mine.receive()
        await asyncio.to_thread(lose_leases, fast_server, name)
        await (await others.receive(5)).requeue()
        with pytest.raises(LeaseLost, match="the leases on 1 deliveries were lost"):
            await mine.ack_many([first])
        assert (await mine.stats()).completed == 0


async def test_a_lost_lease_in_a_block_that_raises_shows_the_blocks_error(library, fast_server, name):
    async with library() as lib:
        mine, others = lib.queue(name, fast_server.url), lib.queue(name, fast_server.url)
        await fill(mine, 1)
        with pytest.raises(ZeroDivisionError):
            async with await mine.receive():
                await asyncio.to_thread(lose_leases, fast_server, name)
                theirs = await others.receive(5)
                raise ZeroDivisionError
        await theirs.ack()


async def test_after_a_lost_lease_receiving_goes_on(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url, options=Options(lease=1))
        await fill(queue, 1)
        delivery = await queue.receive()
        await asyncio.to_thread(lose_leases, fast_server, name)
        await eventually_async(lambda: _is_lost(delivery))  # the next heartbeat
        again = await queue.receive(5)  # by the same receiver, under another name
        assert again.failed == 1
        with pytest.raises(LeaseLost):
            await delivery.ack()
        await again.ack()
        assert (await queue.stats()).completed == 1


async def _is_lost(delivery):
    return delivery.lost


async def test_the_lease_is_renewed_while_a_handler_works(library, fast_url, name):
    async with library() as lib:
        mine, others = lib.queue(name, fast_url, options=Options(lease=1)), lib.queue(name, fast_url)
        await fill(mine, 1)
        delivery = await mine.receive()
        with pytest.raises(EmptyQueue):
            await soon(others.receive(2.5))  # two and a half leases
        await delivery.ack()
        assert (await mine.stats()).completed == 1


async def test_closing_hands_back_what_was_not_settled(library, server_url, name):
    async with library() as lib:
        mine, others = lib.queue(name, server_url), lib.queue(name, server_url)
        await fill(mine, 3)
        held = await mine.receive_many(2)
        await mine.close()
        again = await others.receive_many(3)
        assert sorted(d.event.payload for d in again) == ["0", "1", "2"]
        assert [d.failed for d in again] == [0, 0, 0]
        with pytest.raises(RuntimeError):
            await held[0].ack()
        await others.ack_many(again)
        assert (await others.stats()).completed == 3


async def test_a_receiver_that_rests_gives_up_its_registration(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(lease=1))
        with pytest.raises(EmptyQueue):
            await queue.receive()
        await until(queue, consumers=1)
        await until(queue, consumers=0)
        await fill(queue, 1)
        await (await queue.receive()).ack()


async def test_on_a_single_active_consumer_queue_a_resting_receiver_lets_others_have_the_turn(library, fast_url, name):
    async with library() as lib:
        one, two = (lib.queue(name, fast_url, options=Options(lease=1)) for _ in range(2))
        await one.configure(single_active=True)
        await fill(one, 2)
        await (await one.receive()).ack()
        delivery = await soon(two.receive(10))
        assert delivery.event.payload == "1"
        await delivery.ack()
