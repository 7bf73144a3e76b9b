"""Queues, exchanges and routes as an app's configuration names them; quorum queues; prefetch, autoscale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from kombu import Exchange, Queue
from kombu.common import Broadcast

from tests.celery.conftest import CELERY, HERE, Site
from tests.waiting import eventually

since_5_5 = pytest.mark.skipif(CELERY < (5, 5), reason="Celery knows quorum queues since 5.5")


def test_routes_to_exchanges_and_queues(make_site: Callable[..., Site]) -> None:
    site = make_site(
        task_queues=[
            ("default", "default", "direct", "default"),
            ("videos", "media", "topic", "media.video.#"),
            ("media", "media", "topic", "media.#"),
        ],
        task_default_queue="default",
        task_default_exchange="default",
        task_default_routing_key="default",
    )
    site.worker("-n", HERE, "--without-mingle")
    site.app.conf.task_queues = [
        Queue("default", Exchange("default"), routing_key="default"),
        Queue("videos", Exchange("media", type="topic"), routing_key="media.video.#"),
    ]
    site.app.conf.task_routes = {
        "tests.celery.app.about": {"exchange": "media", "exchange_type": "topic", "routing_key": "media.image"},
        "tests.celery.app.mark": {"queue": "videos", "routing_key": "media.video.long"},
    }
    assert site.call("add", 1, 1).get(timeout=20) == 2
    seen = site.call("about").get(timeout=20)
    assert (seen["exchange"], seen["routing_key"]) == ("media", "media.image")
    site.call("mark", "twice")  # both queues are bound to its key
    site.wait_for("done twice", 2)


def test_a_broadcast_queue_reaches_every_worker(make_site: Callable[..., Site]) -> None:
    site = make_site(task_queues=[("news", "news", "broadcast", "")])
    for name in ("one@here", "two@here", "three@here"):
        site.worker("-n", name, "--without-mingle", pool="solo")
    site.app.conf.task_queues = [Broadcast("news")]
    site.app.conf.task_routes = {"tests.celery.app.mark": {"queue": "news", "exchange": "news"}}
    for n in range(3):
        site.call("mark", f"news {n}")
    for n in range(3):
        site.wait_for(f"done news {n}", 3)


def test_a_worker_of_some_queues(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.worker("-n", HERE, "--without-mingle", "-Q", "first,second", "-X", "celery", pool="solo")
    assert site.call("add", 1, 1, queue="first").get(timeout=20) == 2
    assert site.call("add", 1, 2, queue="second").get(timeout=20) == 3
    other = site.call("add", 1, 3)
    assert site.call("add", 1, 4, queue="first").get(timeout=20) == 5
    assert not other.ready()
    assert site.length() == 1


def test_queues_that_may_not_be_made_are_not_made(make_site: Callable[..., Site]) -> None:
    site = make_site(task_create_missing_queues=False)
    with pytest.raises(Exception, match="unknown"):
        site.call("add", 1, 1, queue="unknown")
    assert site.lanes("unknown") == []


@since_5_5
@pytest.mark.parametrize("detect", [True, False])
def test_quorum_queues(make_site: Callable[..., Site], detect: bool) -> None:
    """Celery's detection of quorum queues is for RabbitMQ only: it must neither break anything here nor delay by exchanges."""
    site = make_site(
        task_default_queue_type="quorum",
        task_default_queue="celery",
        worker_detect_quorum_queues=detect,
        broker_native_delayed_delivery_queue_type="quorum",
    )
    worker = site.worker("-n", HERE, "--without-mingle")
    assert site.call("add", 1, 1).get(timeout=20) == 2
    delayed = site.call("add", 1, 2, countdown=1)
    eventually(lambda: site.server.client().zcard("celery(delayed)") == 1, why="it to wait in the broker")
    assert delayed.get(timeout=20) == 3
    assert "ok" in site.ask("pool_grow", n=1)
    assert not site.server.client().keys("*celery_delayed*")
    assert not [line for line in worker.lines if "Traceback" in line]


def test_the_prefetch_multiplier(make_site: Callable[..., Site]) -> None:
    site = make_site(task_acks_late=True, worker_prefetch_multiplier=3)
    site.worker("-n", HERE, "--without-mingle", concurrency=2)
    gate = site.folder / "gate"
    held = [site.call("hold", f"held{n}", str(gate)) for n in range(10)]
    eventually(lambda: site.pending() == 6, why="two times three to be with the worker")
    assert site.inspect().stats()[HERE]["prefetch_count"] == 6
    assert (site.pending(), site.length()) == (6, 10)
    gate.touch()
    assert [result.get(timeout=30) for result in held] == [f"held{n}" for n in range(10)]


def test_prefetch_stays_within_its_limit_whatever_is_delayed(make_site: Callable[..., Site]) -> None:
    """On redis:// every task with an eta raises it (celery#6500) and waits in the worker's memory (celery#2218)."""
    site = make_site(worker_prefetch_multiplier=2)
    site.worker("-n", HERE, "--without-mingle", concurrency=1)
    results = [site.call("add", n, 1, countdown=0.5 + n / 100) for n in range(40)]
    far = [site.call("add", n, 1, countdown=3600) for n in range(40)]
    assert [result.get(timeout=30) for result in results] == list(range(1, 41))
    assert site.inspect().stats()[HERE]["prefetch_count"] == 2
    assert site.inspect().scheduled()[HERE] == []
    assert site.server.client().zcard("celery(delayed)") == len(far)
    assert site.pending() == 0


@pytest.mark.skipif(CELERY < (5, 6), reason="Celery has worker_disable_prefetch since 5.6")
def test_no_prefetch_at_all(make_site: Callable[..., Site]) -> None:
    site = make_site(worker_disable_prefetch=True, task_acks_late=True)
    one = site.worker("-n", "one@here", "--without-mingle", concurrency=1)
    gate = site.folder / "gate"
    held = site.call("hold", "held", str(gate))
    site.wait_for("start held")
    results = [site.call("add", n, 1) for n in range(4)]
    site.worker("-n", "two@here", "--without-mingle", pool="solo")
    assert [result.get(timeout=20) for result in results] == [1, 2, 3, 4]  # none is stuck behind the long one
    gate.touch()
    assert held.get(timeout=20) == "held"
    assert site.call("add", 1, 1).get(timeout=20) == 2
    assert not [line for line in one.lines if "disable_prefetch" in line]


def test_autoscale(make_site: Callable[..., Site]) -> None:
    site = make_site(task_acks_late=True, worker_prefetch_multiplier=1)
    site.worker("-n", HERE, "--without-mingle", "--autoscale", "4,1", AUTOSCALE_KEEPALIVE="1")

    def size() -> int:
        return len(site.inspect().stats()[HERE]["pool"]["processes"])

    assert size() == 1
    gate = site.folder / "gate"
    held = [site.call("hold", f"held{n}", str(gate)) for n in range(4)]
    for n in range(4):
        site.wait_for(f"start held{n}")
    assert size() == 4
    gate.touch()
    assert [result.get(timeout=20) for result in held] == [f"held{n}" for n in range(4)]
    eventually(lambda: size() == 1, 30, "the pool to shrink again")
    assert site.call("add", 1, 1).get(timeout=20) == 2


def test_events_and_commands_of_an_app_with_a_prefix(make_site: Callable[..., Site]) -> None:
    options: dict[str, Any] = {"global_keyprefix": "shop:"}
    site = make_site(broker_transport_options=options)
    site.worker("-n", HERE, "--without-mingle", pool="solo")
    assert site.call("add", 1, 1).get(timeout=20) == 2
    assert site.inspect().ping() == {HERE: {"ok": "pong"}}
    assert {key.split(b":", 1)[0] for key in site.server.client().keys("*")} == {b"shop"}


def test_a_task_that_expires_in_its_queue_goes_where_the_queue_says(make_site: Callable[..., Site]) -> None:
    """Who awaits it is told; of a queue with a dead letter exchange it is a dead letter, as in RabbitMQ."""
    dead = Queue("dead", Exchange("dlx", type="fanout"), routing_key="")
    site = make_site()
    site.app.conf.task_queues = [Queue("celery"), Queue("graves", queue_arguments={"x-dead-letter-exchange": "dlx"})]
    with site.app.connection_for_write() as connection:
        dead(connection.default_channel).declare()
    told = site.call("mark", "told", expires=0.01)
    delayed = site.call("mark", "delayed", expires=0.01, countdown=0.2)
    buried = site.call("mark", "buried", expires=0.01, queue="graves")
    site.worker("-n", HERE, "--without-mingle", pool="solo")
    for result in (told, delayed):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=20)
    eventually(lambda: site.length("dead") == 1, why="the dead letter to arrive")
    assert buried.state == "PENDING"
    assert site.lines() == []
