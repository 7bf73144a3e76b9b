"""What Celery does over its broker, with real workers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from celery import chain, group
from celery.exceptions import TaskRevokedError

from elkmq import EventQueue, ServiceEvent, TimeoutExpired
from tests.celery.conftest import HERE, Site
from tests.waiting import eventually

POOLS = ["prefork", "solo", "threads", "gevent", "eventlet"]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("backend", ["redis", "elkmq", "rpc"])
def test_a_worker_runs_tasks_and_answers(make_site: Callable[..., Site], pool: str, backend: str) -> None:
    site = make_site(backend=f"{backend}://")
    worker = site.worker("-n", HERE, pool=pool)
    results = [site.call("add", n, 1) for n in range(30)]
    assert [result.get(timeout=20) for result in results] == list(range(1, 31))
    assert site.call("flaky").get(timeout=20) == 2
    assert group(site.signature("add", n, n) for n in range(4))().get(timeout=20) == [0, 2, 4, 6]
    assert chain(site.signature("add", 1, 1), site.signature("add", 2))().get(timeout=20) == 4
    assert all(site.inspect().ping() == {HERE: {"ok": "pong"}} for _ in range(2))
    stats = site.inspect().stats()[HERE]
    assert stats["total"]["tests.celery.app.add"] >= 30
    site.stop(worker, pool)
    worker.wait(30)
    assert eventually(lambda: site.server.client().zcard("celery(consumers)") == 0, why="the consumer to sign off")
    assert not [line for line in worker.lines if "Traceback" in line or "UserWarning" in line]


def test_a_delayed_task_waits_in_the_broker(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.worker("-n", HERE)
    started = time.monotonic()
    soon = site.call("about", countdown=1)
    far = site.call("add", 1, 1, eta=datetime.now(timezone.utc) + timedelta(hours=5))
    eventually(lambda: site.server.client().zcard("celery(delayed)") == 2, why="both to wait in the broker")
    assert site.inspect().scheduled()[HERE] == []
    assert soon.get(timeout=10)["eta"] is None
    assert time.monotonic() - started >= 1
    assert not far.ready()


def test_expires_and_revoke(make_site: Callable[..., Site]) -> None:
    site = make_site()
    late = site.call("mark", "late", expires=0.2)
    worker = site.worker(concurrency=1)
    gone = site.call("mark", "revoked", countdown=1)
    site.app.control.revoke(gone.id)
    assert site.call("add", 1, 1, countdown=1.2).get(timeout=10) == 2
    with pytest.raises(TaskRevokedError):
        gone.get(timeout=10)
    assert site.lines() == []
    with pytest.raises(TaskRevokedError):  # as on redis://, also where it expired before a worker had it
        late.get(timeout=10)
    held = site.call("hold", "h", str(site.folder / "never"))
    site.wait_for("start h")
    site.app.control.revoke(held.id, terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        held.get(timeout=10)
    assert site.call("add", 2, 2).get(timeout=10) == 4
    worker.signal(signal.SIGTERM)
    worker.wait(30)


def test_priorities(make_site: Callable[..., Site]) -> None:
    site = make_site(worker_prefetch_multiplier=1, task_acks_late=True)
    for n in range(3):
        site.call("mark", f"low{n}")
    for n in range(3):
        site.call("mark", f"high{n}", priority=9)
    site.worker(pool="solo")
    site.wait_for("done low2")
    assert [line for line in site.lines() if line.startswith("start")][:3] == [f"start high{n}" for n in range(3)]


def test_events_of_tasks(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("-E", "-n", "one@here")
    assert site.app.control.purge() == 0
    seen, calls = [], []
    with site.app.connection_for_read() as connection:
        receiver = site.app.events.Receiver(connection, handlers={"task-succeeded": seen.append})

        def captured() -> bool:
            calls.append(site.call("add", 1, 2))
            receiver.capture(limit=1, timeout=0.5, wakeup=False)
            return bool(seen)

        eventually(captured, why="the event of a finished task", ignoring=(TimeoutError,))
    # Celery 5.7 takes 30 s more to end, on redis:// too, where a pool process has just begun what it was handed.
    assert [call.get(timeout=10) for call in calls] == [3] * len(calls)
    site.app.control.broadcast("shutdown")
    worker.wait(30)


def test_two_workers_know_each_other(make_site: Callable[..., Site]) -> None:
    site = make_site()
    one = site.worker("-n", "one@here", pool="solo")
    two = site.worker("-n", "two@here", pool="solo")
    two.wait_for("mingle: sync with 1 nodes")
    one.wait_for("two@here")
    assert len(site.app.control.ping(timeout=20, limit=2)) == 2
    two.signal(signal.SIGTERM)
    two.wait(30)
    assert site.call("add", 1, 1).get(timeout=10) == 2


def test_nothing_is_left_behind_by_readers_that_went(make_site: Callable[..., Site]) -> None:
    site = make_site(backend="rpc://")
    worker = site.worker(pool="solo")
    for _ in range(3):
        site.app.control.ping(timeout=0.3)
        assert site.call("add", 1, 1).get(timeout=10) == 2
    worker.signal(signal.SIGTERM)
    worker.wait(30)
    site.app.close()
    streams = {key.decode() for key in site.server.client().keys("*(event_stream*") if key[:7] != b"celery("}
    assert {name for name in streams if "pidbox" in name or "celeryev" in name} == set()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_plain_event_runs_as_a_task_and_is_answered(make_site: Callable[..., Site], pool: str) -> None:
    site = make_site()
    site.worker(pool=pool)
    with EventQueue("celery", site.server.url) as queue:
        answer = queue.await_response(ServiceEvent(20, "tests.celery.app.add", "[2, 3]"))
        assert json.loads(answer.event.payload or "") == 5
        answer = queue.await_response(ServiceEvent(20, "tests.celery.app.mark", '{"text": "é"}'))
        assert json.loads(answer.event.payload or "") == "é"
        late = ServiceEvent(1, "tests.celery.app.mark", '["slow", 5]')
        with pytest.raises(TimeoutExpired):
            queue.await_response(late)
        queue.enqueue(ServiceEvent(20, "tests.celery.app.mark", '{"kwargs": {"text": "told"}}'))
        site.wait_for("done told")
