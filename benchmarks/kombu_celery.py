"""A Celery worker on elkmq:// beside one on redis://, in turns on one server: no-op tasks a second, idle cost, round trip.

python benchmarks/kombu_celery.py [--tasks 2000] [--rounds 3] [--pools prefork,solo,late] [--round-trips 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from array import array
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import redis
from celery import Celery

import kombu_elkmq
from tests.servers import Server
from tests.waiting import Program, eventually

kombu_elkmq.register()

WARM = 50
"""Round trips that do not count."""

APP = """
import json, os, time
from celery import Celery
import kombu_elkmq
app = Celery("app", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND"))
app.conf.update(json.loads(os.environ["CONF"]))
@app.task(name="noop")
def noop(mark=None):
    if mark:
        with open(os.environ["RECORD"], "a") as record:
            record.write(f"{mark} {time.time()}\\n")
    return mark
"""


class Run:
    """One worker on one of the two brokers."""

    def __init__(
        self,
        server: Server,
        scheme: str,
        stack: ExitStack,
        *,
        pool: str,
        late: bool,
        results: bool = False,
        db: int = 0,
    ) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "benchmark_app.py").write_text(APP)
        self.record = self.folder / "record"
        self.redis = redis.Redis(port=server.port, db=db)
        self.redis.flushdb()
        broker = server.url.replace("redis", scheme, 1).replace("/0", f"/{db}")
        conf = {"task_ignore_result": not results, "task_acks_late": late, "worker_prefetch_multiplier": 50}
        backend = server.url.replace("/0", "/15") if results else None
        self.env = {
            "BROKER": broker, "CONF": json.dumps(conf), "RECORD": str(self.record), "PYTHONPATH": os.pathsep.join(
                [str(self.folder), *sys.path]), **({"BACKEND": backend} if backend else {}),
        }  # fmt: skip
        self.app = Celery("app", broker=broker, backend=backend, set_as_current=False)
        self.app.conf.update(conf)
        stack.callback(self.app.close)
        self.command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "benchmark_app",
            "worker",
            "-P",
            pool,
            "-c",
            "2",
            "-l",
            "WARNING",
        ]
        self.command += ["--without-gossip", "--without-mingle"] if not results else []
        self.stack = stack

    def start(self) -> None:
        self.stack.enter_context(Program(command=self.command, env=self.env, merge=True))
        eventually(lambda: self.app.control.ping(timeout=0.3), 30, "the worker to answer")

    def marks(self) -> dict[str, float]:
        if not self.record.exists():
            return {}
        return {
            line.split()[0]: float(line.split()[1])
            for line in self.record.read_text().splitlines()
            if line.count(" ") == 1
        }


def rate(server: Server, scheme: str, tasks: int, pool: str, late: bool) -> float:
    """Tasks a second, from a queue that was filled before."""
    with ExitStack() as stack:
        run = Run(server, scheme, stack, pool=pool, late=late)
        with run.app.producer_pool.acquire(block=True) as producer:
            run.app.send_task("noop", ("first",), producer=producer)
            for _ in range(tasks - 2):
                run.app.send_task("noop", producer=producer)
            run.app.send_task("noop", ("last",), producer=producer)
        stack.enter_context(Program(command=run.command, env=run.env, merge=True))
        eventually(lambda: len(run.marks()) == 2, 120, "the last task")
        marks = run.marks()
        return tasks / (marks["last"] - marks["first"])


def noop() -> None:
    """The worker's task, as its caller knows it."""


def round_trips(server: Server, pool: str, rounds: int) -> tuple[float, float]:
    """Median of delay().get(), seconds, on elkmq:// and redis:// in turn, with a worker on each all the while. Results go over
    redis:// for both.
    """
    with ExitStack() as stack:
        tasks, found = [], [array("d"), array("d")]
        for db, scheme in enumerate(("elkmq", "redis")):
            run = Run(server, scheme, stack, pool=pool, late=False, results=True, db=db)
            run.start()
            tasks.append(run.app.task(name="noop")(noop))
        for n in range(rounds + WARM):
            for which in (0, 1) if n % 2 else (1, 0):
                started = time.perf_counter()
                tasks[which].delay().get(timeout=10)
                if n >= WARM:
                    found[which].append(time.perf_counter() - started)
        return statistics.median(found[0]), statistics.median(found[1])


def idle(server: Server, scheme: str, seconds: float = 20.0) -> tuple[float, float]:
    """Commands a second at the server, those of scripts counted; CPU seconds a minute of the idle worker."""
    with ExitStack() as stack:
        run = Run(server, scheme, stack, pool="solo", late=False, results=True)
        run.start()
        run.app.close()
        run.redis.config_resetstat()
        time.sleep(seconds)
        stats = run.redis.info("commandstats")
        return sum(entry["calls"] for entry in stats.values()) / seconds, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pools", default="prefork,solo,late")
    parser.add_argument("--round-trips", type=int, default=1000)
    args = parser.parse_args()
    with Server() as server:
        print(f"{server.binary.label:34} {'elkmq://':>9} {'redis://':>9}        ratio")
        for kind in args.pools.split(","):
            pool, late = ("prefork", True) if kind == "late" else (kind, False)
            found = [
                [rate(server, scheme, args.tasks, pool, late) for scheme in ("elkmq", "redis")]
                for _ in range(args.rounds)
            ]
            ours, theirs = (statistics.median(rates) for rates in zip(*found, strict=True))
            print(
                f"{'no-op tasks a second, ' + kind:34} {ours:9.0f} {theirs:9.0f}      {ours / theirs:6.2f}", flush=True
            )
        for pool in ("prefork", "solo"):
            ours, theirs = (1e3 * each for each in round_trips(server, pool, args.round_trips))
            print(
                f"{f'delay().get(), median, {pool}':34} {ours:9.2f} {theirs:9.2f} ms   {ours / theirs:6.2f}", flush=True
            )
        ours, theirs = idle(server, "elkmq")[0], idle(server, "redis")[0]
        print(f"{'idle worker, commands a second':34} {ours:9.2f} {theirs:9.2f}      {ours / theirs:6.2f}", flush=True)


if __name__ == "__main__":
    main()
