"""What stands for the original where it cannot be had sends what the original was seen to send."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop import replay
from tests.interop.monitor import Monitor
from tests.servers import Server

EVENTS = json.loads((Path(__file__).parent / "recordings" / "events.json").read_text("utf-8"))["events"]


@pytest.mark.parametrize("row", EVENTS, ids=lambda row: ascii(row["payload"])[:20])
def test_an_event_is_written_byte_for_byte(row: dict[str, Any]) -> None:
    event = replay.ServiceEvent(row["timeout"], row["action"], row["payload"])
    event._uuid = uuid.UUID(row["uuid"])
    assert event.wire() == row["wire"]["text"]
    assert replay.ServiceEvent.read(event.wire().encode()).to_dict() == row["to_dict"]


def answering(url: str, name: str) -> None:
    queue = replay.EventQueue(name, url)
    _, event = queue.dequeue_blocking(10)
    queue.enqueue_response(replay.ServiceEvent.create_response(event, "pong", None))


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "returned"


def test_each_call_sends_what_was_recorded(make_server: Callable[..., Server]) -> None:
    server = make_server()
    event = replay.ServiceEvent(10, "ping", "x")
    calls: dict[str, Callable[[Any], Any]] = {
        "enqueue": lambda q: q.enqueue(event),
        "enqueue of the same event again": lambda q: q.enqueue(event),
        "dequeue": lambda q: q.dequeue(),
        "dequeue_blocking": lambda q: q.dequeue_blocking(5),
        "dequeue from an empty queue": lambda q: q.dequeue(),
        "dequeue_blocking from an empty queue": lambda q: q.dequeue_blocking(1),
        "enqueue_response": lambda q: q.enqueue_response(replay.ServiceEvent.create_response(event, "pong", None)),
        "await_response, answered": lambda q: q.await_response(event),
        "await_response, nobody answers": lambda q: q.await_response(replay.ServiceEvent(1, "ping", None)),
    }
    for title, call in calls.items():
        row = replay.RECORDED[title]
        responder = threading.Thread(target=answering, args=(server.url, row["queue"]))
        with Monitor(server.port) as monitor:
            if title == "await_response, answered":
                responder.start()
            found = outcome(lambda call=call, row=row: call(replay.EventQueue(row["queue"], server.url)))
            if responder.ident:
                responder.join()
            sent = [tuple(replay.template(w, row["queue"]) for w in item["command"]) for item in monitor.commands()]
            sent = [words for words in sent if words[0] != "CLIENT"]  # redis-py gives its name; the original does not
        # Two connections at once: whose command comes first is chance.
        assert sorted(dict.fromkeys(sent)) == sorted(replay.commands(title)), title
        assert found == row["outcome"].get("text", "returned"), title
