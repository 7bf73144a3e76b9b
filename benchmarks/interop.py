"""The original and ElkMQ at the same work, in one run: how fast, and what it costs the server.

    python -m benchmarks.interop [--quick] [--crate PATH]

``--crate``: the program of tests/interop/rust, built with ``cargo build --release``; without it, and without the original's
Python module, what is not there is left out. Each client is a process of its own that makes the call so many times in a
row; ElkMQ's is its module for code written for the original (`elkmq.elk_mq`), told the same by the same program. The server
is a private one. Figures are medians over rounds in which the clients take turns; ratios are to the original's Python
module, or to the crate where there is no other, in the same round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from tests.servers import Server

PAYLOAD = "x" * 100
IDLE = 2
"""Seconds that a request is awaited which nobody answers."""


class Client:
    """A process that makes calls."""

    def __init__(self, command: list[str], queue: str, url: str) -> None:
        self._process = subprocess.Popen(
            [*command, queue, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, call: str, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, **order}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


@dataclass
class Cost:
    """What so many calls took: seconds, seconds of the server's CPU, and commands, those of scripts among them."""

    calls: int
    seconds: float
    cpu: float
    commands: int


@contextmanager
def measured(bare: redis.Redis, calls: int, into: list[Cost]) -> Iterator[None]:
    before, start = _spent(bare), time.perf_counter()
    yield
    seconds, after = time.perf_counter() - start, _spent(bare)
    into.append(Cost(calls, seconds, *(b - a for a, b in zip(before, after, strict=True))))  # type: ignore[arg-type]


def _spent(bare: redis.Redis) -> tuple[float, int]:
    """CPU seconds, and commands without the look itself."""
    info: Any = bare.info("everything")
    cpu = info["used_cpu_user"] + info["used_cpu_sys"]
    ran = {name.removeprefix("cmdstat_"): row["calls"] for name, row in info.items() if name.startswith("cmdstat_")}
    return cpu, sum(ran.values()) - ran.get("info", 0)


def work(command: list[str], url: str, bare: redis.Redis, n: int) -> dict[str, Cost]:
    """Each kind of call, ``n`` times in a row, on a queue of its own."""
    queue = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    client, responder = Client(command, queue, url), Client(command, f"{queue}-r", url)
    found: dict[str, Cost] = {}

    def run(what: str, calls: int, call: str, **order: Any) -> None:
        costs: list[Cost] = []
        with measured(bare, calls, costs):
            client.tell(call, **order)
            answer = client.answer()
        assert "returned" in answer or what == "wait a second", answer
        found[what] = costs[0]

    client.tell("enqueue", timeout=60, action="a", payload=PAYLOAD)  # connections and scripts are there
    client.answer()
    run("enqueue", n, "enqueue", timeout=60, action="a", payload=PAYLOAD, times=n)
    run("dequeue", n, "dequeue", times=n)
    client.tell("use", queue=f"{queue}-r")
    client.answer()
    asks = max(1, n // 10)
    responder.tell("serve", seconds=60, action="pong", times=asks + 1)
    client.tell("await_response", timeout=60, action="ping", payload=PAYLOAD)
    client.answer()
    run("await", asks, "await_response", timeout=60, action="ping", payload=PAYLOAD, times=asks)
    responder.answer()
    run("wait a second", IDLE, "await_response", timeout=IDLE, action="ping", payload=PAYLOAD)
    client.close()
    responder.close()
    bare.delete(*bare.keys(f"{queue}*"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--crate", help="the program of tests/interop/rust")
    given = parser.parse_args()
    n, rounds = (200, 1) if given.quick else (2000, 5)
    speaker = [sys.executable, "-m", "tests.interop.speaker"]
    clients = {"elkmq": [*speaker, "elkmq.elk_mq"]}
    if importlib.util.find_spec("elk_mq") is not None:
        clients["original, Python"] = [*speaker, "elk_mq"]
    if given.crate:
        clients["original, Rust"] = [given.crate]
    found: dict[str, list[dict[str, Cost]]] = {name: [] for name in clients}
    with Server() as server, server.client(protocol=2) as bare:
        print(f"server: {server.binary.label}; {n} calls a round, {rounds} rounds", flush=True)
        for turn in range(rounds):
            names = list(clients) if turn % 2 else list(clients)[::-1]
            for name in names:
                found[name].append(work(clients[name], server.url, bare, n))
    report(found)
    return 0


def report(found: dict[str, list[dict[str, Cost]]]) -> None:
    peer = next((name for name in ("original, Python", "original, Rust") if name in found), None)
    print(f"{'':36}{'calls/s':>10}{'ratio':>8}{'server us':>11}{'commands':>10}")
    for what in ("enqueue", "dequeue", "await", "wait a second"):
        for name, rounds in found.items():
            costs = [costs[what] for costs in rounds]

            def middle(figure: Callable[[Cost], float], costs: list[Cost] = costs) -> float:
                return statistics.median(figure(cost) / cost.calls for cost in costs)

            ratio = "-"
            if peer and what != "wait a second":
                pairs = zip(rounds, found[peer], strict=True)
                ratio = f"{statistics.median(p[what].seconds / own[what].seconds for own, p in pairs):.2f}"
            rate = "-" if what == "wait a second" else f"{1 / middle(lambda cost: cost.seconds):.0f}"
            print(
                f"{what:<16}{name:<20}{rate:>10}{ratio:>8}{middle(lambda cost: cost.cpu) * 1e6:>11.1f}"
                f"{middle(lambda cost: cost.commands):>10.1f}"
            )


if __name__ == "__main__":
    sys.exit(main())
