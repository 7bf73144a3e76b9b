"""The options of a client (`Options`), the settings that a queue keeps at the server (`QueueSettings`), and queue names.

Every field has its default and unit beside it; what does not fit together is refused when the object is made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, NoReturn

from elkmq.errors import InvalidOption, QueueNameError, ServerError
from elkmq.keys import looks_like_a_key

Seconds = float | timedelta
"""A span of time: seconds as a number, or a `timedelta`."""

MAX_NAME_BYTES = 255
"""As for a queue's name in AMQP 0-9-1 (a short string)."""

MAX_PRIORITY = 255
"""As in RabbitMQ; each level in use costs one stream."""

LONGEST = 3_155_760_000.0
"""Seconds of a time that anything may take: 100 years, which Python's and Redis' clocks can still count to."""


def check_name(name: object) -> str:
    """Return a queue's name.

    Raises:
        QueueNameError: It is not text, empty, over 255 bytes, has braces, white space or control characters, or ends
            like a key of our own.
    """
    if not isinstance(name, str):
        _bad_name(f"is {type(name).__name__}, not text")
    if not name:
        _bad_name("is empty")
    if not encodable(name):
        _bad_name("has half a surrogate pair")
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        _bad_name(f"takes {size} bytes, more than {MAX_NAME_BYTES}")
    if "{" in name or "}" in name:
        _bad_name("has braces, which would put its keys into different slots of a Cluster")
    if any(c.isspace() or not c.isprintable() for c in name):
        _bad_name("has white space or control characters")
    if looks_like_a_key(name):
        _bad_name("ends like one of ElkMQ's own keys")
    return name


def _bad_name(why: str) -> NoReturn:
    raise QueueNameError(f"the queue's name {why}; nothing was sent; choose another name.") from None


def _bad(name: str, why: str) -> NoReturn:
    raise InvalidOption(f"{name} {why}; nothing was sent; correct it.") from None


def seconds(name: str, value: object, *, least: float = 0.0, most: float = LONGEST) -> float:
    """Return a span of time in seconds.

    Raises:
        InvalidOption: It is not a number or `timedelta`, is NaN or infinite, or is out of range.
    """
    if (type(value) is float or type(value) is int) and least <= value <= most:  # NaN is not
        return float(value)
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not _finite(number):
        _bad(name, f"is {shown(value)}, not a finite number of seconds or a timedelta")
    if not least <= number <= most:
        _bad(
            name,
            f"is {number:g} s, not from {least:g} to {most:g}"
            if most < LONGEST or number > most
            else f"is {number:g} s, below {least:g}",
        )
    return float(number)


def milliseconds(name: str, value: object, *, least: float = 0.0) -> int:
    """Return a span of time in whole milliseconds, at least 1 unless it is 0; 100 years at most. Raises: InvalidOption."""
    span = seconds(name, value, least=least)
    return max(1, round(span * 1000)) if span else 0


def whole(name: str, value: object, least: int, most: int) -> int:
    """Return a whole number in a range. Raises: InvalidOption."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        _bad(name, f"is {shown(value)}, not a whole number from {least} to {most}")
    return value


def flag(name: str, value: object) -> bool:
    """Return True or False. Raises: InvalidOption: it is anything else, which might mean either."""
    if not isinstance(value, bool):
        _bad(name, f"is {shown(value)}, neither True nor False")
    return value


def text(name: str, value: object, most: int) -> str:
    """Return text that can be sent, of at most so many characters. Raises: InvalidOption."""
    if not isinstance(value, str):
        _bad(name, f"is {shown(value)}, not text")
    if len(value) > most:
        _bad(name, f"has {len(value)} characters, more than {most}")
    if not encodable(value):
        _bad(name, "has half a surrogate pair")
    return value


def path_of(name: str, value: object) -> str:
    """Return the path of a file or folder as text. Raises: InvalidOption."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str) or not found or "\0" in found or not encodable(found):
        _bad(name, f"is {shown(value)}, not a path")
    return found


def encodable(value: str) -> bool:
    """Whether UTF-8 can encode it: half a surrogate pair cannot be."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond what a float can be
        return False


def shown(value: object) -> str:
    """A value in a message: cut short, never a number whose digits take seconds to tell, and whatever its class does."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, str | bytes | bytearray):
        value = value[:100]
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's class, or lists nested too deeply
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:60] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a client works with its queue. Times are in seconds."""

    lease: float = 30.0
    """How long a consumer may be silent before its deliveries go to others; it is renewed every third of it. 1 to 3600."""
    dedupe_window: float = 120.0
    """How long an event's unique id is remembered, so that enqueueing it again adds nothing; 0: not at all. To 86400."""
    delivery_limit: int = 20
    """A delivery that failed more often becomes a dead letter, where the queue has no limit of its own (RabbitMQ's
    default for quorum queues since 4.0); 0: none."""
    global_keyprefix: str = ""
    """What every key starts with (Kombu's name for it)."""
    compete_with_originals: bool = False
    """Consume from a queue that serves consumers of elk-mq 0.1, although nobody can keep them from handing out an event
    that was handed out here."""

    def __post_init__(self) -> None:
        seconds("lease", self.lease, least=1, most=3600)
        seconds("dedupe_window", self.dedupe_window, most=86_400)
        whole("delivery_limit", self.delivery_limit, 0, 1_000_000)
        prefix = text("global_keyprefix", self.global_keyprefix, MAX_NAME_BYTES)
        if "{" in prefix or "}" in prefix:
            _bad("global_keyprefix", "has braces")
        flag("compete_with_originals", self.compete_with_originals)

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return round(float(self.lease) * 1000)


Overflow = Literal["reject", "drop_oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What a queue is set to do, for all of its clients; kept at the server. None: the default."""

    max_length: int | None = None
    """Ready events it holds at most; default: no limit."""
    overflow: Overflow | None = None
    """What a full queue does: ``reject`` new events (`QueueFull`, the default) or ``drop_oldest``."""
    ttl: Seconds | None = None
    """Time to live of every event, from its enqueue; default: for ever. An event's own ttl can only be shorter."""
    delivery_limit: int | None = None
    """A delivery that failed more often becomes a dead letter; default: the consumer's option. 0: no limit."""
    retention_count: int | None = None
    """Completed events kept in the event log, about; default: none unless ``retention`` is set."""
    retention: Seconds | None = None
    """How long completed events stay in the event log."""
    dead_letter_max: int | None = None
    """Dead letters kept at most, the oldest going first; default: all."""
    dead_letter_expired: bool | None = None
    """Whether events whose time to live is over become dead letters; default: they are counted and gone."""
    single_active: bool | None = None
    """Serve one consumer at a time, the others standing by."""
    serve_elkmq01: bool | None = None
    """Serve consumers and responders of elk-mq 0.1 as well; consumers of ours are then refused."""
    paused: bool | None = None
    """Hand out nothing."""

    def __post_init__(self) -> None:
        for name, least in (("max_length", 1), ("delivery_limit", 0), ("retention_count", 1), ("dead_letter_max", 1)):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least, 10**12)
        if self.overflow not in (None, "reject", "drop_oldest"):
            _bad("overflow", f"is {shown(self.overflow)}, neither 'reject' nor 'drop_oldest'")
        if self.overflow is not None and self.max_length is None:
            _bad("overflow", "goes with max_length")
        for name in ("ttl", "retention"):
            if getattr(self, name) is not None:
                milliseconds(name, getattr(self, name), least=0.001)
        for name in ("dead_letter_expired", "single_active", "serve_elkmq01", "paused"):
            if getattr(self, name) is not None:
                flag(name, getattr(self, name))

    def changes(self) -> dict[str, str]:
        """The settings by their names at the server; '' for defaults."""
        return {_NAMES.get(f.name, f.name): as_text(f.name, getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def read(cls, found: Mapping[str, str], changes: Mapping[str, Any] | None = None) -> QueueSettings:
        """From the server's names and text; settings of a newer release that this one does not know are left out.

        Args:
            found: What the server has.
            changes: What some are to be instead.

        Raises:
            ServerError: The server has what makes no sense: somebody wrote it without ElkMQ.
            InvalidOption: The changes make no sense, or not with what the server has.
        """
        values: dict[str, Any] = dict(changes or {})
        try:
            for f in fields(cls):
                text = found.get(_NAMES.get(f.name, f.name))
                if text is not None and f.name not in values:
                    values[f.name] = _from_text(f.name, text)
            return cls(**values)
        except InvalidOption as error:
            if changes:
                raise
            raise ServerError(
                f"a setting of the queue makes no sense as it is at the server: {str(error).partition(';')[0]}; nothing was changed; "
                "set it anew, with configure() or `elkmq settings`."
            ) from error


_NAMES = {"retention": "retention_ms"}
_FLAGS = ("dead_letter_expired", "single_active", "serve_elkmq01", "paused")


def _from_text(name: str, text: str) -> object:
    if name == "overflow":
        return text
    if name in _FLAGS:
        return text == "1"
    try:
        return int(text) / 1000 if name in ("ttl", "retention") else int(text)
    except ValueError:
        _bad(name, f"is {shown(text)}, not a whole number")


def as_text(name: str, value: object) -> str:
    """A setting as the server keeps it; '' where it is the default."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if name in ("ttl", "retention"):
        return str(milliseconds(name, value))
    return str(value)
