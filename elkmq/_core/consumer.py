"""A consumer as a state object: what it holds and what to do next. It does no I/O and has no clock: both are passed in.

Theory of operation. A shell asks `next_action` and does what it says, reporting the reply, until it is told to deliver:

=============  ====================================================  ==================================
state          what is true                                          action
=============  ====================================================  ==================================
new            not registered (at first, or its lease was lost)      `Open` under a name used never before
reconnected    a reply may have been lost with a connection, or      `Recover` what was handed out unseen
               be given to it still: a blocking read goes on at
               the server until that hears of the end
stale          has deliveries, but no heartbeat was confirmed        `Tend`: nothing is started before the
               within the lease (the process was stopped)            server said that the lease holds
overdue        the last look brought nothing, but something is due   `Tend`: it is done at once
               or somebody's lease is over
ready          has deliveries in its buffer                          `Deliver` the next
full           as much is unsettled as the prefetch allows           `Full`: wait until something is settled
surplus        a read of several lanes, or a take that was repeated,  `GiveBack` the rest
               brought more than was asked for
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
from collections.abc import Iterator

from elkmq._core.actions import Action, Block, Deliver, Expired, Full, GiveBack, Open, Read, Recover, Signal, Take, Tend
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import Delivered


def consumer_name() -> str:
    """A name never used before: host, process, chance."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"


class ConsumerState:
    """One consumer of one queue.

    ``prefetch``: unsettled deliveries at most; ``lease``: seconds.
    """

    def __init__(self, *, prefetch: int, lease: float) -> None:
        self.prefetch = prefetch
        self.lease = lease
        self.name = consumer_name()
        self.lanes: tuple[bytes, ...] = (b"r", b"0")
        self.keep = False
        self.held: set[Delivered] = set()
        """Deliveries the application has not settled."""
        self.settling: set[Delivered] = set()
        """Settled by the application, while the server has not said so yet: never to be handed out again."""
        self.handing: Delivered | None = None
        """The one that is being made a delivery; who is torn away by a signal in that moment leaves it here."""
        self.batch: int | None = None
        """Entries asked for at once at most, where it is fewer than the prefetch leaves room for."""
        self._buffer: deque[Entry] = deque()
        self._surplus: list[Entry] = []
        self._token = b""
        self._plain = False
        self._asked = 0
        self._registered = False
        self._reconnected = False
        self._recover_at: float | None = None
        self._overdue = False
        self._gone = ""
        self._state = ""
        self._signal = b"$"
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
        return self._registered and self._gone != self.name

    @property
    def holding(self) -> bool:
        """Whether the application has deliveries that it has not settled."""
        return bool(self.held)

    @property
    def unseen(self) -> bool:
        """Whether it may hold entries that the application was not given."""
        return bool(self.handing or self._reconnected or self._recover_at is not None or self._buffer or self._surplus)

    def next_action(self, now: float, *, patient: bool = False) -> Action:
        """What to do, ``now`` being seconds on the process's own clock; ``patient``: whether it may wait for entries."""
        if self._gone == self.name:
            self._start_anew()
        if not self._registered:
            return Open()
        if self._recover_at is not None and now >= self._recover_at:
            self._recover_at = None
            self._reconnected = True
        if self._reconnected:
            return Recover()
        if self._surplus:
            surplus, self._surplus = self._surplus, []
            return GiveBack(surplus[::-1])
        if self._token and self._buffer and not self.full:
            # What changed may be that nothing is to be handed out; and others are to hear of it, however long the
            # application works on what came with the token.
            return Take(0, self._token)
        free = self.prefetch - len(self.held)
        if self._buffer and free > 0:
            if now - self._confirmed >= self.lease:
                return Tend()
            entry = self._buffer[0]
            self.handing = (entry.lane, entry.id)  # first: at no time is it in neither
            self._buffer.popleft()
            deadline = entry.deadline() if b"ttl" in entry.fields else None
            if deadline is not None and deadline <= self.server_time(now):
                self.handing = None
                return Expired(entry)
            self.held.add(self.handing)
            return Deliver(entry)
        if free <= 0:
            return Full()
        if self.batch is not None:
            free = min(free, self.batch)
        if self._state:
            return Signal(self._signal)
        if self._overdue:
            return Tend()
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
            self.handing = (entry.lane, entry.id)
            self._buffer.popleft()
            self.held.add(self.handing)
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
        self._recover_at = None
        self._overdue = False
        self._empty = False
        self._plain = False
        self._state = ""
        self._confirmed = sent
        self._server_ahead = server_ms - now * 1000

    def taken(self, reply: Taken, now: float) -> None:
        """A take's reply."""
        ahead = reply.now - now * 1000
        # What is seen is late by the reply's way, so the most is the best; but for a server whose clock was set back.
        self._server_ahead = ahead if ahead < self._server_ahead - 1000 else max(self._server_ahead, ahead)
        self._token = b""
        self._state = reply.state
        self._signal = reply.signal
        self.lanes = reply.lanes
        self.keep = reply.keep
        self._buffer.extend(reply.entries)
        if reply.state:
            self._give_back_but(0)
        self._overdue = not reply.entries and reply.next_event == 0
        self._empty = not reply.entries and not self._overdue
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
        if len(self._buffer) > self._asked:
            self._give_back_but(self._asked)
        self._empty = not entries

    def asked_anew(self) -> None:
        """Somebody asks who does not wait: what an earlier look found, nothing or a pause, says nothing about now."""
        self._empty = False
        self._state = ""

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
        room = self.prefetch - len(self.held)
        self._give_back_but(room if self.batch is None else min(room, self.batch))

    def reconnected(self, again_at: float) -> None:
        """A connection broke, and a reply may have gone with it; and what the server hands to it until ``again_at``."""
        self._reconnected = True
        self._recover_at = again_at

    def tended(self, sent: float) -> None:
        """The heartbeat that was asked for was sent at ``sent`` and answered."""
        self.heard(sent)
        self._overdue = False

    def known(self) -> list[Delivered]:
        """The deliveries of this incarnation that the process knows of."""
        here = [(entry.lane, entry.id) for entry in (*self._buffer, *self._surplus)]
        return [*here, *self.held, *self.settling]

    def heard(self, sent: float) -> None:
        """A heartbeat that was sent at ``sent`` was answered: the lease holds."""
        self._confirmed = max(self._confirmed, sent)

    def gone(self, name: str) -> bool:
        """The server does not know the consumer ``name`` any more: all it held is others' now. From any thread.

        Whether that is news.
        """
        if name != self.name or self._gone == name:
            return False
        self._gone = name
        return True

    def lost(self, name: str) -> bool:
        """Whether what was handed out to the consumer ``name`` is known to be others' now."""
        return name != self.name or self._gone == name

    def leave(self) -> str:
        """Go, holding nothing; returns the name to unregister. The next action is to register under a new one."""
        name = self.name
        self._start_anew()
        return name

    def _start_anew(self) -> None:
        self.handing = None
        self._registered = False
        self._recover_at = None
        self._reconnected = False
        self._buffer.clear()
        self._surplus.clear()
        self.held.clear()  # others' now, even if the application is at work on them still
        self.settling.clear()
        self._token = b""
        self.name = consumer_name()

    def settled(self, delivered: Delivered) -> None:
        """The application is done with a delivery."""
        self.held.discard(delivered)

    def give_back(self) -> None:
        """Nobody is going to ask for deliveries for now: what was taken and not handed over is others' to have."""
        self._give_back_but(0)

    def _give_back_but(self, n: int) -> None:
        while len(self._buffer) > max(0, n):
            self._surplus.append(self._buffer.pop())
