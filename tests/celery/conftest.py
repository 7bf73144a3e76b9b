"""Real Celery workers on real servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import kombu_elkmq
from tests.servers import Server
from tests.waiting import Program, eventually

kombu_elkmq.register()


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
        backend = self._conf.pop("backend", results.url)
        self.env = {
            "BROKER": self.broker,
            "BACKEND": backend,
            "RECORD": str(self.record),
            "CONF": json.dumps(self._conf),
        }
        self.app = Celery("tests.celery.app", broker=self.broker, backend=backend, set_as_current=False)
        self.app.conf.update(**self._conf)
        self._results: list[Any] = []
        closing.callback(self._close)

    def worker(self, *args: str, pool: str = "prefork", concurrency: int = 2, **env: str) -> Program:
        """A worker that is ready."""
        if pool in ("gevent", "eventlet"):
            pytest.importorskip(pool)
        command = [sys.executable, "-m", "celery", "-A", "tests.celery.app", "worker", "-l", "INFO", "-P", pool]
        command += ["-c", str(concurrency), *args]
        program = self._closing.enter_context(Program(command=command, env={**self.env, **env}, merge=True))
        program.wait_for(" ready.", timeout=40)
        return program

    def call(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a task of the app."""
        self._results.append(self.app.send_task(f"tests.celery.app.{task}", args, **options))
        return self._results[-1]

    def _close(self) -> None:
        for result in self._results:
            result.backend = None  # or it speaks to the server when it is garbage, after the last test
        self.app.close()

    def lines(self) -> list[str]:
        """What ran."""
        return self.record.read_text().splitlines() if self.record.exists() else []

    def wait_for(self, line: str, count: int = 1, timeout: float = 20.0) -> None:
        """Wait until a line was written so often."""
        eventually(lambda: self.lines().count(line) >= count, timeout, f"{count} times {line!r} in the record")


@pytest.fixture
def make_site(
    fast_server: Server, make_server: Callable[..., Server], tmp_path: Path, closing: ExitStack
) -> Callable[..., Site]:
    """``make_site(server=None, broker=None, **conf)``: a `Site`; by default on a server of its own."""

    def make(server: Server | None = None, broker: str | None = None, **conf: Any) -> Site:
        return Site(server or make_server(), fast_server, tmp_path, closing, broker, **conf)

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A `Site` with Celery's defaults."""
    return make_site()  # type: ignore[return-value]
