"""The Celery app of these tests, configured by its environment; it notes what runs in a file, not in the broker."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery

app = Celery("tests.celery.app", broker=os.environ.get("BROKER"), backend=os.environ.get("BACKEND"))
app.conf.update(broker_connection_retry_on_startup=True, **json.loads(os.environ.get("CONF", "{}")))


def note(text: str) -> None:
    """Add a line to the record, in one write."""
    with open(os.environ["RECORD"], "a", encoding="utf-8") as record:
        record.write(text + "\n")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def mark(text: str, seconds: float = 0) -> str:
    """Note that it starts, take its time, note that it is done."""
    note(f"start {text}")
    if seconds:
        time.sleep(seconds)
    note(f"done {text}")
    return text


@app.task
def hold(text: str, until: str) -> str:
    """Note that it starts, and that it is done once a file is there."""
    note(f"start {text}")
    deadline = time.monotonic() + 60
    while not os.path.exists(until) and time.monotonic() < deadline:
        time.sleep(0.02)
    note(f"done {text}")
    return text


@app.task(bind=True, max_retries=3)
def flaky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True)
def die(self: Any, text: str) -> None:
    """Kill the pool process that runs it."""
    note(f"start {text} {(self.request.delivery_info or {}).get('redelivered')}")
    os.kill(os.getpid(), 9)


@app.task(bind=True)
def about(self: Any) -> dict[str, Any]:
    return {"eta": self.request.eta, "expires": self.request.expires, "timelimit": self.request.timelimit}
