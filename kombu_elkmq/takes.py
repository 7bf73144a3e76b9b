"""Takes: which of the queues that may have entries is asked, when, and for how many. What comes is buffered ahead of its turn,
as far as the prefetch of its consumers goes.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from elkmq._core import clock
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import wait_for_entries
from elkmq.errors import LeaseLost, ServerConnectionError

if TYPE_CHECKING:
    from elkmq._core.verbs import Verbs
    from kombu_elkmq.channel import Channel
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

TRY_AGAIN = 1.0
"""Seconds after which something that the server refused is asked again."""

FEW = 4
"""While there is room for less than this part of the prefetch, takes are put off: most of what it allows is being worked on."""

SHARE = 10
"""Entries to take at least from one of several queues, as far as there is room."""

GATHER = 0.005
"""Seconds from one take to the next that may be put off: long beside a round trip, short for a pool process that waits."""


class Takes:
    """The part of a `Pump` that asks hungry queues for entries."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rivals = 0
        """How many readers may have had entries to take, at the last look."""
        self.put_off = math.inf
        """When a take is due that was put off."""

    def feed(self, now: float) -> None:
        """Ask those that may have entries, as far as there is room for more."""
        session = self._session
        hungry = []
        for reader in session.readers.values():
            if reader.batches.until:
                if reader.batches.over(now):
                    reader.hungry = True
                else:
                    self.put_off = min(self.put_off, reader.batches.until)
            if reader.hungry and reader.subscriptions:
                hungry.append(reader)
        self._rivals = len(hungry)
        if len(hungry) == 1:
            self._maybe_take(hungry[0], now)
        elif hungry:
            self._share(hungry, now)

    def top_up(self, reader: Reader, now: float) -> None:
        """An entry left the buffer: perhaps it is time for the next take, so that nobody has to wait for it."""
        if self._rivals <= 1 and reader.hungry:
            self._maybe_take(reader, now)
            self._session.push_uncorked()

    def _may_take(self, reader: Reader, now: float) -> bool:
        return not (not reader.hungry or reader.taking or reader.state or reader.blocked or now < reader.not_before)

    def _share(self, readers: list[Reader], now: float) -> None:
        """Take for several that may have entries, within what the prefetch of their channels allows in all.

        Some for a few of them, in turn, rather than one for each: a queue costs the server the same.
        """
        in_hand: dict[Channel, int] = {}
        for each in self._session.readers.values():
            for subscription in each.subscriptions[:1]:
                held = len(each.buffer) + each.taking
                in_hand[subscription.channel] = in_hand.get(subscription.channel, 0) + held
        enough = {channel for channel, held in in_hand.items() if held * 2 > channel.room()}
        shares: dict[int, list[Reader]] = {}
        for reader in sorted(readers, key=attrgetter("took")):
            channel, most = reader.subscriptions[0].channel, reader.room()
            room = most - in_hand[channel]
            if channel in enough or room <= 0 or not self._may_take(reader, now):
                continue
            n = min(room, max(SHARE, math.ceil(most / len(readers))), self._session.options.fetch_limit)
            in_hand[channel] += n
            shares.setdefault(n, []).append(reader)
        for n, sharing in shares.items():
            self.take(sharing, n)

    def _maybe_take(self, reader: Reader, now: float) -> None:
        if not self._may_take(reader, now):
            return
        buffered, most = len(reader.buffer), reader.most()
        room = reader.room() - buffered
        if room <= 0 or buffered > room:
            return
        if room * FEW < most and now < reader.took + GATHER:
            # Its consumers have plenty, and each that they finish makes room for one more: such takes go together.
            self.put_off = min(self.put_off, reader.took + GATHER)
            return
        self.take([reader], max(1, min(room, self._session.options.fetch_limit)))

    def take(self, readers: Sequence[Reader], n: int) -> None:
        """Ask each for up to n entries: by script, or all of those with no settings by one read of their lanes."""
        session, now, plain = self._session, clock.now(), []
        for reader in readers:
            reader.taking, reader.took = n, now
            if reader.plain:
                plain.append(reader)
                continue
            token, reader.token = reader.token, b""
            call = reader.verbs.take(session.name, n, token)
            session.post(call, functools.partial(self._taken, reader, n), gather=True)
        if plain:
            read = wait_for_entries([(reader.verbs, reader.lanes) for reader in plain], session.name, n, 0)
            session.post(read, functools.partial(self._was_read, plain, n), gather=True)

    def _taken(self, reader: Reader, n: int, outcome: Taken | Exception) -> None:
        reader.taking = 0
        if isinstance(outcome, Exception):
            self.failed(reader, outcome)
            return
        reader.taken(outcome, n)
        reader.batches.read(clock.now(), brought=bool(outcome.entries))
        if outcome.next_event >= 0:
            self._session.sooner(reader, outcome.next_event / 1000)

    def _was_read(self, readers: list[Reader], n: int, outcome: list[tuple[Verbs, Entry]] | Exception) -> None:
        for reader in readers:
            reader.taking = 0
        if isinstance(outcome, Exception):
            # What the reply held is asked for, and with whom it is that something is wrong the next take says.
            if isinstance(outcome, ServerConnectionError):
                self._session.pump.reconnected()
            for reader in readers:
                reader.plain, reader.hungry = False, True
            return
        found: dict[Verbs, list[Entry]] = {}
        for verbs, entry in outcome:
            found.setdefault(verbs, []).append(entry)
        now = clock.now()
        for reader in readers:
            reader.was_read(brought := found.get(reader.verbs, []), n)
            reader.batches.read(now, brought=bool(brought))
            if surplus := reader.surplus():
                self._session.hand_back(reader, surplus)

    def failed(self, reader: Reader, error: Exception) -> None:
        """A queue could not be asked: what that means for its reader."""
        if isinstance(error, LeaseLost):
            reader.lose()
        elif isinstance(error, ServerConnectionError) and clock.now() - reader.confirmed >= reader.lease:
            self._session.fail(error)  # while the lease holds, being cut off is nobody's business
        else:
            log.error("cannot take messages from %s at present, trying again: %s", reader.queue, error)
            reader.not_before = clock.now() + TRY_AGAIN
            reader.hungry = True
