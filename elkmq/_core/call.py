"""A verb of the queue as a value: what to send to Redis and how to read the answer.

The core builds calls and never touches a socket; a driver (``elkmq._sync.link``, ``elkmq._aio.link``, the Kombu
transport's poller) sends them. So each verb is written once and every driver behaves the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Generic, TypeVar

from elkmq.errors import InvalidEvent
from elkmq.event import MAX_EVENT_BYTES
from elkmq.keys import FORMAT

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Arg = bytes | str | int

MOST_BYTES = MAX_EVENT_BYTES + 1024 * 1024
"""Bytes of one call at most: the largest event (Redis' ``proto-max-bulk-len``) and what is said about it."""

DOING = "run the command"
FATE = "it is not known whether the server carried it out"


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file of ``elkmq/lua``. Its SHA-1 is its version: two releases never overwrite each other's scripts."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script of ``elkmq/lua/NAME.lua``, each ``--- include NAME`` line replaced by ``lua/include/NAME.lua``.

    An include may include others; each is inserted once, in the order of first mention. ``$FORMAT`` becomes `FORMAT`.
    """
    source = _expand((resources.files("elkmq") / "lua" / f"{name}.lua").read_text("utf-8"), set())
    source = source.replace("$FORMAT", str(FORMAT))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _expand(text: str, seen: set[str]) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("--- include "):
            name = line.removeprefix("--- include ").strip()
            if name not in seen:
                seen.add(name)
                path = resources.files("elkmq") / "lua" / "include" / f"{name}.lua"
                lines.append(_expand(path.read_text("utf-8"), seen))
        elif line.strip() and not line.lstrip().startswith("--"):
            lines.append(line.strip())
    return "\n".join(lines) + "\n"


_LENGTHS = [b"$%d" % length for length in range(256)]


def bulks(values: Iterable[Arg]) -> bytes:
    """Encode arguments as RESP bulk strings."""
    lines: list[bytes] = []
    add = lines.append
    for value in values:
        data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
        length = len(data)
        add(_LENGTHS[length] if length < 256 else b"$%d" % length)
        add(data)
    add(b"")
    return b"\r\n".join(lines)


@dataclass(slots=True, eq=False)  # not frozen, which would make each cost four times as much
class Call(Generic[T_co]):
    """One command for the server. Nobody changes it.

    ``parse`` reads a reply that is not an error; ``retry`` says that sending it again after a lost reply changes nothing
    more (every script is written so, unless its header says otherwise); ``block`` is how long, in seconds, the server may
    hold the reply back (0.0: it answers at once).
    """

    parse: Callable[[Any], T_co]
    command: tuple[Arg, ...]
    script: Script | None = None
    retry: bool = True
    block: float = 0.0
    prefix: bytes = b""
    """Bulk strings already encoded (command name, SHA, key count, constant keys) that come before ``command``'s."""
    prefix_count: int = 0
    doing: str = DOING
    """What the call does, for errors, to follow "could not": ``enqueue the event``."""
    fate: str = FATE
    """What became of the message if the reply is lost for good, for errors."""
    until: float | None = None
    """When nobody wants its reply any more (`time.monotonic`), and it is not repeated; None: as long as the channel repeats calls."""

    def packed(self) -> bytes:
        """The call in RESP, as it goes over the socket.

        Raises:
            InvalidEvent: It is larger than what a server takes, which would hang up on it, again and again.
        """
        args = self.command
        if not args:
            return b"*%d\r\n%b" % (self.prefix_count, self.prefix)
        data = b"*%d\r\n%b%b" % (self.prefix_count + len(args), self.prefix, bulks(args))
        if len(data) > MOST_BYTES:
            raise InvalidEvent(
                f"could not {self.doing}: all in all it takes {len(data):,} bytes and Redis takes at most {MOST_BYTES:,} at once; "
                "nothing was sent; keep the data elsewhere and send where it is, or send less in one step."
            )
        return data


class Prepared(Generic[T]):
    """A script bound to its keys: everything of the command that never changes, encoded once.

    Calling it with the arguments that do change gives the `Call`.
    """

    __slots__ = ("_count", "_doing", "_fate", "_keys", "_parse", "_prefix", "_retry", "_script")

    def __init__(
        self,
        name: str,
        keys: tuple[bytes, ...],
        parse: Callable[[Any], T],
        *,
        retry: bool = True,
        doing: str = DOING,
        fate: str = FATE,
    ) -> None:
        self._script = script(name)
        self._doing = doing
        self._fate = fate
        self._keys = keys
        self._parse = parse
        self._retry = retry
        parts: tuple[Arg, ...] = ("EVALSHA", self._script.sha, len(keys), *keys)
        self._prefix = bulks(parts)
        self._count = 3 + len(keys)

    def __call__(self, *args: Arg, parse: Callable[[Any], T] | None = None, retry: bool = True) -> Call[T]:
        return Call(
            parse or self._parse,
            args,
            self._script,
            self._retry and retry,
            0.0,
            self._prefix,
            self._count,
            self._doing,
            self._fate,
        )


class _Hole(bytes):
    __slots__ = ()


HOLE: bytes = _Hole()
"""In the call that makes a `Form`: an argument that changes."""


class Form(Generic[T]):
    """A call of which few arguments change, all else encoded once, for what somebody waits for most.

    Calling it with the bytes for the holes, in order, gives the `Call`.
    """

    __slots__ = ("_count", "_filled", "_header", "call")

    def __init__(self, call: Call[T]) -> None:
        """``call``: one with `HOLE` for what changes, in its ``command``."""
        pieces, known = [call.prefix], list[Arg]()
        for value in call.command:
            if isinstance(value, _Hole):
                pieces[-1] += bulks(known)
                pieces.append(b"\r\n")
                known = []
            else:
                known.append(value)
        pieces[-1] += bulks(known)
        self._filled = b"$%d\r\n%b".join(piece.replace(b"%", b"%%") for piece in pieces)
        self._count = call.prefix_count + len(call.command)
        self._header = b"*%d\r\n" % self._count
        self.call = call
        """The one that it was made from."""

    def __call__(self, *values: bytes, block: float = 0.0, until: float | None = None) -> Call[T]:
        call, filled = self.call, self._fill(values)
        return Call(call.parse, (), call.script, call.retry, block, filled, self._count, call.doing, call.fate, until)

    def packed(self, *values: bytes) -> bytes:
        """What the `Call` would be packed as."""
        return self._header + self._fill(values)

    def _fill(self, values: tuple[bytes, ...]) -> bytes:
        if len(values) == 2:  # an acknowledgement's
            first, second = values
            return self._filled % (len(first), first, len(second), second)
        return self._filled % tuple(chain.from_iterable(zip(map(len, values), values, strict=True)))


def slot_key(call: Call[Any]) -> bytes | None:
    """The key whose slot a call is for, on a Cluster; None: any node can answer it.

    It is read back from the command, so that nobody pays for it where there are no slots.
    """
    if call.script is not None:
        # Behind the command's name, the SHA and the number of keys, each a line of its length and one of itself.
        *_, length, rest = call.prefix.split(b"\r\n", 7)
        return rest[: int(length[1:])]
    name, *arguments = call.command or ("",)
    if name in _KEYLESS or not arguments:
        return None
    found = arguments[arguments.index("STREAMS") + 1 if "STREAMS" in arguments else 0]
    return found if isinstance(found, bytes) else str(found).encode()


_KEYLESS = frozenset({"CLIENT", "HELLO", "INFO", "PING"})


def encoded(call: Call[T]) -> Call[T]:
    """The same call with all of it encoded, for one that is sent many times."""
    count = call.prefix_count + len(call.command)
    return replace(call, command=(), prefix=call.prefix + bulks(call.command), prefix_count=count)


def command(
    *parts: Arg,
    parse: Callable[[Any], T],
    retry: bool = True,
    block: float = 0.0,
    doing: str = DOING,
    fate: str = FATE,
) -> Call[T]:
    """A plain Redis command as a call."""
    return Call(parse, parts, None, retry, block, doing=doing, fate=fate)
