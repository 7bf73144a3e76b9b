"""A consumer as a state object: what it holds and what to do next. It does no I/O and has no clock: both are passed in.

Theory of operation. A shell asks `next_action` and does what it says, reporting the reply, until it is told to deliver:

=============  ====================================================  ==================================
state          what is true                                          action
=============  ====================================================  ==================================
new            not registered (at first, or its lease was lost)      `Open` under a name used never before
reconnected    a reply may have been lost with a connection          `Recover` what was handed out unseen
stale          has deliveries, but no heartbeat was confirmed        `Tend`: nothing is started before the
               within the lease (the process was stopped)            server said that the lease holds
ready          has deliveries in its buffer                          `Deliver` the next
full           as much is unsettled as the prefetch allows           `Full`: wait until something is settled
surplus        a read of several lanes brought more than was asked   `GiveBack` the rest
hungry         there may be entries at the server                    `Take` as many as fit; on a queue with no
                                                                     settings `Read` them, or `Block` at once,
                                                                     which costs the server half as much
empty          the last look brought nothing                         `Block` until somebody enqueues
idle           the queue is paused, or another consumer is served    `Signal`: block until that changes
=============  ====================================================  ==================================

Heartbeats come from elsewhere (`elkmq._heart`), on another thread: `heard` and `gone` are all they call.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import Delivered


@dataclass(frozen=True, slots=True)
class Open:
    """Register."""


@dataclass(frozen=True, slots=True)
class Recover:
    """Ask for what was handed out and never seen."""


@dataclass(frozen=True, slots=True)
class Tend:
    """Send a heartbeat and wait for its answer."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand this entry to the application."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Expired:
    """This entry's time is over: give it up."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Take:
    """Take up to n entries."""

    n: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Read up to n entries, without waiting, as a blocking read would get them."""

    n: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Send these back, unseen."""

    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Block:
    """Wait until somebody enqueues, for up to n entries."""

    n: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Wait until the queue goes on, or this consumer has its turn."""


@dataclass(frozen=True, slots=True)
class Full:
    """Wait until something is settled."""


Action = Open | Recover | Tend | Deliver | Expired | GiveBack | Take | Read | Block | Signal | Full


def consumer_name() -> str:
    """A name never used before: host, process, chance."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


class ConsumerState:
    """One consumer of one queue.

    ``prefetch``: unsettled deliveries at most; ``lease``: seconds; ``on_lost`` is called, on whichever thread finds out,
    when the lease is over and with it every delivery held.
    """

    def __init__(self, *, prefetch: int, lease: float, on_lost: Callable[[], None] | None = None) -> None:
        self.prefetch = prefetch
        self.lease = lease
        self.name = consumer_name()
        self.lanes: tuple[bytes, ...] = (b"r", b"0")
        self.keep = False
        self.held: dict[Delivered, str] = {}
        """Deliveries the application has not settled, with the name they were handed out to."""
        self.batch: int | None = None
        """Entries asked for at once at most, where it is fewer than the prefetch leaves room for."""
        self._on_lost = on_lost
        self._buffer: deque[Entry] = deque()
        self._surplus: list[Entry] = []
        self._token = b""
        self._plain = False
        self._asked = 0
        self._registered = False
        self._reconnected = False
        self._gone = ""
        self._state = ""
        self._empty = False
        self._confirmed = float("-inf")
        self._server_ahead = float("-inf")

    @property
    def buffered(self) -> int:
        """Entries taken and not yet handed to the application."""
        return len(self._buffer)

    @property
    def registered(self) -> bool:
        """Whether the consumer holds a lease, as far as it knows."""
        return self._registered

    def next_action(self, now: float, *, patient: bool = False) -> Action:
        """What to do, ``now`` being seconds on the process's own clock; ``patient``: whether it may wait for entries."""
        if self._gone == self.name:
            self._start_anew()
        if not self._registered:
            return Open()
        if self._reconnected:
            return Recover()
        if self._surplus:
            surplus, self._surplus = self._surplus, []
            return GiveBack(surplus)
        if self._buffer and not self.full:
            if now - self._confirmed >= self.lease:
                return Tend()
            entry = self._buffer.popleft()
            deadline = entry.deadline()
            if deadline is not None and deadline <= self.server_time(now):
                return Expired(entry)
            self.held[entry.lane, entry.id] = self.name
            return Deliver(entry)
        free = self.prefetch - len(self.held)
        if free <= 0:
            return Full()
        if self.batch is not None:
            free = min(free, self.batch)
        if self._state:
            return Signal()
        self._asked = free
        if self._empty or (self._plain and patient):
            return Block(free)
        return Read(free) if self._plain else Take(free, self._token)

    def at_hand(self, n: int, now: float) -> Iterator[Entry]:
        """Up to n entries of the buffer to hand to the application, as `next_action` would one by one."""
        while n > 0 and self._buffer and self._gone != self.name and now - self._confirmed < self.lease:
            entry = self._buffer[0]
            if self.full:
                return
            if b"ttl" in entry.fields:
                return
            self._buffer.popleft()
            self.held[entry.lane, entry.id] = self.name
            n -= 1
            yield entry

    @property
    def full(self) -> bool:
        """Whether as much is unsettled as the prefetch allows."""
        return len(self.held) >= self.prefetch

    def server_time(self, now: float) -> float:
        """The server's clock in ms, not ahead of it."""
        return now * 1000 + self._server_ahead

    # -- replies

    def opened(self, server_ms: int, sent: float, now: float) -> None:
        """Registered; the request was sent at ``sent``."""
        self._registered = True
        self._reconnected = False
        self._empty = False
        self._plain = False
        self._state = ""
        self._confirmed = sent
        self._server_ahead = server_ms - now * 1000

    def taken(self, reply: Taken, now: float) -> None:
        """A take's reply."""
        self._server_ahead = max(self._server_ahead, reply.now - now * 1000)
        self._token = b""
        self._state = reply.state
        self.lanes = reply.lanes
        self.keep = reply.keep
        self._buffer.extend(reply.entries)
        self._empty = not reply.entries and reply.next_event != 0
        self._plain = reply.plain

    def was_read(self, entries: list[Entry]) -> None:
        """The reply of a read, blocking or not, wake tokens among it; an empty one: there was nothing.

        A token, or an event of a client of elk-mq 0.1, which has left more to tidy up, makes the next look a take.
        """
        for entry in entries:
            if entry.lane == b"w":
                self._token = entry.id
            else:
                self._buffer.append(entry)
            if b"v" not in entry.fields:
                self._plain = False
        while len(self._buffer) > self._asked:
            self._surplus.append(self._buffer.pop())
        self._empty = not entries

    def look_again(self) -> None:
        """Something may have changed at the server: take before blocking."""
        self._empty = False
        self._plain = False
        self._state = ""

    def recovered(self, entries: list[Entry]) -> None:
        """What had been handed out unseen."""
        self._reconnected = False
        self._empty = False
        self._buffer.extend(entries)

    def reconnected(self) -> None:
        """A connection broke, and a reply may have gone with it."""
        self._reconnected = True

    def known(self) -> list[Delivered]:
        """The deliveries of this incarnation that the process knows of."""
        return [(e.lane, e.id) for e in (*self._buffer, *self._surplus)] + [d for d, name in self.held.items() if name == self.name]

    def heard(self, sent: float) -> None:
        """A heartbeat that was sent at ``sent`` was answered: the lease holds."""
        self._confirmed = max(self._confirmed, sent)

    def gone(self, name: str) -> None:
        """The server does not know the consumer ``name`` any more: all it held is others' now. From any thread."""
        if name == self.name and self._gone != name:
            self._gone = name
            if self._on_lost is not None:
                self._on_lost()

    def lost(self, name: str) -> bool:
        """Whether what was handed out to the consumer ``name`` is known to be others' now."""
        return name != self.name or self._gone == name

    def _start_anew(self) -> None:
        self._registered = False
        self._buffer.clear()
        self._surplus.clear()
        self._token = b""
        self.name = consumer_name()

    def settled(self, delivered: Delivered) -> None:
        """The application is done with a delivery."""
        self.held.pop(delivered, None)

    def drain(self) -> list[Entry]:
        """Empty the buffer, to hand it back."""
        entries = list(self._buffer)
        self._buffer.clear()
        return entries
