"""The Celery app of these tests, configured by its environment; it notes what runs in a file, not in the broker."""

from __future__ import annotations

import ctypes
import json
import os
import time
from typing import Any

from celery import Celery, chain
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun
from kombu import Exchange, Queue
from kombu.common import Broadcast

from kombu_elkmq.tasks import CheckedTask

app = Celery("tests.celery.app", broker=os.environ.get("BROKER"), backend=os.environ.get("BACKEND"))
conf = json.loads(os.environ.get("CONF", "{}"))
if "task_queues" in conf:  # [name, exchange, type, key] each; a broadcast queue has the type "broadcast"
    conf["task_queues"] = [
        Broadcast(name, exchange=Exchange(exchange, type="fanout"))
        if kind == "broadcast"
        else Queue(name, Exchange(exchange, type=kind), routing_key=key)
        for name, exchange, kind, key in conf["task_queues"]
    ]
app.conf.update(broker_connection_retry_on_startup=True, **conf)


def note(text: str) -> None:
    """Add a line to the record, in one write."""
    with open(os.environ["RECORD"], "a", encoding="utf-8") as record:
        record.write(text + "\n")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def mark(text: str, seconds: float = 0) -> str:
    """Note that it starts, take its time, note that it is done."""
    note(f"start {text}")
    if seconds:
        time.sleep(seconds)
    note(f"done {text}")
    return text


@app.task
def limited(text: str) -> str:
    """`mark`, for a rate limit of its own."""
    return mark(text)


@app.task
def hold_the_lock(text: str, until: str) -> None:
    """Note that it starts, and hold Python's global lock, in C, until a file is there."""
    note(f"start {text}")
    libc = ctypes.PyDLL(None)  # unlike CDLL, it keeps the lock during a call
    command = f"timeout 30 sh -c 'until [ -e {until} ]; do sleep 0.05; done'"
    libc.system(command.encode())
    note(f"done {text}")


@app.task
def hold(text: str, until: str) -> str:
    """Note that it starts, and that it is done once a file is there."""
    note(f"start {text}")
    deadline = time.monotonic() + 60
    while not os.path.exists(until) and time.monotonic() < deadline:
        time.sleep(0.02)
    note(f"done {text}")
    return text


@app.task
def stubborn(text: str, until: str) -> str:
    """`hold`, which notes a soft time limit and ends with it."""
    note(f"start {text}")
    try:
        while not os.path.exists(until):
            time.sleep(0.02)
    except SoftTimeLimitExceeded:
        note(f"soft limit {text}")
        return "soft limit"
    return text


@app.task(bind=True, max_retries=3)
def flaky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def hopeless(self: Any, text: str) -> None:
    """Is tried three times in all, and fails."""
    note(f"try {text} {self.request.retries}")
    raise ValueError(text)


@app.task
def fail(text: str) -> None:
    note(f"start {text}")
    raise ValueError(text)


@app.task(bind=True)
def refuse(self: Any, text: str, requeue: bool) -> None:
    """Reject its message, the first time that it is handed out."""
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    note(f"refuse {text} {redelivered}")
    if not redelivered:
        raise Reject("no", requeue=requeue)


@app.task(bind=True)
def die(self: Any, text: str) -> None:
    """Kill the pool process that runs it."""
    note(f"start {text} {(self.request.delivery_info or {}).get('redelivered')}")
    os.kill(os.getpid(), 9)


@app.task(bind=True)
def instead(self: Any, x: int) -> Any:
    """Put a chain in its own place."""
    return self.replace(chain(add.s(x, 1), add.s(1)))


@app.task
def spread(texts: list[str], queue: str | None = None) -> list[str]:
    """Call a task for each text, from where tasks run."""
    return [mark.apply_async((text,), queue=queue).id for text in texts]


@app.task
def pid() -> int:
    return os.getpid()


@app.task
def swell(megabytes: int) -> int:
    """Have used so much memory."""
    return len(b"x" * (megabytes << 20)) and os.getpid()


@app.task(bind=True)
def about(self: Any) -> dict[str, Any]:
    request = self.request
    return {
        "eta": request.eta,
        "expires": request.expires,
        "timelimit": request.timelimit,
        "retries": request.retries,
        "hostname": request.hostname,
        "routing_key": request.delivery_info["routing_key"],
        "exchange": request.delivery_info["exchange"],
        "priority": request.delivery_info["priority"],
    }


@app.task(base=CheckedTask)
def checked(text: str, until: str | None = None) -> str:
    """Note that it starts, wait for a file where one is named, and return."""
    note(f"start {text}")
    deadline = time.monotonic() + 60
    while until and not os.path.exists(until) and time.monotonic() < deadline:
        time.sleep(0.02)
    return text


@app.task
def shapeless() -> object:
    """Return what no JSON can hold."""
    note("start shapeless")
    return object()


@app.task(acks_late=True)
def last_words(text: str) -> str:
    """Return; where ``LAST_WORDS`` is set, the worker is killed before it hears of it."""
    note(f"start {text}")
    return text


@task_postrun.connect
def kill_the_worker(sender: Any = None, **_: Any) -> None:
    """See `last_words`."""
    if os.environ.get("LAST_WORDS") and sender.name.endswith("last_words"):
        os.kill(os.getppid(), 9)
        os.kill(os.getpid(), 9)
