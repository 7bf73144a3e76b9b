"""Every key name of ElkMQ, and what each key holds. No other module builds one.

A queue called ``NAME`` owns these keys (PREFIX is the ``global_keyprefix``, empty by default). On a Cluster NAME is
written ``{NAME}``, so that one queue lives in one hash slot.

==================================  =======  ==========================================================================
key                                 type     holds
==================================  =======  ==========================================================================
``NAME(event_stream)``              stream   lane 0: entries ready and in flight, group ``elkmq``; fields in lua/README
``NAME(event_stream:P)``            stream   lane of priority P (1 to 255), made when P is first used
``NAME(event_stream:redelivered)``  stream   lane read before all others: entries that come back
``NAME(wake)``                      stream   wake tokens: each ends the blocking read of an idle consumer; group ``elkmq``
``NAME(settings)``                  string   the queue's settings and format version, a line each; absent: all defaults
``NAME(consumers)``                 zset     consumer -> end of its lease, in server milliseconds
``NAME(consumer_info)``             hash     consumer -> JSON: lease, host, pid, started, release
``NAME(delayed)``                   zset     entry, packed by cmsgpack -> when it is due, in server milliseconds
``NAME(dead_letters)``              stream   entries that were given up, with the reason
``NAME(newer_entries)``             zset     dead letters of a format that a release did not know -> that format
``NAME(outbox)``                    stream   events on their way to a queue in another slot or to an exchange
``NAME(event_log)``                 stream   completed events, where the queue is set to keep them
``NAME(counters)``                  hash     what cannot be derived: expired, dead, dropped, purged, ... (include/totals.lua)
``NAME(rates)``                     list     samples of the counters, newest first
``NAME(signals)``                   stream   one entry: wakes consumers that wait for a resume or for their turn
``NAME(active_consumer)``           string   the one consumer that is served, on a single-active-consumer queue
``NAME(exclusive_consumer)``        string   the one consumer there may be, for as long as it lives (Kombu)
``NAME(enqueued:ID)``               string   dedupe mark: the id that the event with the unique id ID was enqueued as
``NAME(dequeued:CLIENT)``           string   what a client's last dequeue was handed, packed by cmsgpack (include/last_dequeue.lua)
``NAME(once:KEY)``                  hash     effect store: claim or result of KEY
``NAME(replies:INBOX)``             stream   responses for one client, gone with its last deadline
``NAME(message_queue)``             list     entry ids for consumers of elk-mq 0.1
``NAME(response_stream)``           stream   responses for requesters of elk-mq 0.1
``NAME(answered)``                  zset     responses in lane 0 -> when nobody waits for them any more, in server milliseconds
==================================  =======  ==========================================================================

What queues share, for Kombu (never in the way of a program that only uses queues):

==================================  =======  ==========================================================================
``PREFIXelkmq(exchange:NAME)``      hash     an exchange: ``""`` its definition, ``v`` its version, a field a binding
``PREFIXelkmq(exchanges)``          set      names of the exchanges
``PREFIXelkmq(bindings:QUEUE)``     set      exchanges that a queue is bound to
``PREFIXelkmq(routing_version)``    string   the last version that an exchange was given
``PREFIXelkmq(expiring)``           zset     queue -> when to look whether it is still used, in server milliseconds
``PREFIXelkmq(unattended)``         set      queues whose expired entries go on though nobody consumes them
==================================  =======  ==========================================================================

On a Cluster they begin with ``PREFIX{elkmq}``: all are in one slot, which is seldom that of a queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FORMAT = 1
"""Version of the layout that the table above and the scripts describe; ``$FORMAT`` in the scripts. See
docs/decisions/formats.md."""

GROUP = "elkmq"
"""The consumer group on every lane."""

_OWN_ENDINGS = (
    "event_stream", "settings", "consumers", "consumer_info", "delayed", "dead_letters", "outbox", "event_log",
    "counters", "rates", "signals", "wake", "active_consumer", "exclusive_consumer", "message_queue", "response_stream", "answered", "newer_entries",
    "exchanges",
    "routing_version", "expiring", "unattended",
)  # fmt: skip
_OWN_FAMILIES = ("event_stream:", "enqueued:", "dequeued:", "once:", "replies:", "exchange:", "bindings:")


def looks_like_a_key(name: str) -> bool:
    """Whether a queue of this name could collide with a key of another queue, such as ``foo(settings)``."""
    if not name.endswith(")") or "(" not in name:
        return False
    ending = name[name.rindex("(") + 1 : -1]
    return ending in _OWN_ENDINGS or ending.startswith(_OWN_FAMILIES)


def is_reserved(name: str) -> bool:
    """Whether a queue of this name could collide with a key of another queue, or have its keys in different slots of a Cluster."""
    return "{" in name or "}" in name or looks_like_a_key(name)


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue, as bytes. ``cluster`` puts the name in braces."""

    name: str
    prefix: str = ""
    cluster: bool = False
    base: bytes = field(init=False)

    def __post_init__(self) -> None:
        name = f"{{{self.name}}}" if self.cluster else self.name
        object.__setattr__(self, "base", (self.prefix + name).encode())

    def of(self, ending: str) -> bytes:
        """The key ``NAME(ENDING)``."""
        return b"%b(%b)" % (self.base, ending.encode())

    def lane(self, priority: int) -> bytes:
        """The stream of a priority; 0 is the main lane, which elk-mq 0.1 reads and writes too."""
        return self.of(f"event_stream:{priority}" if priority else "event_stream")

    @property
    def redelivered(self) -> bytes:
        """The lane that is read before all others."""
        return self.of("event_stream:redelivered")

    @property
    def wake(self) -> bytes:
        """The stream of wake tokens, read together with the lanes."""
        return self.of("wake")

    def mark(self, unique_id: str) -> bytes:
        """The dedupe mark of an event."""
        return self.of(f"enqueued:{unique_id}")

    def once(self, key: str) -> bytes:
        """The effect store's hash for a key."""
        return self.of(f"once:{key}")

    def replies(self, inbox: str) -> bytes:
        """The stream on which a client awaits its responses."""
        return self.of(f"replies:{inbox}")


@dataclass(frozen=True, slots=True)
class SharedKeys:
    """The keys that queues share."""

    prefix: str = ""
    cluster: bool = False

    @property
    def place(self) -> str:
        """What all of them begin with."""
        return f"{self.prefix}{{elkmq}}" if self.cluster else f"{self.prefix}elkmq"

    def exchange(self, name: str) -> bytes:
        """The hash of an exchange."""
        return f"{self.place}(exchange:{name})".encode()

    def of(self, ending: str) -> bytes:
        """One of the others."""
        return f"{self.place}({ending})".encode()
