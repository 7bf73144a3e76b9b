"""Exchanges and bindings as a session knows them: loaded when needed, and known to be right by their versions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.routing import binding_text
from kombu_elkmq.errors import not_found, precondition_failed
from kombu_elkmq.exchanges import Binding, Exchange, RoutingTable

if TYPE_CHECKING:
    from kombu_elkmq.session import Session

_TYPES = ("direct", "topic", "fanout", "headers")
_BUILT_IN = {
    "amq.direct": "direct", "amq.topic": "topic", "amq.fanout": "fanout", "amq.headers": "headers", "amq.match": "headers",
}  # fmt: skip
"""Exchanges that are there without being declared, as AMQP has them."""


@dataclass(frozen=True, slots=True)
class Known:
    """An exchange, with those it leads to, as they were at some versions."""

    table: RoutingTable
    versions: tuple[tuple[str, str], ...]
    loaded: float
    """When they were known to have these (`elkmq._core.clock`)."""


class Routes:
    """The routing of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, Known] = {}
        self._declared: dict[str, str] = {}
        """What was declared over this connection. Kombu does not declare it again, even if the server forgot it since
        (FLUSHALL, a replica that was behind): we do."""

    def route(
        self, exchange: str, key: str, headers: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """The queues a message goes to, and the versions for which that is right.

        :raises amqp.NotFound: there is no such exchange
        """
        known = self._known.get(exchange) or self._load(exchange)
        return known.table.route(exchange, key, headers), known.versions

    def known_since(self, exchange: str) -> float:
        """When an exchange was loaded as it is known; inf where it is not."""
        known = self._known.get(exchange)
        return math.inf if known is None else known.loaded

    def forget(self, exchange: str) -> None:
        """What is known of an exchange is old."""
        self._known.pop(exchange, None)

    def forget_all(self) -> None:
        """Everything that is known may be old."""
        self._known.clear()

    def table(self, exchange: str) -> RoutingTable:
        """An exchange as it is now."""
        return self._load(exchange).table

    def _load(self, name: str) -> Known:
        session = self._session
        exchanges: dict[str, Exchange] = {}
        bindings: list[Binding] = []
        versions: dict[str, str] = {}
        todo = [name]
        while todo:
            source = todo.pop()
            if source in versions:
                continue
            found = session.run(session.routing.exchange_load(source))
            if not found.get("") and (source in _BUILT_IN or source in self._declared):
                if source in self._declared:
                    session.run(session.routing.exchange_declare(source, self._declared[source]))
                else:
                    self.declare(source, _BUILT_IN[source], durable=True, auto_delete=False, arguments={})
                found = session.run(session.routing.exchange_load(source))
            versions[source] = found.pop("v", "")
            definition = found.pop("", "")
            if not definition:
                if source == name:
                    raise not_found(f"exchange {name!r}", (60, 40))
                continue
            exchange = _read(source, definition)
            exchanges[source] = exchange
            if exchange.alternate:
                todo.append(exchange.alternate)
            for field in found:
                destination, key, to_exchange, arguments = json.loads(field)
                bindings.append(Binding(source, destination, key, bool(to_exchange), arguments or {}))
                if to_exchange:
                    todo.append(destination)
        known = Known(RoutingTable(exchanges.values(), bindings), tuple(versions.items()), clock.now())
        self._known[name] = known
        return known

    # -- declarations

    def declare(self, name: str, kind: str, *, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]) -> None:
        """Declare an exchange.

        :raises amqp.PreconditionFailed: it is another kind, or was declared differently
        """
        if kind not in _TYPES:
            raise precondition_failed(
                f"exchange {name!r} is to be of type {kind!r}; it was not declared; the types are {', '.join(_TYPES)}",
                (40, 10),
            )
        definition = json.dumps(
            {"type": kind, "durable": durable, "auto_delete": auto_delete, "arguments": dict(arguments)},
            sort_keys=True, default=str,
        )  # fmt: skip
        held = self._session.run(self._session.routing.exchange_declare(name, definition))
        if held != definition:
            here, there = _read(name, definition), _read(name, held)
            if here != there:
                raise precondition_failed(
                    f"exchange {name!r} is there as {held}; nothing was changed; declare it like that, or delete it first",
                    (40, 10),
                )
        self._declared[name] = definition
        self.forget(name)

    def exists(self, name: str) -> bool:
        """Whether an exchange was declared."""
        return bool(self._session.run(self._session.routing.exchange_declare(name, ""))) or name in _BUILT_IN

    def delete(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange."""
        self._declared.pop(name, None)
        if self._session.run(self._session.routing.exchange_delete(name, if_unused=if_unused)) < 0:
            raise precondition_failed(
                f"exchange {name!r} has bindings; it was not deleted; unbind them first", (40, 20)
            )
        self.forget(name)

    def bind(self, source: str, destination: str, key: str, arguments: Mapping[str, Any], *, to_exchange: bool) -> None:
        """Bind a queue or an exchange to an exchange."""
        text = binding_text(destination, key, to_exchange, arguments)
        call = self._session.routing.bind(source, text, "" if to_exchange else destination)
        if not self._session.run(call):
            if source not in _BUILT_IN:
                raise not_found(f"exchange {source!r}", (50, 20))
            self.declare(source, _BUILT_IN[source], durable=True, auto_delete=False, arguments={})
            self._session.run(call)
        self.forget(source)

    def unbind(
        self, source: str, destination: str, key: str, arguments: Mapping[str, Any], *, to_exchange: bool
    ) -> None:
        """Take a binding away; one that is not there is no error."""
        text = binding_text(destination, key, to_exchange, arguments)
        self._session.run(self._session.routing.unbind(source, text))
        self.forget(source)

    def bindings(self) -> list[Binding]:
        """All bindings to queues."""
        found: list[Binding] = []
        for name in self._session.run(self._session.routing.exchanges()):
            found += [binding for binding in self._load(name).table.bindings(name) if not binding.to_exchange]
        return found


def _read(name: str, definition: str) -> Exchange:
    found = json.loads(definition)
    return Exchange(name, found["type"], found["durable"], found["auto_delete"], found["arguments"])
