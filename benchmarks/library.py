"""The library against redis-py's bare commands on the same server, in one run.

    python benchmarks/library.py [--url redis://...] [--quick]

Without a url it starts the embedded server.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from benchmarks.measure import Figure, slices, speed, spread, table, timed
from elkmq import EventQueue, ServiceEvent, embedded

PAYLOAD = "x" * 100
_numbers = itertools.count()

ROUNDS = 60
"""Slices of each side."""


def name(what: str) -> str:
    return f"bench-{what}-{os.getpid()}-{next(_numbers)}"


def fresh(n: int) -> list[ServiceEvent]:
    return [ServiceEvent(10, "test_event", PAYLOAD) for _ in range(n)]


def enqueue_single(url: str, bare: redis.Redis, n: int) -> Figure:
    queue, stream = EventQueue(name("single"), url), name("bare")
    spare = [fresh(n) for _ in range(ROUNDS + 1)]
    data = [event.to_json() for event in fresh(n)]

    def ours() -> None:
        for event in spare.pop():
            queue.enqueue(event)

    def peer() -> None:
        for item in data:
            bare.xadd(stream, {"event": item})

    figure = speed("enqueue, one at a time, to XADD", ours, peer, 0.8, rounds=ROUNDS)
    queue.delete()
    queue.close()
    bare.delete(stream)
    return figure


def enqueue_batches(url: str, bare: redis.Redis, n: int) -> Figure:
    queue, stream = EventQueue(name("batch"), url), name("bare")
    spare = [[fresh(100) for _ in range(n)] for _ in range(ROUNDS + 1)]
    data = [event.to_json() for event in fresh(100)]

    def ours() -> None:
        for batch in spare.pop():
            queue.enqueue_many(batch)

    def peer() -> None:
        for _ in range(n):
            with bare.pipeline(transaction=False) as pipeline:
                for item in data:
                    pipeline.xadd(stream, {"event": item})
                pipeline.execute()

    figure = speed("enqueue in batches of 100, to a pipeline of XADD", ours, peer, 0.5, rounds=ROUNDS)
    queue.delete()
    queue.close()
    bare.delete(stream)
    return figure


def receive_batches(url: str, bare: redis.Redis, n: int) -> Figure:
    queue, stream = EventQueue(name("receive"), url), name("bare")
    bare.xgroup_create(stream, "g", "0", mkstream=True)
    data = [event.to_json() for event in fresh(100)]

    def fill() -> None:
        for _ in range(n):
            queue.enqueue_many(fresh(100))
            with bare.pipeline(transaction=False) as pipeline:
                for item in data:
                    pipeline.xadd(stream, {"event": item})
                pipeline.execute()

    def ours() -> None:
        for _ in range(n):
            queue.ack_many(queue.receive_many(100))

    def peer() -> None:
        for _ in range(n):
            [[_, entries]] = bare.xreadgroup("g", "c", {stream: ">"}, count=100)
            ids = [id_ for id_, _ in entries]
            with bare.pipeline(transaction=False) as pipeline:
                pipeline.xack(stream, "g", *ids)
                pipeline.xdel(stream, *ids)
                pipeline.execute()

    for _ in range(ROUNDS + 1):
        fill()
    figure = speed("receive in batches of 100 and ack, to XREADGROUP + XACK + XDEL", ours, peer, 0.5, rounds=ROUNDS)
    queue.delete()
    queue.close()
    bare.delete(stream)
    return figure


SERVICE = """
import sys
from elkmq import EventQueue, Service
service = Service(EventQueue(sys.argv[1], sys.argv[2]))
@service.on("echo")
def echo(payload):
    return payload
print("ready", flush=True)
service.run()
"""


ECHO = """
import sys, redis
client = redis.Redis.from_url(sys.argv[1], protocol=2)
print("ready", flush=True)
while (item := client.blpop([sys.argv[2] + "-there"], 60)):
    client.lpush(sys.argv[2] + "-back", item[1])
"""


@contextmanager
def program(code: str, *arguments: str) -> Iterator[None]:
    """Another process while the block runs, once it said that it is ready."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


def round_trips(url: str, bare: redis.Redis, n: int) -> Figure:
    """Beside it, what such an exchange costs at least through redis-py: LPUSH and BLPOP there and back, nothing kept or
    checked."""
    queue, stem = EventQueue(name("request"), url), name("echo")

    def exchange() -> None:
        bare.lpush(f"{stem}-there", PAYLOAD)
        bare.blpop([f"{stem}-back"], 5)

    def call() -> None:
        queue.call("echo", PAYLOAD)

    with program(SERVICE, queue.name, url), program(ECHO, url, stem):
        trips, floors, ours = slices([lambda w=work: _median(w, 20) for work in (bare.ping, exchange, call)], n)
    ratios = [own / trip for own, trip in zip(ours, trips, strict=True)]
    value = statistics.median(ratios)
    bare_lists = statistics.median(floor / trip for floor, trip in zip(floors, trips, strict=True))
    to_lists = statistics.median(own / floor for own, floor in zip(ours, floors, strict=True))
    queue.delete()
    queue.close()
    return Figure(
        "request to response, two processes, p50 in bare round trips",
        value,
        "<= 4",
        value <= 4,
        f"{statistics.median(ours) * 1e6:.0f} us, {spread(ratios)}; over two bare lists between two processes: "
        f"{bare_lists:.2f}, ours in times of that: {to_lists:.2f}",
    )


def _median(work: Callable[[], object], n: int) -> float:
    return statistics.median(_each(work, n))


def _each(work: Callable[[], object], n: int) -> list[float]:
    took = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return took


def depth(url: str, deep: int, shallow: int) -> Figure:
    loaded, plain = EventQueue(name("deep"), url), EventQueue(name("shallow"), url)
    for queue, n in ((loaded, deep), (plain, shallow)):
        for _ in range(n // 500):
            queue.enqueue_many(fresh(500))
    return _slowdown(f"receive + ack at depth {deep:,}, in times of depth {shallow:,}", loaded, plain)


def in_flight(url: str, held: int) -> Figure:
    loaded, plain = EventQueue(name("held"), url), EventQueue(name("free"), url)
    for _ in range(held // 500):
        loaded.enqueue_many(fresh(500))
    holding = [loaded.receive_many(1000) for _ in range(held // 1000)]
    figure = _slowdown(f"receive + ack with {held:,} in flight, in times of none", loaded, plain)
    del holding
    return figure


def _slowdown(what: str, loaded: EventQueue, plain: EventQueue) -> Figure:
    def slice_of(queue: EventQueue) -> float:
        for _ in range(3):
            queue.enqueue_many(fresh(100))  # what the slice takes, so that the depth stays what it is

        def take() -> None:
            for _ in range(3):
                queue.ack_many(queue.receive_many(100))

        return timed(take)

    slow, quick = slices([lambda: slice_of(loaded), lambda: slice_of(plain)], ROUNDS)
    ratios = [a / b for a, b in zip(slow, quick, strict=True)]
    for queue in (loaded, plain):
        queue.delete()
        queue.close()
    value = statistics.median(ratios)
    return Figure(what, value, "<= 1.1", value <= 1.1, spread(ratios))


def memory(url: str, bare: redis.Redis, n: int) -> list[Figure]:
    queue, stream = EventQueue(name("memory"), url), name("bare")
    for _ in range(n // 500):
        events = fresh(500)
        queue.enqueue_many(events)
        with bare.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(stream, {"event": event.to_json()})
            pipeline.execute()
    mine = bare.memory_usage(f"{queue.name}(event_stream)", samples=0)
    theirs = bare.memory_usage(stream, samples=0)
    mark = bare.memory_usage(f"{queue.name}(enqueued:{events[0].uuid.hex})")
    value = mine / theirs
    queue.delete()
    queue.close()
    bare.delete(stream)
    return [
        Figure(
            "memory per event of 100 bytes, in times of bare XADD",
            value,
            "<= 1.3",
            value <= 1.3,
            f"{mine / n:.0f} B, {theirs / n:.0f} B",
        ),
        Figure("memory per dedupe mark, bytes, for 120 s", mark, "none", True),
    ]


def many_requests(url: str, n: int) -> Figure:
    """10,000 requests of one asyncio client, awaited at once; in its own process, to see its connections."""
    code = """
import asyncio, sys, time
from elkmq import aio
async def main(name, url, n):
    async with aio.EventQueue(name, url) as client, aio.EventQueue(name, url) as server:
        service = aio.Service(server, concurrency=200)
        @service.on("echo")
        async def echo(payload):
            return payload
        task = asyncio.create_task(service.run(signals=False))
        await client.call("echo", "first", timeout=60)
        start = time.perf_counter()
        got = await asyncio.gather(*(client.call("echo", str(i), timeout=60) for i in range(n)))
        took = time.perf_counter() - start
        assert got == [str(i) for i in range(n)]
        pool, _ = await client._session.open()
        import redis.asyncio
        info = redis.asyncio.Redis.from_url(url)
        clients = len(await info.client_list())
        print(took, clients)
        service.stop()
        await task
        await client.delete()
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""
    out = subprocess.run(
        [sys.executable, "-c", code, name("many"), url, str(n)], capture_output=True, text=True, check=True
    ).stdout
    took, clients = out.split()
    return Figure(
        f"{n:,} requests awaited at once: connections of both sides",
        float(clients),
        "<= 12",
        float(clients) <= 12,
        f"{n / float(took):,.0f} requests/s, client and service in one process",
    )


def imports() -> Figure:
    code = "import sys, redis; before = set(sys.modules); import elkmq; print(*{m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names) - {'elkmq', 'redis', 'hiredis'})"
    extra = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return Figure(
        "modules that `import elkmq` brings beyond redis-py and stdlib", len(extra), "0", not extra, " ".join(extra)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server to measure on; its queues are named bench-...")
    parser.add_argument("--quick", action="store_true", help="smaller numbers")
    arguments = parser.parse_args()
    server = None if arguments.url else embedded.server()
    url = arguments.url or server.url
    bare = redis.Redis.from_url(url, protocol=2)
    few = 10 if arguments.quick else 1
    with table(f"elkmq against redis-py {redis.__version__} on {bare.info('server')['redis_version']}") as figures:
        figures.append(imports())
        figures.append(enqueue_single(url, bare, 200 // few))
        figures.append(enqueue_batches(url, bare, 5 if few == 1 else 1))
        figures.append(receive_batches(url, bare, 5 if few == 1 else 1))
        figures.append(round_trips(url, bare, 100 // few))
        figures.append(depth(url, 1_000_000 // few, 1000))
        figures.append(in_flight(url, 100_000 // few))
        for figure in memory(url, bare, 100_000 // few):
            figures.append(figure)
        figures.append(many_requests(url, 10_000 // few))
    if server is not None:
        server.close()


if __name__ == "__main__":
    main()
