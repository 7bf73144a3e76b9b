"""Remote control and Celery's command line, over one worker that the tests share."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from celery.exceptions import TaskRevokedError

from tests.celery.conftest import HERE, Site
from tests.waiting import Program, eventually


@pytest.fixture(scope="module")
def running(open_site: Callable[..., Site]) -> tuple[Site, Program]:
    site = open_site(worker_pool_restarts=True)
    return site, site.worker("-n", HERE, "--without-mingle")


@pytest.fixture
def site(running: tuple[Site, Program]) -> Site:
    return running[0]


def pool(site: Site) -> list[int]:
    """The pool's processes, by the worker's own account."""
    return list(site.inspect().stats()[HERE]["pool"]["processes"])


def test_status_and_inspect(site: Site) -> None:
    assert f"{HERE}: OK" in site.celery("status")
    gate = site.folder / "inspected"
    held = site.call("hold", "inspected", str(gate))
    site.wait_for("start inspected")
    (active,) = json.loads(site.celery("inspect", "-j", "-d", HERE, "active"))[HERE]
    assert (active["id"], active["name"]) == (held.id, "tests.celery.app.hold")
    inspect = site.inspect()
    assert inspect.query_task(held.id)[HERE][held.id][0] == "active"
    assert inspect.ping()[HERE] == {"ok": "pong"}
    assert inspect.reserved()[HERE] == inspect.scheduled()[HERE] == inspect.revoked()[HERE] == []
    stats = inspect.stats()[HERE]
    assert stats["broker"]["transport"] == "elkmq"
    assert str(stats["broker"]["port"]) in site.broker
    assert "tests.celery.app.add" in inspect.registered()[HERE]
    assert [queue["name"] for queue in inspect.active_queues()[HERE]] == ["celery"]
    assert inspect.conf()[HERE]["worker_pool_restarts"] is True
    assert "elkmq" in inspect.report()[HERE]["ok"]
    assert inspect.clock()[HERE]["clock"] > 0
    gate.touch()
    assert held.get(timeout=20) == "inspected"


def test_purge_on_the_command_line(site: Site) -> None:
    for _ in range(3):
        site.call("add", 1, 1, queue="nobody")
    assert "Purged 3 messages" in site.celery("purge", "-f", "-Q", "nobody")
    assert site.length("nobody") == 0
    assert "No messages purged" in site.celery("purge", "-f", "-Q", "nobody")


def test_call_result_and_bindings_on_the_command_line(site: Site) -> None:
    task_id = site.celery("call", "tests.celery.app.add", "-a", "[2, 3]").strip()
    assert site.app.AsyncResult(task_id).get(timeout=20) == 5
    assert site.celery("result", task_id).strip() == "5"
    bindings = site.celery("list", "bindings")
    assert "celeryev" in bindings
    assert "pidbox" in bindings


def test_events_on_the_command_line(site: Site) -> None:
    assert "task events enabled" in site.celery("control", "-d", HERE, "enable_events")
    events = site.program("events", "--dump", ready="heartbeat")
    site.call("add", 5, 6)
    for kind in ("task received", "task started", "task succeeded"):
        events.wait_for(kind)
    assert "task events disabled" in site.celery("control", "-d", HERE, "disable_events")


def test_control(site: Site) -> None:
    said = site.celery("control", "-d", HERE, "rate_limit", "tests.celery.app.about", "5/s")
    assert "new rate limit set" in said
    assert "ok" in site.ask("time_limit", task_name="tests.celery.app.about", soft=30, hard=60)
    before = len(pool(site))
    assert "ok" in site.ask("pool_grow", n=2)
    eventually(lambda: len(pool(site)) == before + 2, why="two more")
    assert "ok" in site.ask("pool_shrink", n=2)
    eventually(lambda: len(pool(site)) == before, why="two fewer")
    assert site.call("add", 1, 2).get(timeout=20) == 3


def test_queues_come_and_go(site: Site) -> None:
    assert "add consumer" in site.celery("control", "-d", HERE, "add_consumer", "further")
    assert site.call("add", 1, 2, queue="further").get(timeout=20) == 3
    assert "ok" in site.ask("cancel_consumer", queue="further")
    waiting = site.call("add", 1, 2, queue="further")
    assert site.call("add", 1, 2).get(timeout=20) == 3
    assert not waiting.ready()
    assert site.length("further") == 1
    assert "ok" in site.ask("add_consumer", queue="further")
    assert waiting.get(timeout=20) == 3


def test_a_consumer_that_is_added_with_its_exchange(site: Site) -> None:
    answer = site.ask(
        "add_consumer", queue="letters", exchange="post", exchange_type="topic", routing_key="letter.#"
    )  # fmt: skip
    assert "ok" in answer
    # The worker answers first and declares then.
    eventually(lambda: "letters" in {queue["name"] for queue in site.ask("active_queues")}, why="the queue")
    with site.app.producer_pool.acquire(block=True) as producer:
        result = site.app.send_task(
            "tests.celery.app.about", exchange="post", routing_key="letter.de.berlin", producer=producer
        )  # fmt: skip
    seen = result.get(timeout=20)
    assert (seen["exchange"], seen["routing_key"]) == ("post", "letter.de.berlin")
    assert "ok" in site.ask("cancel_consumer", queue="letters")


def test_rate_limits(site: Site) -> None:
    assert "ok" in site.ask("rate_limit", task_name="tests.celery.app.limited", rate_limit="1/h")
    for n in range(4):
        site.call("limited", f"limited {n}")
    site.wait_for("done limited 0")
    assert [site.call("add", n, 1).get(timeout=20) for n in range(4)] == [1, 2, 3, 4]
    assert sum(1 for text in site.started() if text.startswith("limited")) == 1


def test_revoking(site: Site) -> None:
    first = site.call("hold", "revoked", str(site.folder / "never"))
    site.wait_for("start revoked")
    site.app.control.terminate(first.id, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        first.get(timeout=20)
    delayed = site.call("mark", "revoked while delayed", countdown=1)
    site.app.control.revoke(delayed.id)
    with pytest.raises(TaskRevokedError):
        delayed.get(timeout=20)
    assert "start revoked while delayed" not in site.lines()


def test_revoking_by_stamped_headers(site: Site) -> None:
    stamped = site.signature("mark", "stamped")
    stamped.stamp(customer="17")
    site.app.control.revoke_by_stamped_headers({"customer": "17"})
    assert "ok" in site.ask("ping")  # commands are heard in their order
    result = stamped.apply_async()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    other = site.signature("mark", "stamped otherwise")
    other.stamp(customer="18")
    assert other.apply_async().get(timeout=20) == "stamped otherwise"


def test_a_command_reaches_a_worker_that_is_busy_when_it_has_time(open_site: Callable[..., Site]) -> None:
    """A solo worker answers between tasks; what was asked meanwhile is not lost (celery#2678)."""
    site = open_site()
    worker = site.worker("-n", HERE, "--without-mingle", pool="solo")
    gate = site.folder / "gate"
    site.call("hold", "busy", str(gate))
    site.wait_for("start busy")
    assert site.app.control.ping(destination=[HERE], timeout=0.1) == []
    site.app.control.rate_limit("tests.celery.app.mark", "1/h", destination=[HERE])
    gate.touch()
    worker.wait_for("New rate limit for tasks of type tests.celery.app.mark")


def test_the_pool_is_restarted(site: Site) -> None:
    assert "ok" in site.ask("pool_restart")
    assert [site.call("add", n, 1).get(timeout=20) for n in range(6)] == list(range(1, 7))


def test_shutdown_from_outside(running: tuple[Site, Program]) -> None:
    site, worker = running
    site.celery("control", "shutdown", status=69)  # nobody answers, as with every broker
    worker.wait(30)
