"""What the library's cases say often."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from elkmq import EmptyQueue, ServiceEvent
from elkmq._core.verbs import Verbs
from elkmq._endpoint import Endpoint
from elkmq._sync.link import Channel
from elkmq.keys import QueueKeys
from tests.waiting import eventually_async


def event(action: str = "a", payload: str | None = None, timeout: int = 30) -> ServiceEvent:
    return ServiceEvent(timeout, action, payload)


async def fill(queue: Any, count: int, **options: Any) -> list[ServiceEvent]:
    """Enqueue this many events with the payloads 0, 1, 2, ..."""
    events = [event(payload=str(i)) for i in range(count)]
    for one in events:
        await queue.enqueue(one, **options)
    return events


async def drain(queue: Any) -> list[str | None]:
    """Dequeue everything; the payloads."""
    found = []
    while True:
        try:
            found.append((await queue.dequeue()).event.payload)
        except EmptyQueue:
            return found


async def until(queue: Any, timeout: float = 10.0, **expected: Any) -> None:
    """Wait until the queue's statistics say this, e.g. ``ready=0``; ``consumers`` is their number."""

    async def holds() -> bool:
        stats = await queue.stats()
        seen = {name: getattr(stats, name) for name in expected}
        if "consumers" in seen:
            seen["consumers"] = len(stats.consumers)
        assert seen == expected
        return True

    await eventually_async(holds, timeout, f"statistics of {expected}")


async def clock_passes(url: str, milliseconds: int) -> None:
    """Wait until the server's clock, which is the one that counts, has gone on by so much."""

    def now() -> float:
        seconds, microseconds = client.time()
        return float(seconds * 1000 + microseconds / 1000)

    with redis.Redis.from_url(url) as client:
        then = now() + milliseconds

        async def there() -> bool:
            return now() > then

        await eventually_async(there, why=f"the server's clock to go on by {milliseconds} ms")


BEFORE_ANOTHER_LOOK = 8.0
"""Seconds within which what a consumer or a blocking dequeue hears of comes to it, however busy the machine is: after 10 it
would look again by itself."""


def soon(call: Any, seconds: float = 10.0) -> Any:
    """Await a call that must not hang."""
    return asyncio.wait_for(call, seconds)


def lose_leases(server: Any, name: str) -> None:
    """Have every consumer of the queue declared dead, as if it had been silent for its lease."""
    key = f"{name}(consumers)"
    with server.client() as client:
        # Half a millisecond: leases that were granted unasked before are not granted so again.
        client.zadd(key, dict.fromkeys(client.zrange(key, 0, -1), 1.5))
    channel = Channel(Endpoint.from_url(server.url))
    try:
        channel.run(Verbs(QueueKeys(name)).tend("", 0, chores=True))
    finally:
        channel.close()
