"""Beat; and workers that tell each other what they know: mingle, gossip."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from celery.exceptions import TaskRevokedError

from tests.celery.conftest import HERE, Site
from tests.servers import Server
from tests.waiting import Program, eventually

TICK = {"tick": {"task": "tests.celery.app.mark", "schedule": 0.5, "args": ["tick"]}}


def beat_of(site: Site) -> Program:
    return site.program(
        "beat", "-l", "INFO", "-s", str(site.folder / "schedule"), "--pidfile", "", ready="beat: Starting"
    )  # fmt: skip


def test_beat(make_site: Callable[..., Site]) -> None:
    site = make_site(beat_schedule=TICK)
    site.worker("-n", HERE, "--without-mingle", pool="solo")
    beat = beat_of(site)
    site.wait_for("done tick", 3)
    beat.signal(signal.SIGTERM)
    beat.wait(20, status=None)
    before = sum("Sending due task" in line for line in beat.lines)
    eventually(lambda: site.length() == 0, why="what was sent to be done")
    assert site.lines().count("done tick") == before  # each once


def test_beat_inside_a_worker(make_site: Callable[..., Site]) -> None:
    site = make_site(beat_schedule=TICK)
    worker = site.worker("-n", HERE, "--without-mingle", "-B", "-s", str(site.folder / "schedule"))
    site.wait_for("done tick", 3)
    worker.signal(signal.SIGTERM)
    worker.wait(30)


def test_beat_goes_on_when_the_server_is_back(
    make_site: Callable[..., Site], make_server: Callable[..., Server]
) -> None:
    server = make_server(appendonly=True, appendfsync="always")
    site = make_site(server=server, beat_schedule=TICK)
    worker = site.worker("-n", HERE, "--without-mingle", pool="solo")
    beat = beat_of(site)
    site.wait_for("done tick")
    server.restart(hard=True)
    seen = site.lines().count("done tick")
    site.wait_for("done tick", seen + 3)
    assert not [line for line in worker.lines + beat.lines if "Traceback" in line or "broker lost" in line]


def test_a_new_worker_learns_what_was_revoked(make_site: Callable[..., Site]) -> None:
    site = make_site()
    one = site.worker("-n", "one@here", "--without-mingle", pool="solo")
    task_id = "11111111-2222-4333-8444-555555555555"
    site.app.control.revoke(task_id)
    one.wait_for(task_id)
    two = site.worker("-n", "two@here", pool="solo")
    two.wait_for("mingle: sync complete")
    one.signal(signal.SIGTERM)
    one.wait(30)
    result = site.call("mark", "revoked before it was sent", task_id=task_id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    assert site.lines() == []


def test_workers_see_others_come_and_go(make_site: Callable[..., Site]) -> None:
    site = make_site()
    one = site.worker("-n", "one@here", "--without-mingle", "--loglevel", "DEBUG", pool="solo")
    two = site.worker("-n", "two@here", "--without-mingle", pool="solo")
    one.wait_for("two@here joined the party", 30)
    two.signal(signal.SIGTERM)
    two.wait(30)
    one.wait_for("two@here left", 30)
    three = site.worker("-n", "three@here", "--without-mingle", pool="solo")
    one.wait_for("three@here joined the party", 30)
    three.kill()
    one.wait_for("missed heartbeat from three@here", 60)


def test_a_worker_that_keeps_to_itself(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.worker("-n", HERE, "--without-mingle", "--without-gossip", "--without-heartbeat", pool="solo")
    assert site.call("add", 1, 1).get(timeout=20) == 2
    assert site.server.client().keys("celeryev*(event_stream)") == []
