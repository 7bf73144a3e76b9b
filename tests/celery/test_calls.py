"""Tasks called with a deadline, and tasks that are checked before they start, with real workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chain, signature

from elkmq.errors import InvalidOption, JSONDumpError, RequestFailed, TimeoutExpired
from kombu_elkmq import tasks
from kombu_elkmq.tasks import call
from tests.celery.conftest import Site
from tests.celery.test_faults import LEASE, _children, late
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _close_requesters() -> Iterator[None]:
    yield
    while tasks._queues:
        tasks._queues.popitem()[1][1].close()


def task(site: Site, name: str, *args: Any, **options: Any) -> Any:
    return signature(f"tests.celery.app.{name}", args, app=site.app, **options)


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_a_call_returns_the_result_without_a_result_backend(make_site: Callable[..., Site], pool: str) -> None:
    site = make_site(backend="disabled://")
    site.worker(pool=pool)
    assert call(task(site, "add", 2, 3), timeout=20) == 5
    assert call(task(site, "mark", kwargs={"text": "é 馬"}), timeout=20) == "é 馬"
    assert call(task(site, "checked", "c"), timeout=20) == "c"
    eventually(lambda: site.server.client().xlen("celery(event_stream)") == 0, why="all to be acknowledged")


def test_a_call_that_fails(make_site: Callable[..., Site]) -> None:
    site = make_site(backend="disabled://")
    site.worker(concurrency=1)
    with pytest.raises(RequestFailed, match=r"task tests.celery.app.add failed: TypeError: .*NoneType"):
        call(task(site, "add", 2, None), timeout=20)
    with pytest.raises(RequestFailed, match=r"the task is done, and its result cannot be sent as JSON"):
        call(task(site, "shapeless"), timeout=20)
    assert call(task(site, "flaky"), timeout=20) == 2  # answered when the last retry is done
    with pytest.raises(JSONDumpError, match="nothing was sent"):
        call(task(site, "mark", object()), timeout=20)
    with pytest.raises(TypeError, match="several tasks"):
        call(chain(task(site, "add", 1, 1), task(site, "add", 1)), timeout=20)
    eventually(lambda: site.server.client().xlen("celery(event_stream)") == 0, why="all to be acknowledged")


def test_a_call_goes_where_the_task_is_routed(make_site: Callable[..., Site]) -> None:
    site = make_site(task_routes={"tests.celery.app.pid": {"queue": "elsewhere"}})
    worker = site.worker("-Q", "elsewhere", pool="solo")
    assert call(task(site, "pid"), timeout=20) == worker.pid
    assert call(task(site, "mark", "x"), timeout=20, queue="elsewhere") == "x"


def test_a_call_that_nobody_takes_in_time_is_never_started(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with pytest.raises(TimeoutExpired):
        call(task(site, "mark", "late"), timeout=0.3)
    site.worker(concurrency=1)
    assert call(task(site, "add", 1, 1), timeout=20) == 2
    assert "start late" not in site.lines()


def test_a_call_is_stopped_when_its_time_is_over(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.worker(concurrency=1)
    with pytest.raises(TimeoutExpired):
        call(task(site, "mark", "long", 30), timeout=2)
    assert call(task(site, "add", 1, 1), timeout=20) == 2
    assert site.lines() == ["start long"]


def test_a_call_whose_time_passes_while_all_processes_are_busy(make_site: Callable[..., Site]) -> None:
    site = make_site(worker_prefetch_multiplier=4)
    gate = site.folder / "gate"
    worker = site.worker(concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    with pytest.raises(TimeoutExpired):
        call(task(site, "mark", "late"), timeout=1)
    eventually(lambda: any("mark[" in line and "received" in line for line in worker.lines), why="it to be taken")
    gate.touch()
    assert call(task(site, "add", 1, 1), timeout=20) == 2
    assert "start late" not in site.lines()


def test_a_call_survives_the_worker_that_had_it(make_site: Callable[..., Site]) -> None:
    site = late(make_site)
    gate = site.folder / "gate"
    one = site.worker("-n", "one@here", concurrency=1)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(call(task(site, "checked", "c", str(gate)), timeout=60)))
    caller.start()
    site.wait_for("start c")
    children = [int(each) for each in _children(one.pid)]
    one.kill()
    for child in children:
        os.kill(child, signal.SIGKILL)
    gate.touch()
    site.worker("-n", "two@here", concurrency=1)
    caller.join(60)
    assert answers == ["c"]
    assert site.lines() == ["start c", "start c"]


def test_answered_and_acknowledged_in_one_step(make_site: Callable[..., Site]) -> None:
    """The worker dies between the task's end and hearing of it: the caller has the result, and nobody runs it again."""
    site = late(make_site)
    site.worker("-n", "one@here", concurrency=1, LAST_WORDS="1")
    assert call(task(site, "last_words", "once"), timeout=20) == "once"
    site.worker("-n", "two@here", concurrency=1)
    client = site.server.client()
    eventually(lambda: client.zcard("celery(consumers)") == 1, 20, "the dead worker to be taken over from")
    assert call(task(site, "add", 1, 1), timeout=20) == 2
    assert site.lines() == ["start once"]


@pytest.mark.parametrize("how", ["task", "call"])
def test_a_task_that_was_taken_over_is_not_started_by_who_had_it(make_site: Callable[..., Site], how: str) -> None:
    """A pool process is stopped before it reads its task, then the worker; another one takes over; the process goes on."""
    site = late(make_site)
    one = site.worker("-n", "one@here", concurrency=1)
    (child,) = (int(each) for each in _children(one.pid))
    assert site.call("add", 1, 1).get(timeout=20) == 2
    look = site.app.control.inspect(timeout=1)
    eventually(lambda: (look.active() or {}).get("one@here") == [], why="the worker to know that the process is free")
    os.kill(child, signal.SIGSTOP)
    sent: Callable[[], Any] = (
        (lambda: site.call("checked", "c").get(timeout=60))
        if how == "task"
        else (lambda: call(task(site, "checked", "c"), timeout=60))
    )
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(sent()))
    caller.start()
    one.wait_for("checked[")
    # Passes of the worker's loop, in the first of which it writes the task to the process's pipe.
    for _ in range(2):
        assert site.app.control.ping(timeout=1)
    one.pause()
    site.worker("-n", "two@here", concurrency=1)
    caller.join(40 + LEASE)
    assert answers == ["c"]
    os.kill(child, signal.SIGCONT)
    one.resume()
    one.wait_for("was not started: it is not this worker's any more", timeout=20)
    assert site.lines() == ["start c"]


def test_another_broker_is_refused(make_site: Callable[..., Site]) -> None:
    site = make_site(broker="memory://")
    with pytest.raises(InvalidOption, match="not elkmq://"):
        call(task(site, "add", 1, 1), timeout=1)


@pytest.mark.parametrize("option", [{"countdown": 1}, {"link": "x"}, {"expires": 5}])
def test_a_call_refuses_what_it_would_not_keep(make_site: Callable[..., Site], option: dict[str, Any]) -> None:
    site = make_site()
    with pytest.raises(InvalidOption, match=f"{next(iter(option))}.*apply_async"):
        call(task(site, "add", 2, 3).set(**option))
    with pytest.raises(InvalidOption, match="nothing was sent"):
        call(task(site, "add", 2, 3), **option)
    assert site.server.client().exists("celery(event_stream)") == 0
