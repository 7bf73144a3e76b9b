"""The same lines against the original's Python module, where it is installed, and against `elkmq.elk_mq`."""

from __future__ import annotations

import importlib
import json
import threading
import time
import uuid
from pathlib import Path

import pytest
import redis

from tests.interop.samples import TEXTS
from tests.servers import Server, free_port

RECORDINGS = Path(__file__).parent / "recordings"
EVENTS = json.loads((RECORDINGS / "events.json").read_text("utf-8"))["events"]
CALLS = json.loads((RECORDINGS / "module.json").read_text("utf-8"))["calls"]

# Runs in a process of its own, because the original keeps every other thread of its process waiting.
RESPONDER = """
import importlib, sys
elk_mq = importlib.import_module(sys.argv[1])
queue = elk_mq.EventQueue(sys.argv[2], sys.argv[3])
timestamp, event = queue.dequeue_blocking(20)
response = elk_mq.ServiceEvent.create_response(event, "pong", event.payload())
print("answered", queue.enqueue_response(response), flush=True)
"""


@pytest.fixture(params=["elkmq.elk_mq", "elk_mq"])
def elk_mq(request):
    if request.param == "elk_mq":
        return pytest.importorskip("elk_mq", reason="the original is not installed: see tests/interop/README.md")
    return importlib.import_module(request.param)


@pytest.fixture
def queue(elk_mq, name, server_url):
    return elk_mq.EventQueue(name, server_url)


# -- events


def test_an_event_and_its_accessors(elk_mq):
    event = elk_mq.ServiceEvent(10, "test_event", "serialized_data")
    assert (event.timeout(), event.action(), event.payload()) == (10, "test_event", "serialized_data")
    assert elk_mq.ServiceEvent(10, "test_event", None).payload() is None
    assert elk_mq.ServiceEvent(payload=None, action="a", timeout=True).timeout() == 1


def test_the_uuid_is_hyphenated_text_of_version_4(elk_mq):
    found = elk_mq.ServiceEvent(10, "a", None).uuid()
    assert str(uuid.UUID(found)) == found
    assert uuid.UUID(found).version == 4


def test_to_dict(elk_mq):
    event = elk_mq.ServiceEvent(10, "a", "é")
    assert event.to_dict() == {"uuid": event.uuid(), "timeout": 10, "action": "a", "payload": "é"}


@pytest.mark.parametrize("payload", ["p", None])
def test_create_response(elk_mq, payload):
    event = elk_mq.ServiceEvent(10, "a", "x")
    response = elk_mq.ServiceEvent.create_response(event, "b", payload)
    assert response.to_dict() == {"uuid": event.uuid(), "timeout": 10, "action": "b", "payload": payload}


@pytest.mark.parametrize("text", [*TEXTS, None], ids=lambda text: ascii(text)[:20])
def test_the_repr(elk_mq, text):
    event = elk_mq.ServiceEvent(10, "a", text)
    known = next((row["repr"] for row in EVENTS if row["payload"] == text and row["timeout"] == 10), None)
    if known is None:
        assert repr(event).endswith('    action: "a",\n    payload: None,\n}')
    else:
        assert repr(event).partition("    payload: ")[2] == known.partition("    payload: ")[2]
        assert repr(event).startswith(
            f"ServiceEvent {{\n    request_uuid: {uuid.UUID(event.uuid()).int},\n    timeout: 10,\n"
        )


# -- the queue


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:20])
def test_enqueue_and_dequeue(elk_mq, queue, text):
    event = elk_mq.ServiceEvent(10, text, text)
    timestamp = queue.enqueue(event)
    taken = queue.dequeue()
    assert (type(timestamp), type(taken)) == (int, tuple)
    assert taken[0] == timestamp
    assert abs(timestamp / 1000 - time.time()) < 60
    assert isinstance(taken[1], elk_mq.ServiceEvent)
    assert taken[1].to_dict() == event.to_dict()


def test_the_same_event_twice_is_two_entries(elk_mq, queue):
    event = elk_mq.ServiceEvent(10, "a", None)
    queue.enqueue(event)
    queue.enqueue(event)
    assert [queue.dequeue()[1].uuid(), queue.dequeue()[1].uuid()] == [event.uuid()] * 2


def test_an_event_that_was_taken_can_be_put_back(elk_mq, queue):
    queue.enqueue(elk_mq.ServiceEvent(10, "a", None))
    _, event = queue.dequeue()
    queue.enqueue(event)
    assert queue.dequeue()[1].uuid() == event.uuid()


def test_the_order_is_kept(elk_mq, queue):
    for number in range(20):
        queue.enqueue(elk_mq.ServiceEvent(10, str(number), None))
    assert [queue.dequeue()[1].action() for _ in range(20)] == [str(number) for number in range(20)]


def test_an_empty_queue(queue):
    with pytest.raises(RuntimeError, match="^EmptyQueue$"):
        queue.dequeue()
    with pytest.raises(RuntimeError, match="^EmptyQueue$"):
        queue.dequeue_blocking(1)


def test_dequeue_blocking_takes_what_is_there(elk_mq, queue):
    queue.enqueue(elk_mq.ServiceEvent(10, "a", None))
    assert queue.dequeue_blocking(timeout=5)[1].action() == "a"


def test_a_request_and_its_response(elk_mq, queue, name, server_url, make_program):
    responder = make_program(RESPONDER, elk_mq.__name__, name, server_url)
    event = elk_mq.ServiceEvent(20, "ping", "Grüße")
    timestamp, response = queue.await_response(event)
    assert abs(timestamp / 1000 - time.time()) < 60
    assert response.to_dict() == {"uuid": event.uuid(), "timeout": 20, "action": "pong", "payload": "Grüße"}
    responder.wait_for("answered None")
    responder.wait()


def test_a_request_that_nobody_answers(elk_mq, queue):
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="^TimeoutExpired$"):
        queue.await_response(elk_mq.ServiceEvent(1, "ping", None))
    assert 1 <= time.monotonic() - began < 5


def test_ours_lets_other_threads_run_while_it_waits(name, server_url):
    elk_mq = importlib.import_module("elkmq.elk_mq")
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(elk_mq.EventQueue(name, server_url).dequeue_blocking(0)))
    waiting.start()
    elk_mq.EventQueue(name, server_url).enqueue(elk_mq.ServiceEvent(10, "a", None))
    waiting.join(20)
    assert taken[0][1].action() == "a"


# -- errors


def test_no_server(elk_mq):
    queue = elk_mq.EventQueue("q", f"redis://127.0.0.1:{free_port()}")
    for call in (queue.dequeue, lambda: queue.enqueue(elk_mq.ServiceEvent(1, "a", None))):
        with pytest.raises(RuntimeError, match=r'^ConnectionError\(".*[Cc]onnection refused.*"\)$'):
            call()


def test_a_key_of_another_type(elk_mq, queue, name, server_url):
    with redis.Redis.from_url(server_url) as client:
        client.set(f"{name}(event_stream)", "x")
    with pytest.raises(RuntimeError, match=r'^EnqueueError\(".+"\)$'):
        queue.enqueue(elk_mq.ServiceEvent(1, "a", None))


PASSWORDS = [row for row in CALLS if "password" in row.get("server", "")]


@pytest.mark.parametrize("row", PASSWORDS, ids=lambda row: row["server"][28:] + row["call"][-10:])
def test_a_server_that_wants_a_password(elk_mq, make_server, row):
    server = make_server(password="secret")
    login = ":wrong@" if "wrong" in row["server"] else ""
    event = elk_mq.ServiceEvent(10, "ping", "x")
    with pytest.raises(RuntimeError) as caught:
        eval(row["call"], {"elk_mq": elk_mq, "event": event, "other": f"redis://{login}127.0.0.1:{server.port}"})
    assert str(caught.value).partition("(")[0] == row["outcome"]["text"].partition("(")[0]
    assert "wrong" not in str(caught.value)


def test_a_list_of_another_type(elk_mq, queue, name, server_url):
    """Ours does not need it."""
    event = elk_mq.ServiceEvent(1, "a", None)
    with redis.Redis.from_url(server_url) as client:
        client.set(f"{name}(message_queue)", "x")
        if elk_mq.__name__ == "elk_mq":
            with pytest.raises(RuntimeError, match=r'^EnqueueError\("WRONGTYPE: .+"\)$'):
                queue.enqueue(event)
            with pytest.raises(RuntimeError, match=r'^DequeueError\("WRONGTYPE: .+"\)$'):
                queue.dequeue()
            assert client.xlen(f"{name}(event_stream)") == 1
        else:
            queue.enqueue(event)
            assert queue.dequeue()[1].uuid() == event.uuid()


BETTER = {
    # __all__ names the two classes; a url without a host is one on this machine; TLS is there.
    "sorted(n for n in dir(elk_mq) if n[0] != '_')",
    "elk_mq.EventQueue('m', 'redis://')", "elk_mq.EventQueue('m', 'rediss://127.0.0.1:1')",
    # Queues have names; keys of other programs are found before anything is taken.
    "elk_mq.EventQueue('', url).enqueue(event) > 0", "elk_mq.EventQueue('w', url).dequeue()",
}  # fmt: skip


@pytest.mark.parametrize(
    "row", CALLS, ids=lambda row: ascii(row["call"]) + ("; " + row["server"] if "server" in row else "")
)
def test_ours_gives_what_was_recorded_from_the_original(row, name, fast_server: Server):
    if "server" in row or row["call"] in BETTER:
        pytest.skip("covered by a test above, or better here")
    elk_mq = importlib.import_module("elkmq.elk_mq")
    event = elk_mq.ServiceEvent(10, "ping", "x")
    scope = {"elk_mq": elk_mq, "Event": elk_mq.ServiceEvent, "event": event, "url": fast_server.url}
    source = row["call"].replace("'m'", repr(name))
    if "queue" in source:
        scope["queue"] = elk_mq.EventQueue(name, fast_server.url)
    if source.startswith("queue.dequeue()[1]"):
        scope["queue"].enqueue(event)
    wanted = row["outcome"]
    if "returned" in wanted:
        assert eval(source, scope) == wanted["returned"]
        return
    with pytest.raises(Exception) as caught:
        eval(source, scope)
    names = [kind.__name__ for kind in type(caught.value).__mro__]
    # Where the original panics, ours is what all its other failures are.
    assert ("RuntimeError" if wanted["raised"] == "SystemError" else wanted["raised"]) in names
    if wanted["raised"] == "RuntimeError":
        assert str(caught.value).partition("(")[0] == wanted["text"].partition("(")[0]
    elif wanted["raised"] == "TypeError" and "Required argument" not in wanted["text"]:
        assert str(caught.value) == wanted["text"]
