"""Connections lost for longer than a lease: Celery notices, and does what it is told to do with running tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.celery.conftest import HERE, Site
from tests.waiting import Program, eventually

LOST = "Connection to broker lost"


def cut_off(make_site: Callable[..., Site], **conf: object) -> tuple[Site, Program]:
    """A worker in the middle of a task, whose server was away for longer than its lease.

    It sends no heartbeat events: Celery waits for the server in the middle of one, for as long as it takes.
    """
    site = make_site(task_acks_late=True, broker_transport_options={"lease": 4, "socket_timeout": 1}, **conf)
    worker = site.worker("-n", HERE, "--without-mingle", "--without-heartbeat", concurrency=2)
    site.call("hold", "held", str(site.folder / "gate"))
    site.wait_for("start held")
    site.server.pause()
    worker.wait_for(LOST, 60)
    site.server.resume()
    return site, worker


def test_a_running_task_goes_on_unless_it_is_to_be_cancelled(make_site: Callable[..., Site]) -> None:
    site, worker = cut_off(make_site, worker_cancel_long_running_tasks_on_connection_loss=False)
    result = site.call("add", 1, 1)
    (
        site.folder / "gate"
    ).touch()  # before Celery 5.7 the pool may give a task to the busy process here, on redis:// too
    site.wait_for("done held")
    assert result.get(timeout=30) == 2
    eventually(lambda: site.length() == 0, 20, "every acknowledgement")
    assert not [line for line in worker.lines if "Terminating it instead" in line]


def test_a_running_task_is_cancelled_and_runs_again(make_site: Callable[..., Site]) -> None:
    site, worker = cut_off(make_site, worker_cancel_long_running_tasks_on_connection_loss=True)
    worker.wait_for("Terminating it instead")
    site.wait_for("start held", 2, 30)
    (site.folder / "gate").touch()
    site.wait_for("done held")
    eventually(lambda: site.length() == 0, 20, "every acknowledgement")
    assert site.lines().count("done held") == 1


@pytest.mark.parametrize("reduce", [True, False])
def test_the_prefetch_after_a_loss(make_site: Callable[..., Site], reduce: bool) -> None:
    site, worker = cut_off(make_site, worker_enable_prefetch_count_reduction=reduce, worker_prefetch_multiplier=2)
    if reduce:
        worker.wait_for("Temporarily reducing the prefetch count to 2")
    (site.folder / "gate").touch()
    site.wait_for("done held")
    for n in range(6):
        assert site.call("add", n, 1).get(timeout=30) == n + 1
    eventually(lambda: site.inspect().stats()[HERE]["prefetch_count"] == 4, 20, "the whole prefetch")
    assert ([line for line in worker.lines if "Temporarily reducing" in line] != []) is reduce
