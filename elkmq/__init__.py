"""ElkMQ: a message queue over Redis. Events go in, each comes out at one client only; a request awaits its response.

`EventQueue` is where to start; `elkmq.aio` has the same names for asyncio.
"""

from elkmq._core.outgoing import Send
from elkmq._core.serving import Reject, Retry
from elkmq._sync.admin import LogEntry
from elkmq._sync.consumer import Consumer
from elkmq._sync.dead import DeadLetter, DeadLetters
from elkmq._sync.delivery import Delivery
from elkmq._sync.effects import Once
from elkmq._sync.queue import EventQueue
from elkmq._sync.service import Service
from elkmq.errors import (
    AuthenticationError,
    DequeueError,
    EffectBusy,
    EmbeddedServerError,
    EmptyQueue,
    EnqueueError,
    EventQueueError,
    FormatTooNew,
    InvalidEvent,
    InvalidOption,
    JSONDumpError,
    JSONParseError,
    LeaseLost,
    QueueClosed,
    QueueFull,
    QueueNameError,
    RequestFailed,
    ServerConnectionError,
    ServerError,
    ServerOutOfMemory,
    ServerReadOnly,
    ServerTooOld,
    TimeoutExpired,
    WrongKeyType,
)
from elkmq.event import ServiceEvent, TimestampedEvent
from elkmq.options import Options, QueueSettings

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "Consumer",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "DequeueError",
    "EffectBusy",
    "EmbeddedServerError",
    "EmptyQueue",
    "EnqueueError",
    "EventQueue",
    "EventQueueError",
    "FormatTooNew",
    "InvalidEvent",
    "InvalidOption",
    "JSONDumpError",
    "JSONParseError",
    "LeaseLost",
    "LogEntry",
    "Once",
    "Options",
    "QueueClosed",
    "QueueFull",
    "QueueNameError",
    "QueueSettings",
    "Reject",
    "RequestFailed",
    "Retry",
    "Send",
    "ServerConnectionError",
    "ServerError",
    "ServerOutOfMemory",
    "ServerReadOnly",
    "ServerTooOld",
    "Service",
    "ServiceEvent",
    "TimeoutExpired",
    "TimestampedEvent",
    "WrongKeyType",
]
