"""When a task's message is done with, and what becomes of it otherwise: late and early, failures, limits, pool processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import TimeLimitExceeded

from tests.celery.conftest import CELERY, HERE, Site
from tests.waiting import eventually

QUICK = {"worker_lost_wait": 0.5}
"""Celery waits 10 s for the result of a pool process that died."""


@pytest.fixture(scope="module")
def late(open_site: Callable[..., Site]) -> Site:
    """A prefork worker whose tasks are acknowledged when they are done."""
    site = open_site(task_acks_late=True, broker_transport_options={"lease": 60}, **QUICK)
    site.worker("-n", HERE, "--without-mingle")
    return site


@pytest.fixture(scope="module")
def choosy(open_site: Callable[..., Site]) -> Site:
    """One where only success acknowledges."""
    site = open_site(task_acks_late=True, task_acks_on_failure_or_timeout=False, **QUICK)
    site.worker("-n", HERE, "--without-mingle")
    return site


def nothing_left(site: Site) -> None:
    eventually(lambda: site.length() == 0, why="every message to be acknowledged")


def test_early_acknowledgement_is_at_most_once(make_site: Callable[..., Site]) -> None:
    site = make_site(broker_transport_options={"lease": 1})
    worker = site.worker("--without-mingle", pool="threads")
    site.call("hold", "early", str(site.folder / "never"))
    site.wait_for("start early")
    nothing_left(site)
    worker.kill()
    site.worker("--without-mingle", pool="threads")
    assert site.call("add", 1, 1).get(timeout=20) == 2
    assert site.started()["early"] == 1


def test_late_acknowledgement_comes_after_the_task(late: Site) -> None:
    gate = late.folder / "gate"
    result = late.call("hold", "late", str(gate))
    late.wait_for("start late")
    assert late.pending() == 1
    gate.touch()
    assert result.get(timeout=20) == "late"
    nothing_left(late)


def test_a_failure_is_an_end(late: Site) -> None:
    with pytest.raises(ValueError, match="failed"):
        late.call("fail", "failed").get(timeout=20)
    nothing_left(late)
    assert late.started()["failed"] == 1
    assert late.dead() == []


def test_a_lost_pool_process_is_an_end_unless_asked_otherwise(late: Site) -> None:
    with pytest.raises(WorkerLostError):
        late.call("die", "lost").get(timeout=30)
    nothing_left(late)
    assert late.call("add", 1, 1).get(timeout=20) == 2
    assert [line for line in late.lines() if line.startswith("start lost")] == ["start lost False"]


def test_a_failure_that_does_not_acknowledge_is_a_dead_letter(choosy: Site) -> None:
    before = len(choosy.dead())
    with pytest.raises(ValueError, match="refused"):
        choosy.call("fail", "refused").get(timeout=20)
    eventually(lambda: len(choosy.dead()) == before + 1, why="the dead letter")
    assert choosy.dead()[-1] == b"rejected"
    nothing_left(choosy)
    assert choosy.started()["refused"] == 1


def test_the_hard_time_limit(late: Site) -> None:
    with pytest.raises(TimeLimitExceeded):
        late.call("hold", "hard", str(late.folder / "never"), time_limit=1).get(timeout=30)
    nothing_left(late)
    assert late.call("add", 1, 1).get(timeout=20) == 2
    assert late.started()["hard"] == 1
    assert late.dead() == []


@pytest.mark.skipif(CELERY < (5, 7), reason="Celery before 5.7 does not send back what it kills")
def test_a_hard_time_limit_that_does_not_acknowledge_sends_the_message_back(make_site: Callable[..., Site]) -> None:
    site = make_site(task_acks_late=True, task_acks_on_failure_or_timeout=False)
    site.worker("--without-mingle", concurrency=1)
    with pytest.raises(TimeLimitExceeded):
        site.call("hold", "hard", str(site.folder / "never"), time_limit=1).get(timeout=30)
    site.wait_for("start hard", 2)
    assert site.call("add", 1, 1).get(timeout=20) == 2


def test_the_soft_time_limit(late: Site) -> None:
    result = late.call("stubborn", "soft", str(late.folder / "never"), soft_time_limit=1)
    assert result.get(timeout=30) == "soft limit"
    late.wait_for("soft limit soft")
    nothing_left(late)


def test_a_message_that_a_task_rejects(late: Site) -> None:
    late.call("refuse", "again", True)
    late.wait_for("refuse again True")
    before = len(late.dead())
    late.call("refuse", "never", False)
    eventually(lambda: len(late.dead()) == before + 1, why="the dead letter")
    nothing_left(late)
    assert [line for line in late.lines() if line.startswith("refuse never")] == ["refuse never False"]


def test_a_task_that_nobody_knows_is_a_dead_letter(late: Site) -> None:
    before = len(late.dead())
    late.call("nobody_knows", 1)
    eventually(lambda: len(late.dead()) == before + 1, why="the dead letter")
    assert late.call("add", 1, 1).get(timeout=20) == 2


def test_pool_processes_are_replaced_after_so_many_tasks(make_site: Callable[..., Site]) -> None:
    site = make_site(task_acks_late=True)
    site.worker("--without-mingle", "--max-tasks-per-child", "3", concurrency=1)
    pids = [site.call("pid").get(timeout=20) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
    nothing_left(site)


def test_pool_processes_are_replaced_beyond_their_memory(make_site: Callable[..., Site]) -> None:
    site = make_site(task_acks_late=True)
    site.worker("--without-mingle", "--max-memory-per-child", str(150 << 10), concurrency=1)
    first = site.call("pid").get(timeout=20)
    assert site.call("swell", 200).get(timeout=20) == first
    assert site.call("pid").get(timeout=20) != first
    nothing_left(site)


def test_short_tasks_do_not_wait_behind_a_long_one(make_site: Callable[..., Site]) -> None:
    site = make_site(worker_prefetch_multiplier=8)
    site.worker("--without-mingle", "-O", "fair")
    gate = site.folder / "gate"
    held = site.call("hold", "long", str(gate))
    site.wait_for("start long")
    assert [site.call("add", n, 1).get(timeout=20) for n in range(12)] == list(range(1, 13))
    gate.touch()
    assert held.get(timeout=20) == "long"
