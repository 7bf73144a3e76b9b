"""A queue at a server, driven verb by verb without any client in between, and ways to look behind the verbs' back."""

from __future__ import annotations

import importlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import redis

from elkmq._core.call import Call
from elkmq._core.entry import Entry, Outgoing, Taken
from elkmq._core.verbs import Verbs
from elkmq.keys import QueueKeys
from elkmq.stats import QueueStats, read_stats
from tests.servers import Server

T = TypeVar("T")
LEASE = 30_000


def outgoing(unique: str | None = None, **options: Any) -> Outgoing:
    """An event; ``unique``: its unique id, its uuid by default."""
    made = uuid.uuid4()
    data = json.dumps({"request_uuid": made.int, "timeout": 10, "action": "a", "payload": None}, separators=(",", ":"))
    return Outgoing(data.encode(), made.hex if unique is None else unique, **options)


def request(inbox: str = "box", timeout: int = 10, **options: Any) -> Outgoing:
    """An event whose response is awaited."""
    return outgoing(inbox=inbox, fields=("reply_to", inbox, "ttl", timeout * 1000), **options)


def uuid_of(event: Outgoing) -> str:
    return str(uuid.UUID(event.unique))


def named(entries: Iterable[Entry]) -> list[tuple[bytes, bytes]]:
    """The deliveries by what names them."""
    return [(entry.lane, entry.id) for entry in entries]


def bodies(entries: Iterable[Entry]) -> list[bytes]:
    return [entry.fields[b"event"] for entry in entries]


def of_format(number: int, call: Call[T]) -> Call[T]:
    """The call of a release that writes this format."""
    assert call.script is not None
    module = importlib.import_module("elkmq._core.call")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORMAT", number)
        script = module.script.__wrapped__(call.script.name)
    return replace(call, script=script, prefix=call.prefix.replace(call.script.sha.encode(), script.sha.encode()))


class Rig:
    """One queue."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.keys = QueueKeys(name)
        self.old = server.binary.flavour == "redis" and server.binary.version < (7,)
        self.verbs = Verbs(self.keys, counting=self.old)
        self.client = server.client(protocol=2)
        self._connection = self.client.connection_pool.get_connection()

    def close(self) -> None:
        self._connection.disconnect()
        self.client.close()

    def run(self, call: Call[T]) -> T:
        """Send a call and read its answer; loads the script first where the server does not know it."""
        try:
            return call.parse(self._exchange(call))
        except redis.exceptions.NoScriptError:
            assert call.script is not None
            self.client.script_load(call.script.source)
            return call.parse(self._exchange(call))

    def _exchange(self, call: Call[Any]) -> Any:
        self._connection.send_packed_command([call.packed()], check_health=False)
        return self._connection.read_response()

    # -- shorthands

    def put(self, *events: Outgoing) -> list[bytes]:
        """Enqueue; the ids."""
        return [receipt.id for receipt in self.run(self.verbs.enqueue(events or [outgoing()]))]

    def open(self, *consumers: str, lease: int = LEASE) -> None:
        for consumer in consumers:
            self.run(self.verbs.open(consumer, lease, {"host": "h", "pid": 1, "started": 2}))

    def take(self, consumer: str, n: int = 1000, token: bytes = b"") -> list[Entry]:
        return self.taken(consumer, n, token).entries

    def taken(self, consumer: str, n: int = 1000, token: bytes = b"") -> Taken:
        return self.run(self.verbs.take(consumer, n, token))

    def settle(self, consumer: str, entries: Iterable[Entry]) -> frozenset[int]:
        return self.run(self.verbs.settle(consumer, named(entries)))

    def tend(self, consumer: str, lease: int = LEASE, *, chores: bool = False) -> Any:
        return self.run(self.verbs.tend(consumer, lease, chores=chores))

    def configure(self, **settings: Any) -> None:
        self.run(self.verbs.configure({name: str(value) for name, value in settings.items()}))

    def stats(self) -> QueueStats:
        return read_stats(self.run(self.verbs.stats()))

    # -- behind the verbs' back

    def key(self, ending: str) -> bytes:
        return self.keys.of(ending)

    def let_lease_end(self, *consumers: str) -> None:
        """As if they had been silent for longer than their lease."""
        self.client.zadd(self.key("consumers"), dict.fromkeys(consumers, 1))

    def make_due(self) -> None:
        """As if the time of all delayed entries had come."""
        for member, _ in self.client.zrange(self.key("delayed"), 0, -1, withscores=True):
            self.client.zadd(self.key("delayed"), {member: 1})

    def names(self) -> set[bytes]:
        """Every key of the queue that there is, without NAME and the brackets."""
        base = self.keys.base
        found = self.client.scan_iter(match=base.replace(b"[", b"\\[") + b"(*", count=1000)
        return {name[len(base) + 1 : -1] for name in found}

    def snapshot(self) -> dict[bytes, Any]:
        """What every key holds, and who holds which entry; without times of access."""
        return {name: self._content(self.keys.base + b"(" + name + b")") for name in sorted(self.names())}

    def _content(self, key: bytes) -> Any:
        kind = self.client.type(key)
        if kind == b"string":
            return self.client.get(key)
        if kind == b"hash":
            return self.client.hgetall(key)
        if kind == b"list":
            return self.client.lrange(key, 0, -1)
        if kind == b"set":
            return self.client.smembers(key)
        if kind == b"zset":
            return self.client.zrange(key, 0, -1, withscores=True)
        groups: list[Any] = self.client.execute_command("XINFO GROUPS", key)
        group = next((g for g in groups if g["name"] == b"elkmq"), None)
        held = self.client.xpending_range(key, "elkmq", "-", "+", 10_000) if group else []
        return (
            self.client.xrange(key),
            group and group["last-delivered-id"],
            [(p["message_id"], p["consumer"], p["times_delivered"]) for p in held],
        )

    def commands(self, call: Call[Any]) -> Counter[str]:
        """The commands that the server ran for a call, without the call itself. The server must be this test's own."""
        self.run(call)  # so that its script is known, and what it makes once is there
        return self.commands_now(call)

    def commands_now(self, call: Call[Any]) -> Counter[str]:
        """`commands` for a call that can be made once only."""
        if call.script is not None:
            self.client.script_load(call.script.source)
        before = self._counts()
        self.run(call)
        ran = self._counts() - before
        for name in ("evalsha", "info"):
            del ran[name]
        return ran

    def _counts(self) -> Counter[str]:
        stats: Any = self.client.info("commandstats")
        counts: Counter[str] = Counter()
        for name, values in stats.items():
            counts[name.removeprefix("cmdstat_").partition("|")[0]] += values["calls"]
        return counts
