"""The demo's Celery app, with whose workers and callers the third part is played. Needs the extra ``celery``."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from elkmq.cli.demo.plan import LEASE, TASKS, WORK
from elkmq.cli.demo.records import DONE, READY, SENT, STARTED, Recorder

SCHEMES = {
    "redis": "elkmq", "rediss": "elkmqs", "unix": "elkmq+socket", "redis+sentinel": "elkmq+sentinel",
    "rediss+sentinel": "elkmqs+sentinel",
}  # fmt: skip


def broker_url(url: str) -> str | None:
    """A queue's url as one of Celery's; None where Celery is not installed, or the transport does not know the form."""
    scheme, _, rest = url.partition("://")
    if importlib.util.find_spec("celery") is None or scheme not in SCHEMES:
        return None
    return f"{SCHEMES[scheme]}://{rest}"


def make_app(url: str, queue: str) -> Any:
    """A Celery app on one queue, whose connections carry the queue's name."""
    from celery import Celery

    app = Celery(queue, broker=broker_url(url), set_as_current=False)
    app.conf.update(
        task_default_queue=queue, task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=10,
        worker_enable_remote_control=False, broker_connection_retry_on_startup=True,
        broker_transport_options={"lease": LEASE, "client_name": queue},
    )  # fmt: skip
    return app


def work(name: str, folder: str, queue: str, at_the_end: Callable[[Callable[[], None]], None]) -> None:
    """Be a Celery worker until the end."""
    from celery import signals

    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    app, record = make_app(os.environ["ELKMQ_URL"], queue), Recorder(folder, name)

    def handle(id_: str) -> None:
        record.write(STARTED, id_)
        time.sleep(WORK)
        record.write(DONE, id_)

    app.task(name="handle")(handle)
    signals.worker_ready.connect(lambda **_: record.write(READY), weak=False)
    at_the_end(lambda: os.kill(os.getpid(), signal.SIGTERM))
    quiet = ("--without-mingle", "--without-gossip", "--without-heartbeat")
    app.worker_main(["worker", "-P", "solo", "-l", "ERROR", "-n", f"{name}@%h", *quiet])


def call(name: str, folder: str, queue: str, begin: Callable[[], object]) -> None:
    """Call tasks."""
    app, record = make_app(os.environ["ELKMQ_URL"], queue), Recorder(folder, name)
    record.write(READY)
    begin()
    for _ in range(TASKS):
        id_ = str(uuid.uuid4())
        app.send_task("handle", [id_], task_id=id_)
        record.write(SENT, id_)
