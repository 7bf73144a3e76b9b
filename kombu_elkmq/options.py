"""``broker_transport_options``: one table of every option, its unit, default and meaning.

Options come from the url's query and from Celery's ``broker_transport_options`` (Kombu's ``transport_options``); the
latter win. An option that is not in the table, or whose value makes no sense, is an error that names the right one.
Options of ``redis://`` that have no meaning here are accepted, with one warning that says what replaces them.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from elkmq._core.connecting import ConnectOptions
from elkmq.errors import InvalidOption
from elkmq.keys import is_reserved

__all__ = ["LegacyOptionWarning", "TransportOptions"]


class LegacyOptionWarning(UserWarning):
    """Options of ``redis://`` that do nothing on ``elkmq://``; the text says what does."""


def _seconds(value: object) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number) or number <= 0:
        raise ValueError
    return number


def _count(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = int(value)  # type: ignore[call-overload]
    if number != float(value) or number < 0:  # type: ignore[arg-type]
        raise ValueError
    return int(number)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return known[str(value).lower()]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _order(value: object) -> str:
    if value not in ("round_robin", "priority"):
        raise ValueError
    return str(value)


def _redeclare(value: object) -> str:
    if value not in ("refuse", "keep"):
        raise ValueError
    return str(value)


def _option(default: Any, check: Callable[[object], Any], wants: str) -> Any:
    return field(default=default, metadata={"check": check, "wants": wants})


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """Everything that can be set, checked. `load` makes one from what the user wrote."""

    lease: float = _option(30.0, _seconds, "seconds, above 0")
    """Seconds after which a worker that was not heard of counts as dead and its messages go to others. Tasks may take
    longer: a live worker renews its lease."""

    global_keyprefix: str = _option("", _text, "text")
    """Put before every key in Redis. Also the name of this option on ``redis://``."""

    publish_timeout: float = _option(5.0, _seconds, "seconds, above 0")
    """Seconds in which a publish over a broken connection is tried again before it raises. Each try adds the message at
    most once in all."""

    fetch_limit: int = _option(256, _count, "a whole number above 0")
    """Most messages fetched in one round trip, however large the prefetch. With no prefetch limit, also the most that
    wait in the worker undelivered."""

    queue_order_strategy: str = _option("round_robin", _order, "'round_robin' or 'priority'")
    """Which of several consumed queues comes first: each in turn, or the first in the list while it has messages."""

    priority_lowest_first: bool = _option(False, _flag, "true or false")
    """Read priorities as the stock Redis transport does, 0 being the most urgent. By default the highest number is, as
    in RabbitMQ. All producers must agree."""

    max_priority: int = _option(9, _count, "a whole number from 0 to 255")
    """Priorities above it count as this one, on queues that set no ``x-max-priority``."""

    delivery_limit: int = _option(20, _count, "a whole number")
    """Failures (crash, reject with requeue) after which a message goes to the dead letters, on queues that set no
    ``x-delivery-limit``; 0: never."""

    eta_in_broker: bool = _option(True, _flag, "true or false")
    """Keep tasks with an ``eta`` or ``countdown`` in the broker until they are due, rather than in a worker's memory."""

    redeclare: str = _option("refuse", _redeclare, "'refuse' or 'keep'")
    """What becomes of the declaration of a queue that is there with other arguments: refused with AMQP's 406, as RabbitMQ
    does, or (``keep``) a warning, and the queue goes on as it is."""

    unroutable_queue: str | None = _option(None, _text, "a queue name")
    """Queue for messages that no binding leads anywhere; by default they are dropped, or returned if ``mandatory``."""

    auto_delete_after: float = _option(60.0, _seconds, "seconds, above 0")
    """Seconds that an auto-delete or exclusive queue without ``expires`` outlives a reader that vanished."""

    master_name: str | None = _option(None, _text, "text")
    """Sentinel: the name of the primary, where the url does not say it as ``service``."""

    connect: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Options of the connections themselves, to be read with the url: see `elkmq._core.connecting.ConnectOptions`."""

    @classmethod
    def load(cls, options: Mapping[str, Any], query: Mapping[str, str] | None = None) -> TransportOptions:
        """Check what the user wrote and fill in the defaults.

        :param options: Kombu's ``transport_options``
        :param query: the url's query; an option that is in both is taken from ``options``
        :raises InvalidOption: naming the option, what it wants, or the one that was probably meant
        """
        given: dict[str, Any] = {}
        connect: dict[str, Any] = {}
        replaced: dict[str, str] = {}
        for name, value in {**(query or {}), **options}.items():
            if name in _TABLE:
                given[name] = value
            elif name in _OF_CONNECTIONS:
                connect[name] = value
            elif name == "sentinel_kwargs":
                connect.update(_of_sentinels(value))
            elif name in _ALIASES:
                given.setdefault(_ALIASES[name], value)
                replaced[name] = f"it is called {_ALIASES[name]!r} here"
            elif name in _OF_REDIS:
                replaced[name] = _OF_REDIS[name]
            elif name not in _OF_KOMBU:
                raise _unknown(name)
        if "priority_steps" in replaced and not given.get("priority_lowest_first"):
            replaced["priority_steps"] += "; set 'priority_lowest_first' to keep 0 the most urgent"
        _warn(replaced)
        values = {name: _checked(name, value) for name, value in given.items() if value is not None}
        return cls(connect=connect, **values)

    def __post_init__(self) -> None:
        if self.fetch_limit < 1:
            raise InvalidOption("option 'fetch_limit' is 0; nothing was started; give a whole number above 0.")
        if self.unroutable_queue is not None and (not self.unroutable_queue or is_reserved(self.unroutable_queue)):
            raise InvalidOption(
                f"option 'unroutable_queue' is {self.unroutable_queue!r}; nothing was started; give a name that a queue can have."
            )
        if self.max_priority > 255:
            raise InvalidOption(
                f"option 'max_priority' is {self.max_priority}; nothing was started; give a number from 0 to 255."
            )
        if self.lease < 1:
            raise InvalidOption(
                f"option 'lease' is {self.lease:g} s; nothing was started; give at least 1 second, "
                "or workers would lose their messages to every pause."
            )


_TABLE = {each.name: each for each in fields(TransportOptions) if each.name != "connect"}

_OF_CONNECTIONS = frozenset(each.name for each in fields(ConnectOptions)) - {"max_connections", "retry_for"}
"""Of the library's, those that a connection of Kombu has too: it has three to the server, and its own times to try again."""

_OF_URLS = frozenset({"username", "userid", "password", "host", "hostname", "port", "db", "virtual_host"})

_ALIASES = {"deadletter_queue": "unroutable_queue"}
"""Options of ``redis://`` that go by another name here."""

_OF_KOMBU = frozenset(
    {
        "max_retries", "interval_start", "interval_step", "interval_max", "retry_errors", "connect_retries_timeout",
        "timeout", "errback", "callback", "on_revive", "confirm_publish",
    }
)  # fmt: skip
"""What Kombu itself reads, or puts there on every publish with a retry policy. Every publish is confirmed here."""

_OF_REDIS = {
    "visibility_timeout": "a message belongs to its worker for as long as the worker lives: see 'lease', in seconds",
    "ack_emulation": "messages are always acknowledged",
    "unacked_key": "unacknowledged messages stay in their queue",
    "unacked_index_key": "unacknowledged messages stay in their queue",
    "unacked_mutex_key": "nothing has to be locked to bring messages back",
    "unacked_mutex_expire": "nothing has to be locked to bring messages back",
    "unacked_restore_limit": "messages of a dead worker come back together, within a 'lease'",
    "unacked_restore_interval": "messages of a dead worker come back within a 'lease'",
    "unacked_restore_throttle": "messages of a dead worker come back within a 'lease'",
    "fanout_prefix": "databases are always kept apart",
    "fanout_patterns": "routing keys are always matched",
    "sentinel_fanout_compat": "broadcasts do not go through PUBLISH",
    "sep": "every priority has a stream of its own",
    "priority_steps": "every priority has a stream of its own, none are lumped together",
    "body_encoding": "bodies are stored as they are",
    "polling_interval": "nothing is polled",
    "brpop_timeout": "nothing is polled",
    "socket_keepalive": "keepalive is always on",
    "socket_keepalive_options": "keepalive is always on",
    "min_other_sentinels": "a Sentinel is believed if the server it names says that it is the primary",
    "health_check_interval": "every wait has a deadline: see 'socket_timeout'",
    "reauth_check_interval": "a new token is used as soon as 'credential_provider' has one",
    "retry_on_timeout": "a publish is tried again for 'publish_timeout' seconds and adds the message once",
    "retry_on_error": "a publish is tried again for 'publish_timeout' seconds and adds the message once",
    "max_connections": "a Kombu connection has at most three to the server: see Celery's 'broker_pool_limit'",
    "ssl": "write elkmqs:// in the url, or give the options that begin with 'ssl_'",
    "predefined_queues": "queues need not be known beforehand",
}
"""Options of ``redis://`` that have no meaning here, and what has."""

_warned: set[str] = set()


def _warn(replaced: Mapping[str, str]) -> None:
    news = {name: why for name, why in replaced.items() if name not in _warned}
    if news:
        _warned.update(news)
        listed = "; ".join(f"{name!r}: {why}" for name, why in sorted(news.items()))
        warnings.warn(
            f"broker_transport_options of redis:// with no effect on elkmq:// can be removed ({listed}).",
            LegacyOptionWarning,
            stacklevel=4,
        )


def _unknown(name: str) -> InvalidOption:
    if str(name) in _OF_URLS:
        form = "elkmq://user:password@host:port/db"
        return InvalidOption(f"{str(name)!r} is no transport option; nothing was started; write it in the url, {form}.")
    known = sorted({*_TABLE, *_OF_CONNECTIONS})
    near = difflib.get_close_matches(str(name), known, n=1)
    meant = f"{near[0]!r} is probably meant" if near else "the options are: " + ", ".join(known)
    return InvalidOption(f"there is no transport option {str(name)!r}; nothing was started; {meant}.")


def _of_sentinels(value: object) -> dict[str, Any]:
    """The login at the Sentinels, as ``redis://`` has it."""
    known = {"username": "sentinel_username", "password": "sentinel_password"}
    if not isinstance(value, Mapping):
        raise InvalidOption("transport option 'sentinel_kwargs' is not a mapping; nothing was started; give a mapping.")
    if wrong := sorted(str(name) for name in value if name not in known):
        raise InvalidOption(
            f"transport option 'sentinel_kwargs' has {wrong[0]!r}; nothing was started; give 'username' and 'password', "
            "and everything else as options of their own."
        )
    return {known[name]: given for name, given in value.items()}


def _checked(name: str, value: object) -> Any:
    check: Callable[[object], Any] = _TABLE[name].metadata["check"]
    try:
        return check(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        wants = _TABLE[name].metadata["wants"]
        shown = type(value).__name__ if isinstance(value, Mapping) else repr(value)[:60]
        raise InvalidOption(f"transport option {name!r} is {shown}; nothing was started; give {wants}.") from None
