"""Record what the original, ``elk-mq`` 0.1.1, does: ``python -m tests.interop.record`` (see README.md here).

It talks to a private server that is started for it. Each file in ``recordings/`` is one kind of fact:

- ``events.json``: events made by the original, with the bytes it wrote for them
- ``commands.json``: for each function the commands it sent and what it returned or raised
- ``parsing.json``: entries put into a stream by hand, and what the original made of them
- ``module.json``: calls of its Python module with good and bad arguments, and what came of them
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import elk_mq  # the original
import redis

from tests.interop.monitor import Monitor
from tests.interop.samples import TEXTS, WIRE
from tests.servers import Server

HERE = Path(__file__).parent / "recordings"
Event = elk_mq.ServiceEvent


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call gives: a value in JSON's types, or the class and the text of what it raises."""
    try:
        return {"returned": plain(call())}
    except Exception as exc:  # which classes it raises is what is to be found out
        return {
            "raised": type(exc).__name__,
            "bases": [base.__name__ for base in type(exc).__mro__[1:-2]],
            "text": str(exc),
        }


def plain(value: Any) -> Any:
    if isinstance(value, Event):
        return {"ServiceEvent": value.to_dict()}
    if isinstance(value, tuple):
        return {"tuple": [plain(part) for part in value]}
    return value


def text_or_hex(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"hex": data.hex()}


def write(name: str, content: Any) -> None:
    facts = {"recorded_from": "elk-mq 0.1.1 (PyPI), its Python module", **content}
    (HERE / name).write_text(json.dumps(facts, indent=1, ensure_ascii=True) + "\n", "utf-8")
    print(f"wrote {HERE / name}")


def events(url: str, client: redis.Redis) -> None:
    rows = []
    queue = elk_mq.EventQueue("events", url)
    cases = [(10, text, text) for text in TEXTS]
    cases += [(1, "no_payload", None), (65535, "longest", "x"), (1, "", None)]
    for timeout, action, payload in cases:
        event = Event(timeout, action, payload)
        timestamp = queue.enqueue(event)
        ((identity, fields),) = client.xrevrange("events(event_stream)", count=1)
        assert int(identity.split(b"-")[0]) == timestamp
        assert list(fields) == [b"event"]
        rows.append({
            "uuid": event.uuid(), "timeout": timeout, "action": action, "payload": payload,
            "to_dict": event.to_dict(), "repr": repr(event), "wire": text_or_hex(fields[b"event"]),
        })  # fmt: skip
    write("events.json", {"events": rows})


def answering(url: str, name: str) -> int:
    """Fork a responder for one request: the original holds the GIL while it waits, so a thread would not do."""
    pid = os.fork()
    if not pid:
        queue = elk_mq.EventQueue(name, url)
        _, event = queue.dequeue_blocking(10)
        queue.enqueue_response(Event.create_response(event, "pong", event.payload()))
        os._exit(0)
    return pid


def commands(server: Server, client: redis.Redis) -> None:
    rows: dict[str, Any] = {}

    def record(
        title: str, name: str, call: Callable[[Any], Any], url: str | None = None, answered: bool = False
    ) -> None:
        queue = elk_mq.EventQueue(name, url or server.url)
        with Monitor(server.port) as monitor:
            pid = answering(server.url, name) if answered else 0
            result = outcome(lambda: call(queue))
            if pid:
                os.waitpid(pid, 0)
            sent = monitor.commands()
        keys = {key.decode(): client.type(key).decode() for key in sorted(client.scan_iter(f"{name}(*"))}
        rows[title] = {"queue": name, "outcome": result, "commands": sent, "keys_left": keys}

    event = Event(10, "ping", 'a "payload" of Grüße\n')
    record("enqueue", "q", lambda q: q.enqueue(event))
    record("enqueue of the same event again", "q", lambda q: q.enqueue(event))
    record("enqueue, url with a database", "q", lambda q: q.enqueue(event), url=server.url.removesuffix("/0") + "/3")
    record("dequeue", "q", lambda q: q.dequeue())
    record("dequeue_blocking", "q", lambda q: q.dequeue_blocking(5))
    record("dequeue from an empty queue", "q", lambda q: q.dequeue())
    record("dequeue_blocking from an empty queue", "q", lambda q: q.dequeue_blocking(1))
    record("enqueue_response", "q", lambda q: q.enqueue_response(Event.create_response(event, "pong", None)))
    record("await_response, answered", "r", lambda q: q.await_response(event), answered=True)
    record("await_response, answered, responses there before", "r",
           lambda q: q.await_response(Event(10, "ping", None)), answered=True)  # fmt: skip
    record("await_response, nobody answers", "s", lambda q: q.await_response(Event(1, "ping", None)))
    write("commands.json", {"functions": rows})


def parsing(url: str, client: redis.Redis) -> None:
    rows = []
    queue = elk_mq.EventQueue("p", url)

    def put(title: str, identity: Any, **shown: Any) -> None:
        client.lpush("p(message_queue)", identity)
        row = {"title": title, **shown, "outcome": outcome(queue.dequeue)}
        rows.append({**row, "list_entry_left": client.llen("p(message_queue)") > 0})
        client.delete("p(message_queue)")

    for title, data in WIRE.items():
        put(title, client.xadd("p(event_stream)", {"event": data}), wire=text_or_hex(data))
    good = WIRE["as written"]
    fields: dict[str, dict[str, bytes]] = {
        "further field": {"event": good, "more": "é".encode()},
        "further field before it": {"more": b"x", "event": good},
        "further field that is not UTF-8": {"event": good, "more": b"\xff"},
        "further field whose name is not UTF-8": {"event": good, b"\xff".decode("latin-1"): b"x"},
        "response in place of event": {"response": good},
    }
    for title, body in fields.items():
        encoded = {(b"\xff" if key == "\xff" else key.encode()): value for key, value in body.items()}
        put(title, client.xadd("p(event_stream)", encoded))  # type: ignore[arg-type]
    for title, identity in {"id of no entry": "1-1", "id without a sequence": "1", "id that is none": "junk"}.items():
        put(title, identity)
    write("parsing.json", {"entries": rows})


def module(server: Server, client: redis.Redis) -> None:
    url = server.url
    queue = elk_mq.EventQueue("m", url)
    event = Event(10, "ping", "x")
    rows = []

    def call(source: str, **names: Any) -> None:
        scope = {"elk_mq": elk_mq, "Event": Event, "queue": queue, "event": event, "url": url, **names}
        result = outcome(lambda: eval(source, scope))
        rows.append({"call": source, "outcome": result})

    for timeout in ("0", "-1", "1", "65535", "65536", "1.5", "True", "'5'", "None", "float('nan')"):
        call(f"Event({timeout}, 'a', None).timeout()")
    for text in ("''", "None", "5", "b'x'", "'\\ud800'", "'a\\0b'"):
        call(f"Event(1, {text}, None).action()")
        call(f"Event(1, 'a', {text}).payload()")
    for source in (
        "Event(10, 'a')", "Event(timeout=10, action='a', payload=None).to_dict()['action']", "type(event.uuid()).__name__",
        "event == event", "Event(1, 'a', None) == Event(1, 'a', None)", "isinstance(hash(event), int)",
        "setattr(event, 'timeout', 5)", "sorted(name for name in dir(Event) if name[0] != '_')",
        "sorted(name for name in dir(elk_mq.EventQueue) if name[0] != '_')", "sorted(n for n in dir(elk_mq) if n[0] != '_')",
        "Event.create_response(event, 'b', None).uuid() == event.uuid()", "Event.create_response(event, 'b', None).timeout()",
        "Event.create_response(event, 'b')", "Event.create_response(event=event, action='b', payload='y').payload()",
        "event.create_response(event, 'b', None).action()", "Event.create_response(5, 'b', None)",
        "elk_mq.EventQueue('m')", "elk_mq.EventQueue(queue_name='m', connection_url=url) is None",
        "elk_mq.EventQueue('m', '')", "elk_mq.EventQueue('m', 'nonsense')", "elk_mq.EventQueue('m', 'http://x')",
        "elk_mq.EventQueue('m', 'redis://')", "elk_mq.EventQueue('m', 'redis://127.0.0.1:99999')",
        "elk_mq.EventQueue('m', 'redis://127.0.0.1:1').enqueue(event)",
        "elk_mq.EventQueue('m', 'redis://127.0.0.1:1').dequeue()",
        "elk_mq.EventQueue('m', 'rediss://127.0.0.1:1')",
        "elk_mq.EventQueue('m', url + '9999').enqueue(event)",
        "elk_mq.EventQueue(5, url)", "elk_mq.EventQueue('', url).enqueue(event) > 0",
        "queue.enqueue({'a': 1})", "queue.enqueue(None)", "queue.enqueue(event=event) > 0", "queue.dequeue()[1].payload()",
        "queue.dequeue()", "queue.dequeue_blocking()", "queue.dequeue_blocking(-1)", "queue.dequeue_blocking(1.5)",
        "queue.dequeue_blocking(65536)", "queue.dequeue_blocking(None)", "queue.dequeue_blocking(timeout=1)",
        "queue.enqueue_response(event)", "queue.enqueue_response(None)", "queue.await_response(Event(1, 'a', None))",
        "queue.await_response(None)",
    ):  # fmt: skip
        call(source)
    with Server(password="secret") as closed:
        for login in ("", ":wrong@"):
            other = f"redis://{login}127.0.0.1:{closed.port}"
            for source in ("elk_mq.EventQueue('m', other).enqueue(event)", "elk_mq.EventQueue('m', other).dequeue()"):
                call(source, other=other)
                rows[-1]["server"] = f"wants a password, url has {'a wrong one' if login else 'none'}"
    for key, wrong in (("w(message_queue)", "the list"), ("w(event_stream)", "the stream")):
        client.delete("w(message_queue)", "w(event_stream)")
        client.set(key, "x")
        for source in ("elk_mq.EventQueue('w', url).enqueue(event)", "elk_mq.EventQueue('w', url).dequeue()"):
            call(source)
            rows[-1]["server"] = f"{wrong} is a string; entries in the stream afterwards: " + (
                str(client.xlen("w(event_stream)")) if wrong == "the list" else "-"
            )
    write("module.json", {"calls": rows})


def main() -> int:
    os.environ["RUST_BACKTRACE"] = "0"  # it panics where the url makes no sense
    HERE.mkdir(exist_ok=True)
    with Server() as server, server.client() as client:
        print(f"server: {server.binary.label}")
        events(server.url, client)
        commands(server, client)
        parsing(server.url, client)
        module(server, client)
    return 0


if __name__ == "__main__":
    sys.exit(main())
