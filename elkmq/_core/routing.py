"""What queues share, for Kombu: exchanges, bindings, declared queues, and publishing to several queues at once, as calls.

What a script does, returns and costs stands in its header (``elkmq/lua``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from elkmq._core.call import Arg, Call, Prepared, command
from elkmq._core.entry import Outgoing
from elkmq.keys import QueueKeys, SharedKeys

TOMBSTONE = 3_600_000
"""Milliseconds for which a deleted queue of a reader that went takes nothing that is sent straight to its name."""


class Declared(NamedTuple):
    """The reply of queue_declare.lua. ``state``: '' | absent | differs (``told`` are the arguments of the first declaration) |
    locked (``told`` is the owner).
    """

    state: str
    told: str = ""
    ready: int = 0
    unacked: int = 0
    delayed: int = 0
    consumers: int = 0
    alone: str = ""
    """The consumer that is exclusive, and lives."""


class Swept(NamedTuple):
    """The reply of sweep.lua: queues deleted, queues whose outbox is not empty, ms until to look again (-1: no hurry)."""

    dropped: list[str]
    dead: list[str]
    again: int


class Routing:
    """The calls. ``window``: dedupe window in ms."""

    cluster = False

    def __init__(self, prefix: str = "", *, window: int = 120_000) -> None:
        self.keys = SharedKeys(prefix, self.cluster)
        self.prefix = prefix
        self._window = window
        self._place = self.keys.place
        self._prepared: dict[tuple[Any, ...], Prepared[Any]] = {}

    def queue(self, name: str) -> QueueKeys:
        """The keys of a queue."""
        return QueueKeys(name, self.prefix, self.cluster)

    def enqueue(self, queue: str, events: Iterable[Outgoing], *, window: int | None = None) -> Call[list[bytes]]:
        """Accept events for one queue, named by its routing key."""
        args: list[Arg] = [self._window if window is None else window]
        for event in events:
            args += event.arguments()
        return self._call("enqueue", (queue,), ())(*args)

    def publish(
        self,
        queues: Sequence[str],
        route: Sequence[tuple[str, str]],
        events: Iterable[tuple[int, Outgoing]],
        *,
        window: int | None = None,
    ) -> Call[list[bytes] | None]:
        """Accept events (index of the queue, event) if every exchange of ``route`` still has the version given; else None."""
        args: list[Arg] = [self._window if window is None else window, len(queues), *(version for _, version in route)]
        for index, event in events:
            args.append(index + 1)
            args += event.arguments()
        return self._call("publish", tuple(queues), tuple(name for name, _ in route))(*args)

    def _call(self, script: str, queues: tuple[str, ...], exchanges: tuple[str, ...]) -> Prepared[Any]:
        found = self._prepared.get((script, queues, exchanges))
        if found is None:
            if len(self._prepared) > 2000:
                self._prepared.clear()
            lanes = tuple(self.queue(name).lane(0) for name in queues)
            found = Prepared(
                script, lanes + tuple(map(self.keys.exchange, exchanges)), _ids,
                doing="publish the message", fate="it is not known whether the message was published",
            )  # fmt: skip
            self._prepared[script, queues, exchanges] = found
        return found

    # -- exchanges

    def exchange_declare(self, name: str, definition: str) -> Call[str]:
        """Declare; returns the definition that holds ('' to look only, '' where there is none)."""
        return self._exchange("exchange_declare", name, definition, parse=_text)

    def exchange_delete(self, name: str, *, if_unused: bool) -> Call[int]:
        """Delete; -1: something is bound to it."""
        return self._exchange("exchange_delete", name, int(if_unused), parse=int)

    def exchange_load(self, name: str) -> Call[dict[str, str]]:
        """An exchange with its bindings, as it is kept."""
        return command("HGETALL", self.keys.exchange(name), parse=_hash)

    def exchange_version(self, name: str) -> Call[str]:
        """The version of an exchange, '' where there is none."""
        return command(
            "HGET", self.keys.exchange(name), "v", parse=lambda raw: (raw or b"").decode(),
            doing="publish the message", fate="nothing was published",
        )  # fmt: skip

    def exchanges(self) -> Call[list[str]]:
        """The names of all exchanges."""
        return command("SMEMBERS", self.keys.of("exchanges"), parse=_names)

    def bind(self, exchange: str, binding: str, queue: str) -> Call[bool]:
        """Bind; False: there is no such exchange. ``queue`` is '' where the destination is an exchange."""
        return self._exchange("bind", exchange, binding, queue, parse=lambda raw: raw == b"bound")

    def unbind(self, exchange: str, binding: str) -> Call[int]:
        """Take a binding away."""
        return self._exchange("unbind", exchange, binding, parse=int)

    def _exchange(self, script: str, name: str, *args: Arg, parse: Any) -> Call[Any]:
        return Prepared(script, (self.keys.exchange(name),), parse)(self._place, name, *args)

    # -- queues

    def queue_declare(
        self,
        name: str,
        arguments: str,
        settings: Mapping[str, str],
        expires: int | None,
        *,
        who: str = "",
        instead: str = "",
    ) -> Call[Declared]:
        """Declare a queue; ``expires``: ms that it outlives its last use.

        :param who: the consumer that asks; exclusive queues of others are refused
        :param instead: an owner of exclusive queues that left
        """
        pairs = (part for item in settings.items() for part in item)
        keep = "" if expires is None else expires
        return self._queue("queue_declare", name, 0, arguments, keep, who, instead, TOMBSTONE, *pairs, parse=_declared)

    def queue_look(self, name: str, *, who: str = "", instead: str = "") -> Call[Declared]:
        """How much is in a queue, and who reads it."""
        return self._queue("queue_declare", name, 1, "", "", who, instead, TOMBSTONE, parse=_declared)

    def queue_delete(
        self, name: str, *, if_unused: bool, if_empty: bool, tombstone: bool, who: str = "", instead: str = ""
    ) -> Call[int]:
        """Delete a queue and its bindings; the ready events it held, -1: it is used, -2: it is not empty, -3: it is another's."""
        return self._queue(
            "queue_delete", name, int(if_unused), int(if_empty), TOMBSTONE if tombstone else "", who, instead, parse=int
        )  # fmt: skip

    def _queue(self, script: str, name: str, *args: Arg, parse: Any) -> Call[Any]:
        place = "" if self.cluster else self._place
        return Prepared(script, (self.queue(name).lane(0),), parse)(place, name, *args)

    def sweep(self) -> Call[Swept]:
        """See to queues that nobody consumes."""
        keys = (self.keys.of("expiring"), self.keys.of("unattended"))
        return Prepared("sweep", keys, _swept)(self.prefix, self._place, TOMBSTONE)


class Due(NamedTuple):
    """The reply of sweep_due.lua."""

    expiring: dict[str, str]
    """Queues that may be unused -> when they were to be looked at, as the server writes it."""
    unattended: list[str]


class Look(NamedTuple):
    """The reply of sweep_queue.lua; milliseconds until to look again, -1: never."""

    gone: bool
    unused: int
    expired: int
    outbox: int


class ClusterRouting(Routing):
    """The calls on a Cluster, where what queues share is in another slot than each of them: what is one step elsewhere is
    several here, and `kombu_elkmq.cluster` puts them together.
    """

    cluster = True

    def expires(self, name: str, keep: int) -> Call[int]:
        """Have a queue looked at in ``keep`` ms."""
        return Prepared("queue_expires", (self.keys.of("expiring"),), int)(name, keep)

    def unattended(self, name: str, *, there: bool = True) -> Call[int]:
        """Have the dead letters of a queue sent on though nobody consumes it, or (False) not any more."""
        return command("SADD" if there else "SREM", self.keys.of("unattended"), name, parse=int)

    def expiring_at(self, name: str) -> Call[str]:
        """When a queue is to be looked at, as the server writes it; '' where never."""
        return command("ZSCORE", self.keys.of("expiring"), name, parse=lambda raw: (raw or b"").decode())

    def stays(self, name: str) -> Call[int]:
        """Do not look whether a queue is used."""
        return command("ZREM", self.keys.of("expiring"), name, parse=int)

    def queue_forget(self, name: str, seen: str) -> Call[int]:
        """Take away what a deleted queue shared; ``seen``: what `expiring_at` said before it went. 0: it is there anew."""
        keys = (self.keys.of("expiring"), self.keys.of("unattended"))
        return Prepared("queue_forget", keys, int)(self._place, name, seen)

    def sweep_due(self) -> Call[Due]:
        """Which queues to see to."""
        return Prepared("sweep_due", (self.keys.of("expiring"), self.keys.of("unattended")), _due)()

    def sweep_queue(self, name: str, *, unused: bool, expired: bool) -> Call[Look]:
        """See to one."""
        lane = (self.queue(name).lane(0),)
        return Prepared("sweep_queue", lane, _look)(int(unused), int(expired), TOMBSTONE)


def binding_text(destination: str, key: str, to_exchange: bool, arguments: Mapping[str, Any]) -> str:
    """A binding as the field of its exchange's hash: equal bindings are equal byte for byte."""
    return json.dumps([destination, key, int(to_exchange), arguments or None], sort_keys=True, separators=(",", ":"))


def _ids(raw: Any) -> list[bytes] | None:
    return None if raw == b"changed" else list(raw)


def _text(raw: bytes) -> str:
    return raw.decode()


def _names(raw: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in raw)


def _hash(raw: Any) -> dict[str, str]:
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


def _declared(raw: Sequence[Any]) -> Declared:
    state = raw[0].decode()
    if state in ("differs", "locked"):
        return Declared(state, raw[1].decode())
    if state:
        return Declared(state)
    ready, unacked, delayed, consumers, alone = raw[1:]
    return Declared(state, "", ready, unacked, delayed, consumers, alone.decode())


def _swept(raw: Sequence[Any]) -> Swept:
    return Swept(_names(raw[0]), _names(raw[1]), raw[2])


def _due(raw: Sequence[Any]) -> Due:
    names = [item.decode() if isinstance(item, bytes) else str(item) for item in raw[0]]
    return Due(dict(zip(names[::2], names[1::2], strict=True)), _names(raw[1]))


def _look(raw: Sequence[Any]) -> Look:
    return Look(raw[0] == 1, *raw[1:])
