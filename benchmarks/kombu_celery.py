"""A Celery worker on elkmq:// beside one on redis://, in turns on one server: no-op tasks a second, idle cost, round trip.

python benchmarks/kombu_celery.py [--tasks 10000] [--rounds 3] [--pools prefork,solo,late] [--round-trips 1000]
    [--idle 300]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import redis
from celery import Celery

import kombu_elkmq
from tests.servers import Server
from tests.waiting import Program, eventually

kombu_elkmq.register()

WARM = 50
"""Round trips that do not count."""

SETTLED = 45.0
"""Seconds after which a worker is idle: the pings that tell that it is up have queues of their own, and the first chores are over."""

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
        backend = server.url.replace("redis", results, 1).replace("/0", "/15") if results else None
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

    def start(self) -> int:
        """Start the worker; returns its process id."""
        worker = self.stack.enter_context(Program(command=self.command, env=self.env, merge=True))
        eventually(lambda: self.app.control.ping(timeout=0.3), 30, "the worker to answer")
        return worker.pid

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


def round_trips(server: Server, pool: str, rounds: int, backend: str) -> tuple[float, float]:
    """Median of delay().get(), seconds, on elkmq:// and redis:// in turn, with a worker on each all the while.

    :param backend: scheme of the result backend of the former; that of the latter is redis://
    """
    with ExitStack() as stack:
        tasks, found = [], [array("d"), array("d")]
        for db, scheme in enumerate(("elkmq", "redis")):
            run = Run(server, scheme, stack, pool=pool, late=False, results="redis" if db else backend, db=db)
            run.start()
            tasks.append(run.app.task(name="noop")(noop))
        for n in range(rounds + WARM):
            for which in (0, 1) if n % 2 else (1, 0):
                started = time.perf_counter()
                tasks[which].delay().get(timeout=10)
                if n >= WARM:
                    found[which].append(time.perf_counter() - started)
        return statistics.median(found[0]), statistics.median(found[1])


class Idle(NamedTuple):
    """What a worker costs that has nothing to do."""

    commands: float
    """At the server, a second, those inside scripts counted."""
    sent: float
    """Of those, what the worker sent."""
    cpu: float
    """Of the worker, seconds a minute."""


def idle(server: Server, scheme: str, seconds: float) -> Idle:
    """A worker as Celery starts it, with gossip, mingle and heartbeat events, once what belongs to its start is over."""
    with ExitStack() as stack:
        run = Run(server, scheme, stack, pool="solo", late=False, results="redis")
        pid = run.start()
        run.app.close()
        time.sleep(SETTLED)
        with run.redis.monitor() as monitor:
            run.redis.echo("from here")
            run.redis.config_resetstat()
            before = cpu_seconds(pid)
            time.sleep(seconds)
            cpu = cpu_seconds(pid) - before
            stats = run.redis.info("commandstats")
            calls = sum(entry["calls"] for name, entry in stats.items() if not name.startswith("cmdstat_config"))
            seen = itertools.takewhile(lambda each: each["command"] != "INFO commandstats", monitor.listen())
            seen = itertools.dropwhile(lambda each: each["command"] != "ECHO from here", seen)
            sent = sum(each["client_type"] != "lua" for each in seen) - 1
        return Idle(calls / seconds, sent / seconds, cpu * 60 / seconds)


def cpu_seconds(pid: int) -> float:
    """What a process used so far, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tasks",
        type=int,
        default=10_000,
        help="of a run: a worker's first quarter of a second, which is slower, is to weigh little",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pools", default="prefork,solo,late")
    parser.add_argument("--round-trips", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=300.0, help="seconds for which an idle worker is watched")
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
        for pool, backend in itertools.product(("prefork", "solo"), ("redis", "elkmq")):
            ours, theirs = (1e3 * each for each in round_trips(server, pool, args.round_trips, backend))
            what = f"delay().get(), {pool}, results {backend}://"
            print(f"{what:38} {ours:5.2f} {theirs:9.2f} ms   {ours / theirs:6.2f}", flush=True)
        idlers = [idle(server, scheme, args.idle) for scheme in ("elkmq", "redis")]
        labels = ("idle worker, commands a second", "the same, without those of scripts", "its CPU, seconds a minute")
        for label, ours, theirs in zip(labels, *idlers, strict=True):
            print(f"{label:34} {ours:9.2f} {theirs:9.2f}      {ours / (theirs or math.nan):6.2f}", flush=True)


if __name__ == "__main__":
    main()
