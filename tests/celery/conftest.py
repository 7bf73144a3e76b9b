"""Real Celery workers on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery, signature
from celery.result import AsyncResult
from kombu.pools import connections, producers

import kombu_elkmq
from tests.servers import Binary, Server, default_binary
from tests.waiting import ROOT, Program, eventually

kombu_elkmq.register()

# A result of Celery's that is garbage speaks to its server: after the last test, when there is none, for 20 seconds; and for ever
# where that is found while redis-py before 6 holds its lock, which no thread can take twice there.
AsyncResult.__del__ = lambda _: None

CELERY = tuple(int(part) for part in celery.__version__.split(".")[:2])
"""Which Celery this is, for what older ones lack."""

HERE = "one@here"
"""The name of a worker that tests share."""


class Site:
    """A Celery app, its workers, and the record of what ran."""

    def __init__(
        self, server: Server, results: Server, folder: Path, closing: ExitStack, broker: str | None, **conf: Any
    ) -> None:
        self.server = server
        self.broker = broker or server.url.replace("redis", "elkmq", 1)
        self.record = folder / "record"
        self.folder = folder
        self._closing = closing
        self._conf = {"result_expires": 60, **conf}
        # Not the broker's server: Celery's results speak to it when they are garbage, after the broker stopped.
        backend = self._conf.pop("backend", "redis://")
        if backend != "rpc://":
            backend = results.url.replace("redis://", backend, 1)
        self.env = {
            "BROKER": self.broker,
            "BACKEND": backend,
            "RECORD": str(self.record),
            "CONF": json.dumps(self._conf),
        }
        self.app = Celery("tests.celery.app", broker=self.broker, backend=backend, set_as_current=False)
        self.app.conf.update(**{name: value for name, value in self._conf.items() if name != "task_queues"})
        closing.callback(self._close)

    def worker(self, *args: str, pool: str = "prefork", concurrency: int = 2, **env: str) -> Program:
        """A worker that is ready."""
        if pool in ("gevent", "eventlet"):
            pytest.importorskip(pool)
        return self.program(
            "worker", "-l", "INFO", "-P", pool, "-c", str(concurrency), *args, ready=" ready.", env=env
        )  # fmt: skip

    def program(self, *args: str, ready: str, env: dict[str, str] | None = None) -> Program:
        """``celery ARGS`` with the app, once it says that it is ready."""
        command = [sys.executable, "-m", "celery", "-A", "tests.celery.app", *args]
        program = self._closing.enter_context(Program(command=command, env={**self.env, **(env or {})}, merge=True))
        program.wait_for(ready, timeout=40)
        return program

    def celery(self, *args: str, status: int = 0) -> str:
        """What ``celery ARGS`` prints, once it has ended."""
        ended = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tests.celery.app", *args],
            env={**os.environ, **self.env, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout

    def signature(self, task: str, *args: Any, **options: Any) -> Any:
        """A task of the app to build canvases of."""
        return signature(f"tests.celery.app.{task}", args, app=self.app, **options)

    def call(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a task of the app."""
        return self.app.send_task(f"tests.celery.app.{task}", args, **options)

    def inspect(self, worker: str = HERE) -> Any:
        """Questions to one worker: its answer ends the wait."""
        return self.app.control.inspect(destination=[worker], timeout=15)

    def ask(self, command: str, *, worker: str = HERE, **arguments: Any) -> Any:
        """Have one worker do something; returns its answer."""
        (answer,) = self.app.control.broadcast(
            command, arguments=arguments, destination=[worker], reply=True, timeout=15, limit=1
        )
        return answer[worker]

    def stop(self, worker: Program, pool: str = "prefork", name: str = HERE) -> None:
        """Warm shutdown, by SIGTERM."""
        if pool == "eventlet" and CELERY < (5, 7):
            # Its signal handler writes through eventlet, which may refuse ("do not call blocking functions").
            self.app.control.shutdown(destination=[name])
        else:
            worker.signal(signal.SIGTERM)

    def _close(self) -> None:
        for pool in (self.app.producer_pool, self.app.pool):
            pool.force_close_all()  # while there is a server to say goodbye to
        broker = self.app.connection_for_write()
        for group in (producers, connections):
            with suppress(KeyError):
                del group[broker]  # a later server may have this one's port: its site would be given closed pools
        self.app.close()

    def lines(self) -> list[str]:
        """What ran."""
        return self.record.read_text().splitlines() if self.record.exists() else []

    def started(self) -> Counter[str]:
        """What was started, and how often."""
        return Counter(line.removeprefix("start ") for line in self.lines() if line.startswith("start "))

    def wait_for(self, line: str, count: int = 1, timeout: float = 20.0) -> None:
        """Wait until a line was written so often."""
        eventually(lambda: self.lines().count(line) >= count, timeout, f"{count} times {line!r} in the record")

    def pending(self, queue: str = "celery") -> int:
        """Messages of a queue that are with workers, unacknowledged."""
        return sum(int(self.server.client().xpending(lane, "elkmq")["pending"]) for lane in self.lanes(queue))

    def length(self, queue: str = "celery") -> int:
        """Messages of a queue, those with workers counted."""
        return sum(self.server.client().xlen(lane) for lane in self.lanes(queue))

    def lanes(self, queue: str) -> list[str]:
        """The streams of a queue's messages."""
        found = self.server.client().keys(f"{queue}(event_stream*")
        return [key.decode() for key in found]

    def dead(self, queue: str = "celery") -> list[bytes]:
        """Why each dead letter of a queue is one."""
        return [fields[b"reason"] for _, fields in self.server.client().xrange(f"{queue}(dead_letters)")]


@pytest.fixture
def make_site(
    fast_server: Server, make_server: Callable[..., Server], tmp_path: Path, closing: ExitStack
) -> Callable[..., Site]:
    """``make_site(server=None, broker=None, **conf)``: a `Site`; by default on a server of its own."""

    def make(server: Server | None = None, broker: str | None = None, **conf: Any) -> Site:
        return Site(server or make_server(), fast_server, tmp_path, closing, broker, **conf)

    return make


@pytest.fixture(scope="module")
def open_site(
    _shared_servers: Callable[[Binary], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Site]]:
    """``open_site(**conf)``: a `Site` that the tests of a module share, with whatever workers it is given."""
    with ExitStack() as closing:

        def make(**conf: Any) -> Site:
            folder = tmp_path_factory.mktemp("site")
            results = _shared_servers(default_binary())
            return Site(closing.enter_context(Server()), results, folder, closing, None, **conf)

        yield make
