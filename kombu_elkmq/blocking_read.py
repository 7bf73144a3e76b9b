"""The blocking read: one for all idle queues of a session, at the server while there is nothing else to do.

It is ended when it would bring what there is no room for, and when there is another queue to wait for: by ``CLIENT UNBLOCK``
over the other connection, or, where that is not permitted, by hanging up.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.call import Call, command, encoded
from elkmq._core.entry import Entry
from elkmq._core.verbs import wait_for_entries
from elkmq.errors import LeaseLost, QueueClosed, ServerConnectionError
from kombu_elkmq.links import wait_readable
from kombu_elkmq.takes import TRY_AGAIN

if TYPE_CHECKING:
    from elkmq._core.verbs import Verbs
    from kombu_elkmq.pump import Pump
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

END_AGAIN = 0.005
"""Seconds after which a read that could not be ended is tried again: it had not reached the server."""

LET_GO = 1.0
"""Seconds that a reader which leaves waits for the end of its read; what it is handed after that goes back later."""

PLAIN_LANES = 2
"""Lanes of a queue on which no priority was used: what comes back, and the main one."""

PAIR = 2
"""Entries that a read brings of a lane where there is room: the second says that a take would bring more."""

BUSY = 0.01
"""Seconds within which two messages make a queue a busy one, where there is room for one only."""


def _fits_pairs(wanted: dict[Reader, bool]) -> bool:
    """Whether a read may bring two entries of each lane, within the prefetch of whoever gets them."""
    most = PAIR * sum(len(reader.lanes) for reader, tokens_only in wanted.items() if not tokens_only)
    return all(only or reader.room() - len(reader.buffer) >= most for reader, only in wanted.items())


class BlockingRead:
    """The part of a `Pump` that waits at the server."""

    def __init__(self, session: Session, pump: Pump) -> None:
        self._session = session
        self._pump = pump
        self._waiting: dict[Reader, bool] | None = None
        """What the read under way is for, and whether only for wake tokens."""
        self._last: tuple[object, Call[Any]] | None = None
        """What a read was for, and its call: most are like the last one."""
        self._pairs = False
        """Whether the read under way brings a second entry of a lane that has one."""
        self._told_to_end = False
        self._end_again_at = 0.0
        self._refused = False
        """Whether the server refused the last one."""
        self._not_before = 0.0
        """When to try the next one."""
        self.put_off = math.inf
        """When the next one is due, where that is later."""

    @property
    def under_way(self) -> bool:
        """Whether there is one at the server."""
        return self._waiting is not None

    @property
    def ending(self) -> bool:
        """Whether it was told to end, and did not yet."""
        return self._told_to_end and self._waiting is not None

    def lacks_one(self) -> bool:
        """Whether there is an idle queue that is not waited for, as far as can be told at a glance."""
        return any(
            not (reader.blocked or reader.hungry or reader.taking or reader.batches.until)
            for reader in self._session.readers.values()
        )

    def begin(self) -> None:
        """Wait for entries, where there is nothing else to do; end a wait that is not the right one any more."""
        if self._waiting is not None:
            if self._in_vain(self._waiting):
                self.end()
                self.put_off = self._end_again_at
            return
        if any(reader.taking for reader in self._session.readers.values()):
            return
        wanted = self._wanted()
        if not wanted:
            return
        if clock.now() < self._not_before:
            self.put_off = self._not_before
            return
        assert self._session.waiter is not None
        self._waiting, self._told_to_end = wanted, False
        for reader in wanted:
            reader.block()
        self._pairs = _fits_pairs(wanted)
        self._session.waiter.submit(
            self._call([(r, () if only else r.lanes) for r, only in wanted.items()]), self._ended
        )

    def _call(self, lanes: list[tuple[Reader, tuple[bytes, ...]]]) -> Call[Any]:
        last = self._last
        if last is not None and last[0] == (lanes, self._pairs):
            return last[1]
        queues, block = [(reader.verbs, of_it) for reader, of_it in lanes], int(self._session.block * 1000)
        call = encoded(wait_for_entries(queues, self._session.name, PAIR if self._pairs else 1, block))
        self._last = (lanes, self._pairs), call
        return call

    def _wanted(self) -> dict[Reader, bool]:
        wanted = {}
        for reader in self._session.readers.values():
            if not reader.registered or not reader.subscriptions or reader.taking:
                continue
            if reader.state:
                wanted[reader] = True
            elif not (reader.hungry or reader.batches.until) and reader.room() > len(reader.buffer):
                wanted[reader] = False
        return wanted

    def _in_vain(self, waiting: dict[Reader, bool]) -> bool:
        """Whether the read under way would bring what there is no room for, or lacks a queue that is idle now."""
        wanted = self._wanted()
        if wanted == waiting:
            return False
        return any(reader not in wanted or wanted[reader] != only for reader, only in waiting.items()) or any(
            reader not in waiting for reader in wanted
        )

    # -- its end

    def end(self) -> None:
        """Have the server end it, if it is under way; what it brought all the same is read as ever."""
        session = self._session
        if self._waiting is None or (self._told_to_end and clock.now() < self._end_again_at):
            return
        assert session.waiter is not None
        self._told_to_end = True
        self._end_again_at = clock.now() + END_AGAIN
        number = session.waiter.client_id
        if number is None:
            session.waiter.drop()
            return
        session.post(command("CLIENT", "UNBLOCK", number, parse=int, doing="end a wait"), self._told)

    def _told(self, outcome: int | Exception) -> None:
        if isinstance(outcome, Exception) and not isinstance(outcome, ServerConnectionError) and self._session.waiter:
            self._session.waiter.drop()

    def let_go(self, reader: Reader) -> None:
        """End it if it is for this reader, which is about to leave: nothing may be handed to it after that."""
        session, until = self._session, clock.now() + LET_GO
        while self._waiting is not None and reader in self._waiting and clock.now() < until:
            waiter, taker = session.waiter, session.taker
            if self._pump.mending or waiter is None or taker is None or not waiter.connected:
                return
            self.end()
            if waiter.fd < 0:
                return  # by hanging up, which the server notices; what it hands out yet is asked for, or goes back with the rest
            wait_readable([waiter.fd], END_AGAIN)
            waiter.look()
            taker.look()

    def _ended(self, outcome: Any) -> None:
        waiting, self._waiting = self._waiting or {}, None
        for reader in waiting:
            reader.blocked = False
        if isinstance(outcome, Exception):
            self._failed(list(waiting), outcome)
            return
        self._refused = False
        found: dict[Verbs, list[Entry]] = {}
        for verbs, entry in outcome:
            found.setdefault(verbs, []).append(entry)
        for reader in waiting:
            if reader.verbs in found:
                self._brought(reader, found[reader.verbs])

    def _brought(self, reader: Reader, found: list[Entry]) -> None:
        """Messages that come one at a time are had cheapest by waiting again; where there are more, a take brings them together,
        and in the order of their priorities.
        """
        entries = [entry for entry in found if entry.lane != b"w"]
        if entries:
            now = clock.now()
            more = len(entries) > 1 if self._pairs else now - reader.woken < BUSY
            reader.hungry = more or len(reader.lanes) > PLAIN_LANES
            if reader.own and all(each.no_ack for each in reader.subscriptions):
                reader.batches.came(now, reader.woken)
            reader.woken = now
            reader.read(entries)
        for entry in found:
            if entry.lane == b"w":
                reader.told(entry.id)
        # It may bring entries of each lane and queue.
        if surplus := reader.surplus():
            self._session.hand_back(reader, surplus)

    def _failed(self, readers: list[Reader], error: Exception) -> None:
        if isinstance(error, ServerConnectionError):
            self._pump.reconnected()  # what the lost reply held
        elif self._refused:
            self._not_before = clock.now() + TRY_AGAIN  # looking at the queues did not help
        elif not isinstance(error, LeaseLost | QueueClosed) and all(reader.registered for reader in readers):
            # A stream or its group is gone (FLUSHALL): a take makes it again.
            log.warning("the queues are looked at anew: %s", error)
            self._refused = True
        for reader in readers:
            reader.plain, reader.hungry = False, True
