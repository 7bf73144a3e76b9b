"""Entries that others wrote, with whatever in their fields: none of them ends a consumer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from kombu import Connection

from elkmq import EventQueue
from tests.kombu.conftest import Inbox
from tests.kombu.test_transport import queue_of
from tests.servers import Server

DEEP = "[" * 100_000


def event(payload: str = "[]", uuid: int = 1 << 90) -> str:
    return json.dumps({"request_uuid": uuid, "timeout": 10, "action": "x", "payload": payload})


@pytest.mark.parametrize(
    "fields",
    [
        {"event": event(), "ttl": "soon"},
        {"event": event(), "ttl": "9" * 16},
        {"event": event(), "ttl": "9" * 400},
        {"event": event(), "handed_out": "often", "kombu": "{}"},
        {"event": event(), "failed": "-", "kombu": "{}"},
        {"event": event(), "first": "x", "kombu": "{}"},
        {"event": event(), "kombu": DEEP},
        {"event": event(), "kombu": '{"h": {"id": []}, "t": [1, {}], "c": 5, "P": {"priority": []}}'},
        {"event": event(), "reply_to": b"\xff"},
        {"event": event(DEEP)},
        {"event": DEEP},
        {"event": event()[:20]},
        {"event": b"\xff"},
        {"nothing": "1"},
    ],
    ids=lambda fields: (
        " ".join(f"{name}={value[:20]!r}" for name, value in fields.items() if name != "event") or "event"
    ),
)
def test_an_entry_with_rubbish_in_its_fields_stops_nobody(
    make_connection: Callable[..., Connection], fast_server: Server, name: str, fields: dict[str, str]
) -> None:
    connection = make_connection()
    inbox = Inbox(connection, queue_of(name))
    fast_server.client().xadd(f"{name}(event_stream)", fields)
    connection.Producer().publish("after", routing_key=name)
    while "after" not in inbox.bodies:
        inbox.wait(len(inbox.bodies) + 1)
    with EventQueue(name, fast_server.url) as queue:
        assert queue.stats().dead + len(inbox.bodies) == 2  # it was handed out, or is a dead letter


def test_a_time_to_live_that_is_none_is_none(
    make_connection: Callable[..., Connection], fast_server: Server, name: str
) -> None:
    fast_server.client().set(f"{name}(settings)", "ttl=soon\n")
    connection = make_connection()
    inbox = Inbox(connection, queue_of(name))
    connection.Producer().publish("x", routing_key=name)
    assert inbox.wait(1) == ["x"]
