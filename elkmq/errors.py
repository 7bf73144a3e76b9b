"""Every error that ElkMQ raises, and the one place where errors of redis-py and of the Lua scripts become ours.

::

    EventQueueError (RuntimeError)
    ├── EmptyQueue                   nothing to hand out
    ├── TimeoutExpired               no response in time
    ├── LeaseLost                    the delivery belongs to somebody else now, or is done
    ├── QueueClosed                  this object was closed
    ├── EnqueueError                 the event was not accepted
    │   └── QueueFull                ... because the queue is at its maximum length
    ├── DequeueError                 an event could not be handed out
    ├── JSONDumpError                a value cannot be written as JSON
    ├── JSONParseError               an entry cannot be read as an event
    ├── QueueNameError (ValueError)  \\
    ├── InvalidEvent (ValueError)     } the caller's mistake, found before anything is sent
    ├── InvalidOption (ValueError)   /
    ├── ServerConnectionError (ConnectionError)   refused, broken, too slow, still loading
    ├── AuthenticationError          wrong or missing password, or a missing ACL permission
    ├── EmbeddedServerError          the embedded server cannot be had or did not start
    └── ServerError                  the server said no
        ├── ServerReadOnly           ... it takes no writes: a replica, or its disk is full
        ├── ServerOutOfMemory        ... it is at ``maxmemory``
        ├── ServerTooOld             ... it lacks a command
        ├── WrongKeyType             ... another program owns a key of that name
        └── FormatTooNew             ... a newer release of ElkMQ laid out the queue

Each message is one sentence: what happened, what became of the message, what to do. No message holds a password.
"""

from __future__ import annotations

import re

__all__ = [
    "AuthenticationError",
    "DequeueError",
    "EmbeddedServerError",
    "EmptyQueue",
    "EnqueueError",
    "EventQueueError",
    "FormatTooNew",
    "InvalidEvent",
    "InvalidOption",
    "JSONDumpError",
    "JSONParseError",
    "LeaseLost",
    "QueueClosed",
    "QueueFull",
    "QueueNameError",
    "ServerConnectionError",
    "ServerError",
    "ServerOutOfMemory",
    "ServerReadOnly",
    "ServerTooOld",
    "TimeoutExpired",
    "WrongKeyType",
    "translate",
]


class EventQueueError(RuntimeError):
    """Base of all errors of ElkMQ. A `RuntimeError`, as every failure of elk-mq 0.1's Python module is."""


class EmptyQueue(EventQueueError):
    """There was no event to hand out, or none came before the timeout. Nothing was changed; try again later."""


class TimeoutExpired(EventQueueError):
    """No response came before the event's timeout.

    The request is no longer handed out; a responder that has it already may still finish its work, and a response that
    comes now is dropped. Whether to ask again is the caller's choice: the work may have been done.
    """


class LeaseLost(EventQueueError):
    """The delivery is no longer this consumer's: its lease ran out, it was handed to another, or it is completed.

    What was asked for was not done and nothing was changed. The event is in other hands or done; stop working on it.
    """


class QueueClosed(EventQueueError):
    """The queue object, client or consumer was closed. Nothing was sent; open a new one."""


class EnqueueError(EventQueueError):
    """The event was not accepted. It is not in the queue; the message says why and whether a retry can help."""


class QueueFull(EnqueueError):
    """The queue is at its maximum length and set to reject. The event is not in the queue; try later, or raise the limit."""


class DequeueError(EventQueueError):
    """An event could not be handed out although there was one; the message says where it is now."""


class JSONDumpError(EventQueueError):
    """A value cannot be written as JSON. Nothing was sent; give a value of JSON's types."""


class JSONParseError(EventQueueError):
    """An entry is not an event in elk-mq's JSON form. It is kept among the dead letters; correct its producer."""


class QueueNameError(EventQueueError, ValueError):
    """The name cannot be a queue's. Nothing was sent; choose another name."""


class InvalidEvent(EventQueueError, ValueError):
    """An event was given a value that it cannot carry. Nothing was sent; correct the value."""


class InvalidOption(EventQueueError, ValueError):
    """An option, a url or an argument makes no sense. Nothing was sent; correct it."""


class ServerConnectionError(EventQueueError, ConnectionError):
    """The server cannot be reached: refused, broken off, too slow to answer, or still loading its data.

    The message says what became of the event. Every step may be repeated: a retry of the same event adds no second entry.
    """


class AuthenticationError(EventQueueError):
    """The server wants a password, refused the one given, or its ACL does not permit a command.

    Nothing was changed; correct the url's user and password or the user's ACL (docs list the commands needed).
    """


class EmbeddedServerError(EventQueueError):
    """The embedded server cannot be had, did not start, or died. What was acknowledged is in its data folder."""


class ServerError(EventQueueError):
    """The server refused a command; its own words are in the message, which says what became of the event."""


class ServerReadOnly(ServerError):
    """The server takes no writes at present: it is a replica, or cannot save. Nothing was changed; use the primary."""


class ServerOutOfMemory(ServerError):
    """The server is at ``maxmemory``. Nothing was changed; give it memory or let consumers catch up, then retry."""


class ServerTooOld(ServerError):
    """The server lacks a command that ElkMQ needs. Nothing was changed; use Redis 6.0 or Valkey 8 or newer."""


class WrongKeyType(ServerError):
    """A key that should be the queue's is of another type: another program uses that name. Choose another queue name."""


class FormatTooNew(ServerError):
    """The queue was laid out by a newer release of ElkMQ. Nothing was changed; upgrade this program."""


_UNCHANGED = "nothing was changed"

# Code in an error reply -> error, what happened, what became of the message ("" if the code leaves that open: the caller
# knows), what to do. {text} is what the reply says after the code.
_BY_CODE: dict[str, tuple[type[EventQueueError], str, str, str]] = {
    "ELKMQ_LEASE_LOST": (LeaseLost, "the lease was lost: {text}", _UNCHANGED, "stop working on this delivery"),
    "ELKMQ_CONSUMER_GONE": (
        LeaseLost, "this consumer was declared dead: {text}", "its deliveries went back to the queue",
        "stop working on them and start a new consumer"),
    "ELKMQ_QUEUE_FULL": (
        QueueFull, "the queue is full: {text}", "the event is not in the queue", "try later or raise the limit"),
    "ELKMQ_FORMAT": (
        FormatTooNew, "a newer release of ElkMQ laid out this queue: {text}", _UNCHANGED, "upgrade this program"),
    "ELKMQ_WRONG_KEY": (
        WrongKeyType, "a key of the queue is of another type: {text}", "",
        "another program uses that name: choose another queue name"),
    "WRONGTYPE": (
        WrongKeyType, "a key of the queue holds another type of value", "",
        "another program uses that name: choose another queue name"),
    "OOM": (
        ServerOutOfMemory, "{server} is out of memory (maxmemory)", _UNCHANGED,
        "raise maxmemory or let consumers catch up, then try again"),
    "READONLY": (ServerReadOnly, "{server} is a read-only replica", _UNCHANGED, "connect to the primary"),
    "MISCONF": (
        ServerReadOnly, "{server} takes no writes because it cannot save to disk", _UNCHANGED,
        "make room on its disk and read its log"),
    "NOREPLICAS": (
        ServerReadOnly, "{server} takes no writes because it has too few replicas", _UNCHANGED,
        "bring its replicas back"),
    "NOAUTH": (AuthenticationError, "{server} wants a password", _UNCHANGED, "put user and password into the url"),
    "WRONGPASS": (
        AuthenticationError, "{server} refused the user or password", _UNCHANGED, "correct them in the url"),
    "NOPERM": (
        AuthenticationError, "the ACL of {server} does not permit it: {text}", _UNCHANGED,
        "give the user the commands and keys that the documentation lists"),
    "LOADING": (
        ServerConnectionError, "{server} is still loading its data", _UNCHANGED, "try again in a moment"),
    "BUSY": (
        ServerConnectionError, "{server} is busy with another program's script", _UNCHANGED, "try again in a moment"),
    "CLUSTERDOWN": (ServerConnectionError, "the cluster is down: {text}", _UNCHANGED, "try again in a moment"),
    "MASTERDOWN": (
        ServerConnectionError, "{server} has lost its primary", _UNCHANGED, "try again in a moment"),
    "TRYAGAIN": (
        ServerConnectionError, "the cluster is moving the queue's slot", _UNCHANGED, "try again in a moment"),
    "CROSSSLOT": (
        ServerError, "the keys are in different slots of the cluster", _UNCHANGED, "report this as a bug of ElkMQ"),
    "NOPROTO": (ServerTooOld, "{server} is too old", _UNCHANGED, "use Redis 6.0 or Valkey 8 or newer"),
}  # fmt: skip

# redis-py cuts the code off the text and raises a class instead. Looked up by class name along the class's bases, since
# the set of classes differs from release to release.
_CODE_BY_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "ClusterCrossSlotError": "CROSSSLOT",
}

# Up to Redis 6.2 an error inside a script comes as "ERR Error running script (call to f_…): @user_script:12: -OOM …"
# and a pipeline of redis-py puts "Command # 1 (…) of pipeline caused error: " before it.
_CODE = re.compile(r"(?:^|[:\s]-?)(ELKMQ_[A-Z_]+|" + "|".join(c for c in _BY_CODE if c[:6] != "ELKMQ_") + r")(?:\s+|:|$)")
_SCRIPT_PLACE = re.compile(r",? ?(?:script: [0-9a-f]{40}, on )?@user_script:\s?\d+\.?:?|\(call to f_[0-9a-f]{40}\):? ?")
# Such a reply quotes the command's arguments: a payload, or the password of AUTH and HELLO.
_QUOTED_ARGS = re.compile(r",? with args beginning with:?.*", re.DOTALL)


def translate(
    exc: Exception,
    *,
    server: str,
    doing: str,
    fate: str,
    otherwise: type[EventQueueError] = ServerError,
) -> EventQueueError:
    """Turn an exception of redis-py, asyncio or the operating system, or an error of our scripts, into one of ours.

    The caller raises the result ``from exc``. An `EventQueueError` comes back as it is.

    :param server: the server in words, without secrets: ``127.0.0.1:6379/0`` (see `elkmq._core.url.sanitised`)
    :param doing: what was tried, to follow "could not": ``enqueue the event``
    :param fate: a clause on what became of the message where the error leaves that open, as a lost reply does:
        ``it is not known whether the event was enqueued``; where the server refused, the message says so instead
    :param otherwise: the class for an error reply that nothing else fits
    """
    if isinstance(exc, EventQueueError):
        return exc
    text = str(exc)
    if (cut := _QUOTED_ARGS.search(text)) is not None:
        text = text[: cut.start()]
        exc.args = (text,)  # the chained exception is printed too
    found = _CODE.search(text)
    code = found.group(1) if found else _code_of_class(exc, text)
    rest = _tidy(text[found.end() :] if found else text)
    if code in _BY_CODE:
        kind, what, known, todo = _BY_CODE[code]
        return _error(kind, doing, what.format(server=server, text=rest or code), known or fate, todo)
    if code == "AUTH":
        return _error(AuthenticationError, doing, f"{server} refused the login: {rest}", _UNCHANGED,
                      "correct user and password in the url")  # fmt: skip
    if code == "OLD":
        return _error(ServerTooOld, doing, f"{server} lacks a command: {rest}", _UNCHANGED,
                      "use Redis 6.0 or Valkey 8 or newer, and rename no commands")  # fmt: skip
    if code == "REFUSED":
        return _error(ServerConnectionError, doing, f"{server} cannot be reached: {rest}", _UNCHANGED,
                      "check the address and that the server runs, then try again")  # fmt: skip
    if code == "SLOW":
        return _error(ServerConnectionError, doing, f"{server} did not answer in time", fate,
                      "check server and network, then try again")  # fmt: skip
    if code == "BROKEN":
        return _error(ServerConnectionError, doing, f"the connection to {server} broke: {rest}", fate,
                      "check that the server runs, then try again")  # fmt: skip
    return _error(otherwise, doing, f"{server} answered: {rest or type(exc).__name__}", fate,
                  "read the server's log")  # fmt: skip


def _error(kind: type[EventQueueError], doing: str, what: str, fate: str, todo: str) -> EventQueueError:
    return kind("; ".join(part for part in (f"could not {doing}: {what}", fate, todo) if part) + ".")


def _tidy(text: str) -> str:
    text = _SCRIPT_PLACE.sub("", text).removeprefix("ERR ").strip().rstrip(".,;: ")
    return text if len(text) <= 200 else text[:200] + "…"


def _code_of_class(exc: Exception, text: str) -> str:
    """What kind of failure an exception is, judged by its classes first and its words second."""
    import asyncio

    from redis import exceptions as theirs

    for base in type(exc).__mro__:
        if base.__name__ in _CODE_BY_CLASS:
            return _CODE_BY_CLASS[base.__name__]
    low = text.lower()
    if isinstance(exc, theirs.AuthenticationError | theirs.AuthorizationError) or "for 'auth' command" in low:
        return "WRONGPASS" if "invalid username-password" in low else "AUTH"
    if type(exc).__name__ == "ExternalAuthProviderError":
        return "AUTH"
    if "acl failure in script" in low or "can't run this command or subcommand" in low:
        return "NOPERM"
    if "unknown command" in low or "unknown redis command" in low or "unknown subcommand" in low:
        return "OLD"
    if isinstance(exc, theirs.TimeoutError | TimeoutError | asyncio.TimeoutError):
        return "REFUSED" if "connecting" in low else "SLOW"
    if isinstance(exc, theirs.ConnectionError | theirs.RedisClusterException | theirs.ClusterError | OSError | EOFError):
        return "REFUSED" if _never_connected(exc, low) else "BROKEN"
    return ""


def _never_connected(exc: Exception, low: str) -> bool:
    return (
        "connecting to" in low
        or "max number of clients" in low
        or "too many connections" in low
        or "cannot be connected" in low
        or "no master found" in low
        or isinstance(exc, ConnectionRefusedError | FileNotFoundError)
    )
