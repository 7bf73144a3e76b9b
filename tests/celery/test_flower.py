"""Flower on elkmq://: it sees workers and tasks, and says that it knows no queue lengths. `tox -e flower` installs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.celery.conftest import HERE, Site
from tests.servers import free_port
from tests.waiting import eventually

pytest.importorskip("flower", reason="Flower is not installed: tox -e flower")


def test_flower(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("-n", HERE, "--without-mingle", "-E", pool="solo")
    port = free_port()
    site.program(
        "flower", "--address=127.0.0.1", f"--port={port}", ready="Connected to",
        env={"FLOWER_UNAUTHENTICATED_API": "true"},
    )  # fmt: skip

    def page(path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.read().decode()

    result = site.call("add", 1, 2)
    assert result.get(timeout=20) == 3
    found = eventually(
        lambda: json.loads(page("/api/tasks")).get(result.id), 20, "the task", ignoring=(OSError, AssertionError)
    )
    assert found["worker"] == HERE
    eventually(lambda: json.loads(page("/api/tasks"))[result.id]["state"] == "SUCCESS", why="its end to be seen")
    workers = json.loads(page("/api/workers?refresh=1"))
    assert [queue["name"] for queue in workers[HERE]["active_queues"]] == ["celery"]
    assert f'flower_worker_online{{worker="{HERE}"}} 1.0' in page("/metrics")
    with pytest.raises(HTTPError) as caught:  # its broker page goes by the url's scheme, and knows redis and amqp only
        page("/api/queues/length")
    assert caught.value.code == 404
    with urlopen(f"http://127.0.0.1:{port}/api/worker/shutdown/{HERE}", data=b"", timeout=20):
        worker.wait(30)
