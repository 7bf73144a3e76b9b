"""How a worker ends: warm, soft and cold, by signal and by pool; what it was running, and what it had not begun."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.celery.conftest import CELERY, Site
from tests.waiting import Program, eventually

soft = pytest.mark.skipif(CELERY < (5, 5), reason="Celery has soft shutdown since 5.5")
cancels = pytest.mark.skipif(CELERY < (5, 5), reason="Celery 5.4 acknowledges what it kills, unless told to reject it")


def two_workers(make_site: Callable[..., Site], pool: str = "prefork", **conf: object) -> tuple[Site, Program]:
    """One in the middle of a task, with three more in hand; and another, which has nothing."""
    env = {name: conf.pop(name) for name in list(conf) if name.isupper()}
    site = make_site(
        task_acks_late=True, worker_prefetch_multiplier=4, broker_transport_options={"lease": 120}, **conf
    )  # fmt: skip
    one = site.worker("-n", "one@here", "--without-mingle", pool=pool, concurrency=1, **env)
    site.call("hold", "held", str(site.folder / "gate"))
    site.wait_for("start held")
    for n in range(3):
        site.call("mark", f"m{n}")
    if pool in ("prefork", "threads"):
        eventually(lambda: site.pending() == 4, why="the worker to have all four")
    site.worker("-n", "two@here", "--without-mingle", pool="threads", concurrency=1)
    return site, one


def ended(site: Site, one: Program, status: int | None = None) -> None:
    """It is gone, and signed off; what it had not begun was handed back at once, not after the lease."""
    one.wait(30, status=status)
    for n in range(3):
        site.wait_for(f"done m{n}")
    assert all(site.started()[f"m{n}"] == 1 for n in range(3))
    assert site.server.client().zcard("celery(consumers)") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_warm(make_site: Callable[..., Site], pool: str) -> None:
    if pool in ("gevent", "eventlet") and CELERY < (5, 6):
        pytest.skip("until Celery 5.6 these pools go on to run what was sent back")
    site, one = two_workers(make_site, pool)
    site.stop(one, pool, "one@here")
    one.wait_for("shutdown")
    (site.folder / "gate").touch()
    site.wait_for("done held")
    ended(site, one, 0)
    eventually(lambda: site.length() == 0, why="every acknowledgement")
    assert site.started()["held"] == 1


@cancels
def test_cold(make_site: Callable[..., Site]) -> None:
    site, one = two_workers(make_site)
    one.signal(signal.SIGQUIT)
    site.wait_for("start held", 2)
    (site.folder / "gate").touch()
    site.wait_for("done held")
    ended(site, one)
    eventually(lambda: site.length() == 0, why="every acknowledgement")
    assert site.lines().count("done held") == 1


@cancels
def test_sigterm_as_sigquit(make_site: Callable[..., Site]) -> None:
    site, one = two_workers(make_site, REMAP_SIGTERM="SIGQUIT")
    one.signal(signal.SIGTERM)
    site.wait_for("start held", 2)
    (site.folder / "gate").touch()
    ended(site, one)


@cancels
def test_ctrl_c_twice(make_site: Callable[..., Site]) -> None:
    site, one = two_workers(make_site)
    one.signal(signal.SIGINT)
    one.wait_for("Warm shutdown")  # not the line before it, "… will initiate cold shutdown": that is not so yet
    one.signal(signal.SIGINT)
    site.wait_for("start held", 2)
    (site.folder / "gate").touch()
    ended(site, one)


@soft
def test_a_soft_shutdown_lets_tasks_end(make_site: Callable[..., Site]) -> None:
    site, one = two_workers(make_site, worker_soft_shutdown_timeout=3)  # Celery always takes all of it
    one.signal(signal.SIGQUIT)
    one.wait_for("Initiating Soft Shutdown")
    (site.folder / "gate").touch()
    site.wait_for("done held")
    ended(site, one)
    eventually(lambda: site.length() == 0, why="every acknowledgement")
    assert site.started()["held"] == 1


@soft
def test_a_soft_shutdown_that_is_over_sends_tasks_back(make_site: Callable[..., Site]) -> None:
    site, one = two_workers(make_site, worker_soft_shutdown_timeout=1)
    one.signal(signal.SIGQUIT)
    site.wait_for("start held", 2)
    (site.folder / "gate").touch()
    ended(site, one)


def test_tasks_that_are_not_due_survive(make_site: Callable[..., Site]) -> None:
    site = make_site(broker_transport_options={"lease": 120})
    one = site.worker("-n", "one@here", "--without-mingle", pool="solo")
    result = site.call("add", 1, 1, countdown=2)
    eventually(lambda: site.server.client().zcard("celery(delayed)") == 1, why="it to wait in the broker")
    one.signal(signal.SIGQUIT)
    one.wait(30, status=None)
    site.worker("-n", "two@here", "--without-mingle", pool="solo")
    assert result.get(timeout=20) == 2


@soft
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
@pytest.mark.parametrize("patience", [0, 1])
def test_green_workers_with_nothing_to_do(make_site: Callable[..., Site], pool: str, patience: int) -> None:
    """Cold and soft: Celery's handler runs in the loop of these pools, where nothing can wait for the server."""
    if pool == "eventlet" and CELERY < (5, 7):
        pytest.skip("Celery's own handler writes through eventlet, which may refuse")
    site = make_site(broker_transport_options={"lease": 120}, worker_soft_shutdown_timeout=patience)
    one = site.worker("-n", "one@here", "--without-mingle", "--without-gossip", pool=pool)
    server = site.server.client()
    eventually(lambda: server.info("clients")["blocked_clients"] > 0, why="it to wait for tasks")
    one.signal(signal.SIGQUIT)
    one.wait(30)
    assert [line for line in one.lines if "Unrecoverable" in line or "Traceback" in line] == []
    assert site.server.client().zcard("celery(consumers)") == 0
