"""RabbitMQ's queue arguments as settings of our queues."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elkmq.keys import is_reserved
from kombu_elkmq.errors import precondition_failed
from kombu_elkmq.options import TransportOptions

log = logging.getLogger("kombu_elkmq")

DECLARE = (50, 10)

MOST = 10**15
"""What scripts still count exactly; as milliseconds 31,000 years."""

_MEANINGLESS = frozenset(
    {
        "x-queue-type", "x-queue-mode", "x-queue-version", "x-queue-master-locator", "x-queue-leader-locator", "x-ha-policy",
        "x-quorum-initial-group-size", "x-dead-letter-strategy", "x-max-in-memory-length", "x-max-in-memory-bytes",
    }
)  # fmt: skip
"""Accepted without a word: they say how a cluster of RabbitMQ stores a queue."""

_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """What a queue was declared with."""

    text: str
    """As JSON, to compare with an earlier declaration."""
    settings: Mapping[str, str]
    expires: int | None
    """Milliseconds after which to look for the first time whether it outlived its last use; None: it stays for ever."""
    max_priority: int | None
    ttl: int | None


def read(queue: str, arguments: Mapping[str, Any], options: TransportOptions, *, short_lived: bool) -> QueueArguments:
    """Read the arguments of a declaration.

    :param short_lived: auto-delete or exclusive
    :raises amqp.PreconditionFailed: one has a value that makes no sense
    """
    settings: dict[str, str] = {}
    given = {name: value for name, value in arguments.items() if value is not None}
    expires = _number(queue, given, "x-expires", 1)
    after = round(options.auto_delete_after * 1000)
    if expires is None and short_lived:
        expires = after
    look = expires
    if expires is not None and short_lived and after < expires:
        settings["auto_delete_after"] = str(after)  # once it had a consumer
        look = after
    for name, setting, least in (
        ("x-message-ttl", "ttl", 0), ("x-max-length", "max_length", 0), ("x-delivery-limit", "delivery_limit", 0),
    ):  # fmt: skip
        number = _number(queue, given, name, least)
        if number is not None:
            settings[setting] = str(number)
    max_priority = _number(queue, given, "x-max-priority", 0)
    if max_priority is not None and max_priority > 255:
        raise _wrong(queue, "x-max-priority", max_priority, "a whole number from 0 to 255")
    if "x-max-length-bytes" in given:
        raise precondition_failed(
            f"argument x-max-length-bytes of queue {queue!r} would not be kept: ElkMQ counts messages, not bytes; the queue was "
            "not declared; use x-max-length", DECLARE,
        )  # fmt: skip
    overflow = given.get("x-overflow", "drop-head")
    if overflow not in ("drop-head", "reject-publish", "reject-publish-dlx"):
        raise _wrong(queue, "x-overflow", overflow, "'drop-head' or 'reject-publish'")
    if "max_length" in settings:
        settings["overflow"] = "drop_oldest" if overflow == "drop-head" else "reject"
    single = given.get("x-single-active-consumer", False)
    if single not in (True, False):
        raise _wrong(queue, "x-single-active-consumer", single, "true or false")
    if single:
        settings["single_active"] = "1"
    exchange = given.get("x-dead-letter-exchange")
    if exchange is not None:
        if not isinstance(exchange, str):
            raise _wrong(queue, "x-dead-letter-exchange", exchange, "text")
        # The settings cannot hold an empty text; the default exchange is written as AMQP's own name for it.
        settings["dead_letter_exchange"] = exchange or DEFAULT_EXCHANGE
        settings["dead_letter_expired"] = "1"
        key = given.get("x-dead-letter-routing-key")
        if key is not None:
            settings["dead_letter_routing_key"] = _dead_letter_key(queue, exchange, key)
    elif given.get("x-dead-letter-routing-key") is not None:
        raise precondition_failed(
            f"argument x-dead-letter-routing-key of queue {queue!r} is of no use without x-dead-letter-exchange; the queue was "
            "not declared; give both", DECLARE,
        )  # fmt: skip
    if expires is not None:
        settings["expires"] = str(expires)
    for name in given:
        if name.startswith("x-") and name not in _KNOWN and name not in _MEANINGLESS and name not in _warned:
            _warned.add(name)
            log.warning("queue argument %s means nothing to ElkMQ; it was ignored", name)
    # What means nothing here is no reason to refuse a declaration.
    compared = {name: value for name, value in given.items() if name in _KNOWN}
    text = json.dumps(compared, sort_keys=True, default=str, separators=(",", ":"))
    return QueueArguments(text, settings, look, max_priority, int(settings["ttl"]) if "ttl" in settings else None)


def _dead_letter_key(queue: str, exchange: str, key: object) -> str:
    if key == "":  # a setting cannot say so, and the message's own key would be another thing
        raise _wrong(queue, "x-dead-letter-routing-key", key, "a key, or leave it out")
    if not exchange and is_reserved(str(key)):
        raise _wrong(queue, "x-dead-letter-routing-key", key, "a name that a queue can have")
    return str(key)


DEFAULT_EXCHANGE = "amq.default"

_KNOWN = frozenset(
    {
        "x-expires", "x-message-ttl", "x-max-length", "x-overflow", "x-max-priority", "x-delivery-limit",
        "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-single-active-consumer",
    }
)  # fmt: skip


def _number(queue: str, given: Mapping[str, Any], name: str, least: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= MOST or value != int(value):
        raise _wrong(queue, name, value, f"a whole number from {least} to {MOST}")
    return int(value)


def _wrong(queue: str, name: str, value: object, wants: str) -> Any:
    return precondition_failed(
        f"argument {name} of queue {queue!r} is {value!r}; the queue was not declared; give {wants}", DECLARE
    )
