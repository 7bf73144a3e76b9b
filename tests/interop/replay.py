"""The original's Python module as far as its recordings go: the commands it was seen to send, with other values in them.

For tests where the original itself cannot be had. `test_replay` compares what this sends with what was recorded.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import redis

RECORDED = json.loads((Path(__file__).parent / "recordings" / "commands.json").read_text("utf-8"))["functions"]

_ID = re.compile(r"\d+-\d+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def template(word: str, queue: str) -> str:
    """What stands for a recorded word: itself, or what kind of value it is."""
    if word.startswith(f"{queue}("):
        return "<queue>" + word[len(queue) :]
    if word.startswith('{"request_uuid"'):
        return "<event>"
    if _UUID.fullmatch(word):
        return "<uuid>"
    return "<id>" if _ID.fullmatch(word) else word


@cache
def commands(title: str) -> tuple[tuple[str, ...], ...]:
    """The commands of a recorded call, each once, in the order in which they came first."""
    row = RECORDED[title]
    found = [tuple(template(word, row["queue"]) for word in item["command"]) for item in row["commands"]]
    return tuple(dict.fromkeys(found))


class ServiceEvent:
    """An event, written as the original writes it (`test_replay` compares)."""

    def __init__(self, timeout: int, action: str, payload: str | None) -> None:
        self._uuid = uuid.uuid4()
        self._timeout, self._action, self._payload = timeout, action, payload

    @classmethod
    def create_response(cls, event: ServiceEvent, action: str, payload: str | None) -> ServiceEvent:
        response = cls(event._timeout, action, payload)
        response._uuid = event._uuid
        return response

    def to_dict(self) -> dict[str, Any]:
        return {"uuid": self.uuid(), "timeout": self._timeout, "action": self._action, "payload": self._payload}

    def uuid(self) -> str:
        return str(self._uuid)

    def wire(self) -> str:
        body = {"request_uuid": self._uuid.int, **self.to_dict()}
        del body["uuid"]
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def read(cls, data: bytes) -> ServiceEvent:
        body = json.loads(data)
        event = cls(body["timeout"], body["action"], body["payload"])
        event._uuid = uuid.UUID(int=body["request_uuid"])
        return event


class EventQueue:
    """A client that opens a connection for each call, as the original does."""

    def __init__(self, queue_name: str, connection_url: str) -> None:
        self._name, self._url = queue_name, connection_url

    def _connect(self) -> Any:
        return redis.Redis.from_url(self._url, protocol=2, single_connection_client=True)

    def _send(self, client: Any, title: str, number: int, *values: str) -> Any:
        """Send a recorded command; ``values`` stand where it had an event, an id or a uuid, or the seconds to wait."""
        given, words = list(values), []
        for word in commands(title)[number]:
            if word in ("<event>", "<id>", "<uuid>"):
                words.append(given.pop(0))
            else:
                words.append(word.replace("<queue>", self._name))
        if given:
            words[-1] = given.pop()
        return client.execute_command(*words)

    def _event(self, client: Any, title: str, number: int, id_: bytes, field: bytes) -> tuple[int, ServiceEvent]:
        ((_, fields),) = self._send(client, title, number, id_.decode(), id_.decode())
        return int(id_.partition(b"-")[0]), ServiceEvent.read(fields[field])

    def enqueue(self, event: ServiceEvent) -> int:
        with self._connect() as client:
            id_ = self._send(client, "enqueue", 0, event.wire())
            self._send(client, "enqueue", 1, id_.decode())
            return int(id_.partition(b"-")[0])

    def dequeue(self) -> tuple[int, ServiceEvent]:
        with self._connect() as client:
            id_ = self._send(client, "dequeue", 0)
            if id_ is None:
                raise RuntimeError("EmptyQueue")
            return self._event(client, "dequeue", 1, id_, b"event")

    def dequeue_blocking(self, timeout: int) -> tuple[int, ServiceEvent]:
        with self._connect() as client:
            found = self._send(client, "dequeue_blocking", 0, str(timeout))
            if found is None:
                raise RuntimeError("EmptyQueue")
            return self._event(client, "dequeue_blocking", 1, found[1], b"event")

    def enqueue_response(self, event: ServiceEvent) -> None:
        with self._connect() as client:
            id_ = self._send(client, "enqueue_response", 0, event.wire())
            self._send(client, "enqueue_response", 1, event.uuid(), id_.decode())

    def await_response(self, event: ServiceEvent) -> tuple[int, ServiceEvent]:
        title, wanted = "await_response, nobody answers", event.uuid().encode()
        with self._connect() as client:
            until = time.monotonic() + event.to_dict()["timeout"]
            newest = self._send(client, title, 0)
            last = newest[0][0] if newest else b"0-0"
            self.enqueue(event)
            while time.monotonic() <= until:
                reply = self._send(client, title, 3, last.decode())
                streams = reply.items() if isinstance(reply, dict) else reply or ()
                for id_, fields in (entry for _, entries in streams for entry in entries):
                    if wanted in fields:
                        return self._event(client, "dequeue", 1, fields[wanted], b"response")
                    last = id_
        raise RuntimeError("TimeoutExpired")
