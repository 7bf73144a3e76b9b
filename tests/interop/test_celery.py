"""The original and a real Celery worker on one queue: an event is a task call, and a request is answered with its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.interop.conftest import Original, leftovers, nothing_left
from tests.waiting import eventually

TASKS = "tests.celery.app."
IN_USE = {"consumers", "consumer_info"}
"""What a queue holds for a worker that runs."""


def test_a_celery_task_answers_it(make_site: Callable[..., Any], originals: Callable[[str, str], Original]) -> None:
    site = make_site(broker_transport_options={"lease": 2})
    url = site.server.url
    site.worker()
    original = originals("celery", url)

    def ask(task: str, payload: object, timeout: int = 5) -> tuple[str, Any]:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        original.tell("await_response", action=TASKS + task, payload=text, timeout=timeout)
        asked, _, response = original.answer()
        assert (response["uuid"], response["timeout"]) == (asked, timeout)
        return response["action"], json.loads(response["payload"])

    assert ask("add", [2, 3]) == (TASKS + "add", 5)
    assert ask("add", {"args": [2], "kwargs": {"y": 40}}) == (TASKS + "add", 42)
    assert ask("add", {"x": "Grüße, ", "y": "\U0001f98c"}) == (TASKS + "add", "Grüße, \U0001f98c")
    assert ask("flaky", []) == (TASKS + "flaky", 2)  # tried again twice, answered once
    action, error = ask("add", [2, None])
    assert (action, error["type"]) == ("elkmq.error", "TypeError")
    action, error = ask("no_such_task", [])
    assert (action, error["message"]) == ("elkmq.error", "the worker of 'celery' knows no task of this name")
    action, error = ask("add", "[2, 3")
    assert (action, error["type"]) == ("elkmq.error", "JSONDecodeError")
    action, error = ask("add", "7")
    assert (action, error["message"]) == ("elkmq.error", "the payload is neither a list nor an object")
    original.enqueue(TASKS + "mark", '["from an original"]')
    site.wait_for("done from an original")
    eventually(
        lambda: set(leftovers(url, "celery")) <= IN_USE | {"dead_letters"}, 60, "everything of the original to be gone"
    )


def test_a_task_whose_requester_s_time_is_over_is_not_run(
    make_site: Callable[..., Any], originals: Callable[[str, str], Original]
) -> None:
    site = make_site(broker_transport_options={"lease": 2})
    original = originals("celery", site.server.url)
    original.enqueue(TASKS + "mark", '["late"]', timeout=1)
    with site.server.client() as client:
        ((id_, _),) = client.xrange("celery(event_stream)")
        then = int(id_.split(b"-")[0])

        def over() -> bool:
            seconds, micros = client.time()
            return bool(seconds * 1000 + micros // 1000 > then + 1000)

        eventually(over, why="its time to be over")
    worker = site.worker()
    assert site.call("mark", "after").get(timeout=20) == "after"
    assert site.lines() == ["start after", "done after"]
    worker.process.terminate()
    worker.wait(30)
    nothing_left(site.server.url, "celery")
