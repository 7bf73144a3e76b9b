"""Every error that ElkMQ raises, and the one place where errors of redis-py and of the Lua scripts become ours.

::

    EventQueueError (RuntimeError)
    ├── EmptyQueue                   nothing to hand out
    ├── TimeoutExpired               no response in time
    ├── RequestFailed                the handler of a request raised
    ├── EffectBusy                   an effect is being done by somebody else
    ├── LeaseLost                    the delivery belongs to somebody else now, or is done
    ├── QueueClosed                  this object was closed
    ├── EnqueueError                 the event was not accepted
    │   └── QueueFull                ... because the queue is at its maximum length
    ├── DequeueError                 an event could not be handed out
    ├── JSONDumpError                a value cannot be written as JSON
    ├── JSONParseError               an entry cannot be read as an event
    ├── QueueNameError (ValueError)  the caller's mistake, found before anything is sent
    ├── InvalidEvent (ValueError)    ... a value that an event cannot carry
    ├── InvalidOption (ValueError)   ... an option, argument or url that makes no sense
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
    "EffectBusy",
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
    "RequestFailed",
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


class RequestFailed(EventQueueError):
    """The handler of a request raised. The request is completed; the message holds what the handler raised."""


class EffectBusy(EventQueueError):
    """Somebody else has claimed the effect and is not done. Nothing was done; try again when the claim has run out."""


class LeaseLost(EventQueueError):
    """The delivery is no longer this consumer's: its lease ran out, it was handed to another, or it is completed.

    What was asked for was not done and nothing was changed. The event is in other hands or done; stop working on it.
    """


class QueueClosed(EventQueueError):
    """The queue object, client or consumer was closed. Nothing was sent; open a new one."""


class EnqueueError(EventQueueError):
    """The event was not accepted. It is not in the queue; the message says why and whether a retry can help."""


class QueueFull(EnqueueError):
    """The queue is at its maximum length and set to reject. The event is not in it; try later, or raise the limit."""


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

    The message says what became of the event. A retry of the same event adds no second entry.
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
    """A key that should be the queue's is of another type: another program uses that name. Choose another name."""


class FormatTooNew(ServerError):
    """The queue was laid out by a newer release of ElkMQ. Nothing was changed; upgrade this program."""


_LONGEST = 200  # characters of a foreign text in a message
_UNCHANGED = "nothing was changed"
_LATER = "try again in a moment"
_NEWER = "use Redis 6.0 or Valkey 8 or newer, and rename no commands"
_OTHER_NAME = "another program uses that name: choose another queue name"

# Code of an error reply, or (in lower case) of another failure -> error, what happened, what became of the message (""
# if the code leaves that open: the caller knows), what to do. {text} is what the reply says after its code.
_KINDS: dict[str, tuple[type[EventQueueError], str, str, str]] = {
    "ELKMQ_LEASE_LOST": (LeaseLost, "the lease was lost: {text}", _UNCHANGED, "stop working on this delivery"),
    "ELKMQ_CONSUMER_GONE": (
        LeaseLost, "this consumer was declared dead: {text}", "its deliveries went back to the queue",
        "stop working on them and start a new consumer"),
    "ELKMQ_QUEUE_FULL": (
        QueueFull, "the queue is full: {text}", "the event is not in the queue", "try later or raise the limit"),
    "ELKMQ_FORMAT": (
        FormatTooNew, "a newer release of ElkMQ laid out this queue: {text}", _UNCHANGED, "upgrade this program"),
    "ELKMQ_WRONG_KEY": (WrongKeyType, "a key of the queue is of another type: {text}", "", _OTHER_NAME),
    "ELKMQ_SERVES_ORIGINAL": (
        DequeueError, "the queue is set to serve consumers of elk-mq 0.1", _UNCHANGED,
        "consume it with elk-mq 0.1, or change the queue's setting"),
    "ELKMQ_SETTINGS_DIFFER": (
        InvalidOption, "the queue has another value of this setting: {text}", _UNCHANGED,
        "ask for the same, or change the queue's settings first"),
    "ELKMQ_BAD_SETTING": (
        InvalidOption, "the queue cannot be set so: {text}", _UNCHANGED, "correct it"),
    "ELKMQ_TOO_MANY_FIELDS": (
        InvalidEvent, "an event has more fields than an entry can hold: {text}", "nothing was enqueued",
        "put them into its payload"),
    "WRONGTYPE": (WrongKeyType, "a key of the queue holds another type of value", "", _OTHER_NAME),
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
    "WRONGPASS": (AuthenticationError, "{server} refused the user or password", _UNCHANGED, "correct them in the url"),
    "login": (AuthenticationError, "{server} refused the login: {text}", _UNCHANGED, "correct the url"),
    "DENIED": (
        AuthenticationError, "{server} is in protected mode and takes no connection from here", _UNCHANGED,
        "give it a password, and put that into the url"),
    "NOPERM": (
        AuthenticationError, "the ACL of {server} does not permit it: {text}", _UNCHANGED,
        "give the user the commands and keys that the documentation lists"),
    "LOADING": (ServerConnectionError, "{server} is still loading its data", _UNCHANGED, _LATER),
    "BUSY": (ServerConnectionError, "{server} is busy with another program's script", _UNCHANGED, _LATER),
    "CLUSTERDOWN": (ServerConnectionError, "the cluster is down: {text}", _UNCHANGED, _LATER),
    "MASTERDOWN": (ServerConnectionError, "{server} has lost its primary", _UNCHANGED, _LATER),
    "TRYAGAIN": (ServerConnectionError, "the cluster is moving the queue's slot", _UNCHANGED, _LATER),
    "ASK": (ServerConnectionError, "the cluster is moving the queue's slot", _UNCHANGED, _LATER),
    "MOVED": (
        ServerConnectionError, "the queue's slot is with another node of the cluster", _UNCHANGED,
        "try again in a moment, by a url of a cluster (redis+cluster://, elkmq+cluster://)"),
    "CROSSSLOT": (
        ServerError, "the keys are in different slots of the cluster", _UNCHANGED, "report this as a bug of ElkMQ"),
    "NOPROTO": (ServerTooOld, "{server} is too old", _UNCHANGED, _NEWER),
    "old": (ServerTooOld, "{server} lacks a command: {text}", _UNCHANGED, _NEWER),
    "database": (
        InvalidOption, "{server} has no such database", _UNCHANGED, "correct the number at the end of the url"),
    "refused": (
        ServerConnectionError, "{server} cannot be reached: {text}", _UNCHANGED,
        "check the address and that the server runs, then try again"),
    "slow": (
        ServerConnectionError, "{server} did not answer in time", "", "check server and network, then try again"),
    "broken": (
        ServerConnectionError, "the connection to {server} broke: {text}", "",
        "check that the server runs, then try again"),
}  # fmt: skip

# Failures known by their words, in lower case: redis-py has cut the code off, or there never was one.
_WORDS = (
    ("invalid username-password", "WRONGPASS"),
    ("authentication required", "NOAUTH"),
    ("client already authenticated", "NOAUTH"),
    ("acl failure in script", "NOPERM"),
    ("can't run this command or subcommand", "NOPERM"),
    ("unknown command", "old"),
    ("unknown redis command", "old"),
    ("db index is out of range", "database"),
    ("max number of clients", "refused"),
    ("too many connections", "refused"),
    ("connecting to", "refused"),
    ("connect call failed", "refused"),
    ("no master found", "refused"),
    ("non local key in a cluster node", "TRYAGAIN"),
)

# Failures known by their class or one of its bases: by name, because the set differs between redis-py 5.3 and 8, and
# because redis-py, asyncio and Python each have their own ConnectionError and TimeoutError. More special ones first.
_CLASSES = (
    ("OutOfMemoryError", "OOM"),
    ("ReadOnlyError", "READONLY"),
    ("NoPermissionError", "NOPERM"),
    ("BusyLoadingError", "LOADING"),
    ("MasterDownError", "MASTERDOWN"),
    ("ClusterDownError", "CLUSTERDOWN"),
    ("TryAgainError", "TRYAGAIN"),
    ("MovedError", "MOVED"),
    ("AskError", "TRYAGAIN"),
    ("ClusterCrossSlotError", "CROSSSLOT"),
    ("AuthenticationError", "login"),
    ("AuthenticationWrongNumberOfArgsError", "login"),
    ("AuthorizationError", "login"),
    ("ExternalAuthProviderError", "login"),
    ("ConnectionRefusedError", "refused"),
    ("FileNotFoundError", "refused"),
    ("gaierror", "refused"),
    ("RedisClusterException", "refused"),
    ("TimeoutError", "slow"),
    ("ConnectionError", "broken"),
    ("ClusterError", "broken"),
    ("OSError", "broken"),
    ("EOFError", "broken"),
)

# Up to Redis 6.2 an error inside a script comes as "Error running script (call to f_…): @user_script:12: -OOM …".
_CODE = re.compile(rf"(?:^|[:\s]-?)(ELKMQ_[A-Z_]+|{'|'.join(k for k in _KINDS if k.isupper())})(?:\s+|:|$)")
_SCRIPT_PLACE = re.compile(
    r",? ?(?:script: (?:\w{40}, )?on )?@user_script:\s?\d+\.?:?|Error running script |\(call to f_\w{40}\):? ?"
)
_SOCKET_PLACE = re.compile(r"^Error -?\d+ (?:while )?(?:connecting to|writing to|reading from) \S+\. ")
# Both quote a command's arguments: a payload, or the password of AUTH and HELLO. The second is redis-py's.
_QUOTED_ARGS = re.compile(
    r",? with args beginning with:?.*|^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL
)


def translate(
    exc: Exception,
    *,
    server: str,
    doing: str,
    fate: str,
    maybe_ran: bool = False,
    otherwise: type[EventQueueError] = ServerError,
) -> EventQueueError:
    """Turn an exception of redis-py, asyncio or the operating system, or an error of our scripts, into one of ours.

    The caller raises the result ``from exc``. An `EventQueueError` comes back as it is.

    Args:
        exc: What was raised.
        server: The server in words, without secrets: ``127.0.0.1:6379/0`` (see `elkmq._core.url`).
        doing: What was tried, to follow "could not": ``enqueue the event``.
        fate: A clause on what became of the message where the error leaves that open, as a lost reply does:
            ``it is not known whether the event was enqueued``; where the server refused, the message says so instead.
        maybe_ran: An attempt before this one may have been carried out, so that ``fate`` counts whatever the error says.
        otherwise: The class for an error reply that nothing else fits.
    """
    if isinstance(exc, EventQueueError):
        return exc
    text = _QUOTED_ARGS.sub("", str(exc))
    if text != str(exc):
        exc.args = (text,)  # a traceback shows the chained exception too
    found = _CODE.search(text)
    code = found.group(1) if found else _code_without_reply(exc, text.lower())
    kind, what, known, todo = _KINDS.get(code, (otherwise, "{server} answered: {text}", "", "read the server's log"))
    text = _tidy(text[found.end() :] if found and code in _KINDS else text) or type(exc).__name__
    what = what.format(server=server, text=text)
    became = fate if maybe_ran else known or fate
    return kind("; ".join(part for part in (f"could not {doing}: {what}", became, todo) if part) + ".")


def _code_without_reply(exc: Exception, words: str) -> str:
    bases = {base.__name__ for base in type(exc).__mro__}
    for part, code in _WORDS:
        if part in words:
            return code
    return next((code for name, code in _CLASSES if name in bases), "")


def _tidy(text: str) -> str:
    text = _SOCKET_PLACE.sub("", _SCRIPT_PLACE.sub("", text)).strip().removeprefix("ERR ").strip(".,;: ")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
