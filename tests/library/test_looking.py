"""Looking at a queue makes nothing; and a server whose memory is full can be looked at, and drained, by newcomers."""

from __future__ import annotations

import pytest

from elkmq import EmptyQueue, ServerOutOfMemory
from tests.library.cli import elkmq
from tests.library.helpers import event, fill

LOOKS = {
    "stats": lambda queue: queue.stats(),
    "settings": lambda queue: queue.settings(),
    "dead.list": lambda queue: queue.dead.list(),
    "dead.get": lambda queue: queue.dead.get("1-0"),
}


def keys(server, name):
    with server.client() as client:
        return sorted(client.scan_iter(match=f"{name}*", count=1000))


async def test_a_look_makes_no_queue(library, fast_server, name):
    async with library() as lib:
        for look in LOOKS.values():
            queue = lib.queue(name, fast_server.url)
            await look(queue)
            assert [entry async for entry in queue.log()] == []
            assert [letter async for letter in queue.dead] == []
            assert keys(fast_server, name) == []
            await queue.close()


async def test_after_a_look_it_is_joined_all_the_same(library, fast_server, name):
    """What clients of elk-mq 0.1 consumed before is history, and is told from work when the queue is joined."""
    with fast_server.client() as client:
        client.xadd(f"{name}(event_stream)", {"event": event().to_json()})
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.stats()
        await queue.enqueue(event("new"))
        assert (await queue.dequeue()).event.action == "new"
        with pytest.raises(EmptyQueue):
            await queue.dequeue()


async def test_a_look_at_a_queue_that_goes_when_it_is_unused_is_no_use(library, fast_server, name):
    async with library() as lib:
        queue = lib.queue(name, fast_server.url)
        await queue.configure(max_length=10)
        with fast_server.client() as client:
            client.append(f"{name}(settings)", "expires=60000\n")
            client.hset(f"{name}(counters)", "used", "1")
            for look in LOOKS.values():
                await look(queue)
            assert client.hget(f"{name}(counters)", "used") == b"1"


@pytest.mark.parametrize("command", [["stats"], ["stats", "--json"], ["dead", "list"], ["settings"], ["log"]])
def test_the_command_line_looks_without_a_trace(fast_server, name, command):
    elkmq(*command, name, url=fast_server.url)
    assert keys(fast_server, name) == []


@pytest.mark.parametrize("how", ["dequeue", "blocking", "receive", "consumer"])
async def test_a_full_server_is_drained_by_clients_that_come_then(library, server, make_server, name, how):
    own = make_server(server.binary)
    async with library() as lib:
        before = lib.queue(name, own.url)
        await fill(before, 6)
        await before.close()
        with own.client() as client:
            client.script_flush()  # scripts take memory as well
            client.config_set("maxmemory", "1")
        queue = lib.queue(name, own.url)
        with pytest.raises(ServerOutOfMemory):
            await queue.enqueue(event())
        found = []
        if how == "consumer":
            consumer = await queue.consumer()
            while (delivery := await consumer.get(0)) is not None:
                found.append(delivery.event.payload)
                await delivery.ack()
            await consumer.close()
        else:
            while True:
                try:
                    if how == "receive":
                        async with await queue.receive() as delivery:
                            found.append(delivery.event.payload)
                    else:
                        found.append(
                            (await (queue.dequeue() if how == "dequeue" else queue.dequeue_blocking(0.1)))[1].payload
                        )
                except EmptyQueue:
                    break
        assert found == [str(i) for i in range(6)]
        assert (await queue.stats()).ready == 0
        with own.client() as client:
            client.config_set("maxmemory", "0")
