"""Which queues a message goes to: AMQP's four exchange types as pure functions over a routing table.

A `RoutingTable` is a picture of the exchanges and bindings in Redis at one version. It never changes; when the version
in Redis does, a new one is loaded. So it may remember its answers.

Source of the rules: AMQP 0-9-1, section 3.1.3, and RabbitMQ's extensions "Exchange to Exchange Bindings" and "Alternate
Exchanges".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Binding", "Exchange", "RoutingTable", "headers_match", "topic_matches"]

ExchangeType = Literal["direct", "topic", "fanout", "headers"]

_REMEMBERED = 10_000
"""Answers a table remembers; more would be a producer that never uses a routing key twice."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A declared exchange."""

    name: str
    type: ExchangeType = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def alternate(self) -> str | None:
        """The exchange that gets what this one cannot route."""
        name = self.arguments.get("alternate-exchange")
        return name if isinstance(name, str) and name else None


@dataclass(frozen=True, slots=True)
class Binding:
    """What leads from an exchange to a queue, or to another exchange."""

    source: str
    destination: str
    key: str = ""
    to_exchange: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


class RoutingTable:
    """Exchanges and bindings at one version.

    :param version: what Redis said with them; a publish that names another version is told to load the table anew
    """

    __slots__ = ("_answers", "_bindings", "_by_key", "exchanges", "version")

    def __init__(
        self, exchanges: Iterable[Exchange] = (), bindings: Iterable[Binding] = (), version: int | str = 0
    ) -> None:
        self.version = version
        self.exchanges: dict[str, Exchange] = {exchange.name: exchange for exchange in exchanges}
        self._bindings: dict[str, list[Binding]] = {}
        self._by_key: dict[tuple[str, str], list[Binding]] = {}
        self._answers: dict[tuple[str, str], tuple[str, ...]] = {}
        for binding in bindings:
            self._bindings.setdefault(binding.source, []).append(binding)
            self._by_key.setdefault((binding.source, binding.key), []).append(binding)

    def bindings(self, exchange: str | None = None) -> Iterator[Binding]:
        """The bindings of one exchange, or all."""
        for source, found in self._bindings.items():
            if exchange is None or source == exchange:
                yield from found

    def route(self, exchange: str, key: str, headers: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """The queues that get a message, each once, in the order of their bindings; none where it cannot be routed.

        The default exchange ``""`` leads to the queue named by the routing key, whether or not there is one.
        """
        if not exchange:
            return (key,)
        answer = self._answers.get((exchange, key))
        if answer is not None:
            return answer
        queues: dict[str, None] = {}
        depends_on_headers = self._visit(exchange, key, headers or {}, queues, set())
        answer = tuple(queues)
        if not depends_on_headers and len(self._answers) < _REMEMBERED:
            self._answers[exchange, key] = answer
        return answer

    def _visit(self, name: str, key: str, headers: Mapping[str, Any], queues: dict[str, None], seen: set[str]) -> bool:
        """Collect the queues behind an exchange. Return whether the headers had a say in it."""
        exchange = self.exchanges.get(name)
        if exchange is None or name in seen:
            return False
        seen.add(name)
        by_headers = exchange.type == "headers"
        matching = list(self._matching(exchange, key, headers))
        for binding in matching:
            if binding.to_exchange:
                by_headers |= self._visit(binding.destination, key, headers, queues, seen)
            else:
                queues[binding.destination] = None
        if not matching and exchange.alternate is not None:
            by_headers |= self._visit(exchange.alternate, key, headers, queues, seen)
        return by_headers

    def _matching(self, exchange: Exchange, key: str, headers: Mapping[str, Any]) -> Iterator[Binding]:
        if exchange.type == "direct":
            return iter(self._by_key.get((exchange.name, key), ()))
        bindings = self._bindings.get(exchange.name, ())
        if exchange.type == "fanout":
            return iter(bindings)
        if exchange.type == "topic":
            words = _words(key)
            return (binding for binding in bindings if _words_match(_words(binding.key), words))
        return (binding for binding in bindings if headers_match(binding.arguments, headers))


def topic_matches(pattern: str, key: str) -> bool:
    """Whether a topic binding matches: words between dots, ``*`` any one word, ``#`` any number of them, also none."""
    return _words_match(_words(pattern), _words(key))


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _words_match(pattern: list[str], words: list[str]) -> bool:
    # The greedy matching of shell patterns: on a mismatch only the last "#" can take one word more, so the cost is
    # bounded by the product of the lengths whatever the pattern.
    p = w = 0
    after_hash = retry_from = -1
    while w < len(words):
        if p < len(pattern) and pattern[p] == "#":
            after_hash, retry_from = p + 1, w
            p += 1
        elif p < len(pattern) and (pattern[p] == "*" or pattern[p] == words[w]):
            p += 1
            w += 1
        elif after_hash >= 0:
            retry_from += 1
            p, w = after_hash, retry_from
        else:
            return False
    return all(word == "#" for word in pattern[p:])


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether a binding of a headers exchange matches.

    ``x-match`` says how: ``all`` (the default), ``any``, and ``all-with-x`` and ``any-with-x``, which do not skip
    arguments whose names begin with ``x-``. An argument of None asks only that the header is there. With no arguments
    left to compare, ``all`` matches everything and ``any`` nothing.
    """
    mode = str(arguments.get("x-match", "all"))
    with_x = mode.endswith("-with-x")
    wanted = (
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    )
    results = (name in headers and (value is None or _same(headers[name], value)) for name, value in wanted)
    return any(results) if mode.startswith("any") else all(results)


def _same(one: object, other: object) -> bool:
    """Equal, where True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
