"""Events, and their form on the wire, which is elk-mq 0.1's byte for byte (docs/elk-mq-0.1-wire.md).

An event is the JSON object ::

    {"request_uuid":<unsigned 128-bit integer>,"timeout":<seconds>,"action":"<text>","payload":"<text>" or null}

with its fields in that order, without spaces, its text as UTF-8 with nothing escaped that JSON does not require.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple, NoReturn, cast, final
from uuid import UUID

from elkmq.errors import InvalidEvent, JSONParseError
from elkmq.options import encodable, shown

__all__ = ["MAX_EVENT_BYTES", "MAX_TIMEOUT", "ServiceEvent", "TimestampedEvent"]

MAX_TIMEOUT: Final = 65_535
"""The longest timeout of an event in seconds: the wire format has 16 bits for it."""

MAX_EVENT_BYTES: Final = 512 * 1024 * 1024
"""The most bytes of JSON one event may take: Redis' default ``proto-max-bulk-len``."""

_VERSION_4 = 0x4000_8000_0000_0000_0000
_NOT_VERSION_4 = ~0xF000_C000_0000_0000_0000


@final
class ServiceEvent:
    """What one program tells another: an action, and perhaps data. Immutable, hashable, equal by value.

    Args:
        timeout: Whole seconds from 1 to 65535, counted from the enqueue: how long anybody waits for a response.
        action: Any text that means something to the consumer; may be empty.
        payload: Any text, or None; by convention JSON or another format both sides agreed on.
        uuid: Identifies the request and its response; a new random one (version 4) unless given.

    Raises:
        InvalidEvent: (a `ValueError`) for a value that an event cannot carry; nothing was sent.
    """

    __slots__ = ("_id", "_known_as", "action", "payload", "timeout")
    __match_args__ = ("timeout", "action", "payload")

    _id: Final[int]  # type: ignore[misc]
    _known_as: str | None
    timeout: Final[int]  # type: ignore[misc]  # set through the slots, since __setattr__ refuses
    """Whole seconds, from 1 to 65535."""
    action: Final[str]  # type: ignore[misc]
    """What is asked for, or what happened."""
    payload: Final[str | None]  # type: ignore[misc]
    """The data, or None."""

    def __init__(self, timeout: int, action: str, payload: str | None = None, *, uuid: UUID | None = None) -> None:
        if type(timeout) is not int:
            timeout = _whole(timeout)
        if not 0 < timeout <= MAX_TIMEOUT:
            raise InvalidEvent(f"timeout is {shown(timeout)}; nothing was sent; give whole seconds from 1 to 65535.")
        if type(action) is not str or not action.isascii():
            action = _text("action", action)
        if payload is not None:
            if type(payload) is not str or not payload.isascii():
                payload = _text("payload", payload)
            if len(payload) > MAX_EVENT_BYTES:
                raise _too_large(len(payload))
        if uuid is None:
            number = int.from_bytes(os.urandom(16), "big") & _NOT_VERSION_4 | _VERSION_4
        elif isinstance(uuid, UUID):
            number = uuid.int
        else:
            raise InvalidEvent(f"uuid is {type(uuid).__name__}; nothing was sent; give a uuid.UUID or leave it out.")
        _set_id(self, number)
        _set_timeout(self, timeout)
        _set_action(self, action)
        _set_payload(self, payload)
        _set_known_as(self, None)

    @property
    def uuid(self) -> UUID:
        """What identifies the request; its response has the same."""
        return UUID(int=self._id)

    @property
    def request_uuid(self) -> int:
        """The uuid as it stands on the wire: an unsigned 128-bit integer."""
        return self._id

    @classmethod
    def create_response(
        cls, event: ServiceEvent, action: str, payload: str | None = None, timeout: int | None = None
    ) -> ServiceEvent:
        """Make an event that answers ``event``: with its uuid and, unless another is given, its timeout."""
        if not isinstance(event, ServiceEvent):
            raise InvalidEvent(f"cannot answer a {type(event).__name__}; nothing was sent; give the ServiceEvent.")
        response = cls(event.timeout if timeout is None else timeout, action, payload, uuid=_NIL)
        _set_id(response, event._id)
        return put_back(response)

    def to_dict(self) -> dict[str, str | int | None]:
        """Return ``uuid`` (as hyphenated text), ``timeout``, ``action`` and ``payload``, as elk-mq's does."""
        return {"uuid": str(self.uuid), "timeout": self.timeout, "action": self.action, "payload": self.payload}

    def to_json(self) -> bytes:
        """Return the event in its wire form.

        Raises:
            InvalidEvent: It takes more than `MAX_EVENT_BYTES`.
        """
        payload = self.payload
        data = (
            f'{{"request_uuid":{self._id},"timeout":{self.timeout},"action":{encode_basestring(self.action)},'
            f'"payload":{"null" if payload is None else encode_basestring(payload)}}}'
        ).encode()
        if len(data) > MAX_EVENT_BYTES:
            raise _too_large(len(data))
        return data

    @staticmethod
    def from_json(data: bytes) -> ServiceEvent:
        """Read an event from its wire form.

        As strict as elk-mq 0.1 (types, ranges, a field given twice; unknown fields are skipped, an absent payload is
        None), and stricter in two: a timeout of 0 and an array in place of the object are refused.

        Raises:
            JSONParseError: It is no event; the message says what is wrong with it.
        """
        if type(data) is bytes and (plain := _PLAIN(data)) is not None:
            return from_plain(plain)
        text = _decoded(data)
        pairs = _parsed(text)
        # The order every writer uses, known before the general case: half the cost of a dict and four look-ups.
        if type(pairs) is _Pairs and len(pairs) == 4:
            (k1, number), (k2, timeout), (k3, action), (k4, payload) = pairs
            if k1 != "request_uuid" or k2 != "timeout" or k3 != "action" or k4 != "payload":
                number, timeout, action, payload = _fields(pairs)
        else:
            number, timeout, action, payload = _fields(pairs)
        if type(number) is not int or number < 0 or number >> 128:
            raise _not_an_event(f"request_uuid is {_said(number)}, not an unsigned 128-bit integer")
        if type(timeout) is not int or not 0 < timeout <= MAX_TIMEOUT:
            raise _not_an_event(f"timeout is {_said(timeout)}, not whole seconds from 1 to 65535")
        if type(action) is not str:
            raise _not_an_event(f"action is {_said(action)}, not text")
        if payload is not None and type(payload) is not str:
            raise _not_an_event(f"payload is {_said(payload)}, neither text nor null")
        if "\\u" in text and not (encodable(action) and (payload is None or encodable(payload))):
            raise _not_an_event("its text has half a surrogate pair")
        event = _new(ServiceEvent)  # what __init__ checks has been checked
        _set_id(event, number)
        _set_timeout(event, timeout)
        _set_action(event, action)
        _set_payload(event, payload)
        _set_known_as(event, None)
        return event

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ServiceEvent):
            return NotImplemented
        return (
            self._id == other._id
            and self.timeout == other.timeout
            and self.action == other.action
            and self.payload == other.payload
        )

    def __hash__(self) -> int:
        return hash((self._id, self.timeout, self.action, self.payload))

    def __repr__(self) -> str:
        fields = f"timeout={self.timeout}, action={self.action!r}, payload={self.payload!r}, uuid={self.uuid!r}"
        return f"ServiceEvent({fields})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an event cannot be changed: make a new ServiceEvent with another {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an event cannot be changed: it keeps its {name}")

    def __reduce__(self) -> tuple[Callable[..., ServiceEvent], tuple[object, ...]]:
        return _again, (self.timeout, self.action, self.payload, self.uuid, known_as(self))


class TimestampedEvent(NamedTuple):
    """An event and when it was enqueued."""

    timestamp: int
    """Redis' clock at the enqueue, in milliseconds since 1970."""
    event: ServiceEvent
    """The event itself."""


_Setter = Callable[[ServiceEvent, Any], None]
_set_id: _Setter = ServiceEvent.__dict__["_id"].__set__
_set_timeout: _Setter = ServiceEvent.__dict__["timeout"].__set__
_set_action: _Setter = ServiceEvent.__dict__["action"].__set__
_set_payload: _Setter = ServiceEvent.__dict__["payload"].__set__
_set_known_as: _Setter = ServiceEvent.__dict__["_known_as"].__set__
_new: Callable[[type[ServiceEvent]], ServiceEvent] = object.__new__

Plain = re.Match[bytes]

_PLAIN = re.compile(
    rb'\{"request_uuid":(0|[1-9]\d{0,37}|[12]\d{38}|3[0-3]\d{37}),'
    rb'"timeout":([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]),'
    rb'"action":"([ !#-\[\]-~]*)","payload":(?:null|"([ !#-\[\]-~]*(?:\\"[ !#-\[\]-~]*)*)")\}'
).fullmatch


def plainly_an_event(data: bytes) -> Plain | None:
    """What is found where the bytes are for certain an event, told in a third of the time of `ServiceEvent.from_json`.

    It is for nearly all events in ASCII as every writer writes them, with no escape but that of quotes in the payload, which
    JSON has; None says nothing.
    """
    return _PLAIN(data)


def from_plain(found: Plain, known: str | None = None) -> ServiceEvent:
    """The event that `plainly_an_event` found; with '' for ``known`` as one that was in a queue (`put_back`)."""
    number, timeout, action, payload = found.groups()
    event = _new(ServiceEvent)
    _set_id(event, int(number))
    _set_timeout(event, int(timeout))
    _set_action(event, action.decode())
    _set_payload(event, None if payload is None else payload.replace(b'\\"', b'"').decode())
    _set_known_as(event, known)
    return event


def response_json(event: ServiceEvent, action: str, payload: str | None) -> bytes:
    """What ``ServiceEvent.create_response(event, action, payload).to_json()`` gives, mostly at half its cost.

    Raises: InvalidEvent.
    """
    if (
        type(action) is str
        and action.isascii()
        and type(payload) is str
        and len(payload) < _SHORT
        and payload.isascii()
    ):
        return (
            f'{{"request_uuid":{event._id},"timeout":{event.timeout},"action":{encode_basestring(action)},'
            f'"payload":{encode_basestring(payload)}}}'
        ).encode()
    return ServiceEvent.create_response(event, action, payload).to_json()


_SHORT = 1024 * 1024
"""Characters with which an event is in no danger of being too large, however they are written."""

_NIL = UUID(int=0)
_SPACE = " \t\n\r"


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with its keys in order and as often as they came, to tell it from an array."""


def _said(value: object) -> str:
    return "an object" if type(value) is _Pairs else shown(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_scan = cast(
    "Callable[[str, int], tuple[Any, int]]",
    json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_no_constant).scan_once,  # type: ignore[attr-defined]
)


def _decoded(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise _not_an_event("it is not UTF-8") from None
    except TypeError:
        raise _not_an_event(f"it is {shown(data)}, not bytes") from None


def _parsed(text: str) -> object:
    try:
        found, end = _scan(text, 0 if text[:1] == "{" else len(text) - len(text.lstrip(_SPACE)))
    except StopIteration:
        raise _not_an_event("it is not JSON") from None
    except RecursionError:
        raise _not_an_event("it is nested too deeply") from None
    except ValueError as exc:
        raise _not_an_event(f"it is not JSON ({str(exc)[:60]})") from None
    if end != len(text) and text[end:].strip(_SPACE):
        raise _not_an_event("something follows the object")
    return found


def _fields(found: object) -> tuple[Any, Any, Any, Any]:
    """Pick the four fields from an object, in whatever order and with whatever else they came."""
    if type(found) is not _Pairs:
        raise _not_an_event(f"it is {shown(found)}, not an object")
    known: dict[str, Any] = {}
    for key, value in found:
        if key in ("request_uuid", "timeout", "action", "payload"):
            if key in known:
                raise _not_an_event(f"field {key} is there twice")
            known[key] = value
    known.setdefault("payload", None)
    for key in ("request_uuid", "timeout", "action"):
        if key not in known:
            raise _not_an_event(f"field {key} is missing")
    return known["request_uuid"], known["timeout"], known["action"], known["payload"]


def uuid_hex(event: ServiceEvent) -> str:
    """What ``event.uuid.hex`` is, at half its cost."""
    return f"{event._id:032x}"


def uuid_text(event: ServiceEvent) -> str:
    """What ``str(event.uuid)`` is, at half its cost."""
    digits = f"{event._id:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def put_back(event: ServiceEvent) -> ServiceEvent:
    """Mark an event as one that was in a queue, or answers one: enqueued, it is a new entry although its uuid is known."""
    _set_known_as(event, "")
    return event


def known_as(event: ServiceEvent) -> str | None:
    """What such an event is enqueued as: an id made once, so that enqueueing it again adds nothing; None: its uuid."""
    if event._known_as == "":
        _set_known_as(event, secrets.token_hex(16))
    return event._known_as


def _again(timeout: int, action: str, payload: str | None, uuid: UUID, known: str | None = None) -> ServiceEvent:
    event = ServiceEvent(timeout, action, payload, uuid=uuid)
    _set_known_as(event, known)
    return event


def _whole(timeout: object) -> int:
    """Take a number that is not exactly an `int` but counts as one, as NumPy's do; a bool does not."""
    if not isinstance(timeout, bool):
        try:
            return int(timeout.__index__())  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            pass
    raise InvalidEvent(f"timeout is {shown(timeout)}; nothing was sent; give whole seconds from 1 to 65535 as an int.")


def _text(field: str, value: object) -> str:
    """Return the text as plain `str`, sure that UTF-8 can encode it."""
    if not isinstance(value, str):
        raise InvalidEvent(f"{field} is {type(value).__name__}, not text; nothing was sent; give a str.")
    value = str.__str__(value)
    if not encodable(value):
        raise InvalidEvent(f"{field} has half a surrogate pair; nothing was sent; give text that UTF-8 can encode.")
    return value


def within_limit(size: int) -> None:
    """Refuse an event that takes so many bytes, fields and all, if they are too many. Raises: InvalidEvent."""
    if size > MAX_EVENT_BYTES:
        raise _too_large(size)


def _too_large(size: int) -> InvalidEvent:
    return InvalidEvent(
        f"the event takes {size:,} bytes and Redis takes at most {MAX_EVENT_BYTES:,}; nothing was sent; "
        "keep the data elsewhere and send where it is."
    )


def _not_an_event(why: str) -> JSONParseError:
    return JSONParseError(f"the entry is not an event in elk-mq's JSON form: {why}; correct its producer.")
