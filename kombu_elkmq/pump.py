"""What a session does whenever it gets the chance: read replies, ask for more, wait where there is no more. Never blocks.

Which queue is read how:

============  =========================================================  ==========================================
a queue is    when                                                       and then
============  =========================================================  ==========================================
full          its consumers have all that their prefetch allows          nothing: it is neither taken from nor
                                                                         waited for, so nothing is hoarded
hungry        there may be entries: it is new, something came, or the    a take for as many as fit, as soon as half
              last take brought all that it asked for                    of the last ones are gone
idle          the last take brought less, or one came after a while     part of the one blocking read for all idle
                                                                         queues
standing by   paused, or another consumer is served                      its wake tokens only are waited for
============  =========================================================  ==========================================
"""

from __future__ import annotations

import functools
import logging
import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.call import command
from elkmq._core.entry import Entry, Taken
from elkmq._core.verbs import wait_for_entries
from elkmq.errors import EventQueueError, LeaseLost, QueueClosed, ServerConnectionError
from kombu_elkmq.links import Link, Mender, wait_readable

if TYPE_CHECKING:
    from elkmq._core.verbs import Verbs
    from kombu_elkmq.channel import Channel
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

UNBLOCK_AGAIN = 0.005
"""Seconds after which a blocking read that could not be ended is tried again: it had not reached the server."""


LATE = 1.0
"""Seconds that a blocking read may take longer at the server than it was to."""

TRY_AGAIN = 1.0
"""Seconds after which something that the server refused is asked again."""

LET_GO = 1.0
"""Seconds that a reader which leaves waits for the end of its blocking read; what it is handed after that goes back later."""

PLAIN_LANES = 2
"""Lanes of a queue on which no priority was used: what comes back, and the main one."""

UNREAD = 64
"""Replies that may wait to be read, where nobody asked for them to be read soon."""

FEW = 4
"""While there is room for less than this part of the prefetch, takes are put off: most of what it allows is being worked on."""

SHARE = 10
"""Entries to take at least from one of several queues, as far as there is room."""

GATHER = 0.005
"""Seconds from one take to the next that may be put off: long beside a round trip, short for a pool process that waits."""

BUSY = 0.01
"""Seconds within which two messages make a queue a busy one."""


class Pump:
    """The part of a `Session` that keeps entries coming."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mender: Mender | None = None
        self._waiting: dict[Reader, bool] | None = None
        """What the blocking read under way is for, and whether only for wake tokens."""
        self._unblocking = False
        self._unblock_at = 0.0
        self._recover_at = math.inf
        """When to ask what was handed to us and never came."""
        self._reconnected = False
        self._recovering = 0
        self.put_off = math.inf
        """When a take, or the next blocking read, is due that was put off."""
        self._refused = False
        """Whether the server refused the last blocking read."""
        self._block_at = 0.0
        """When to try the next one."""
        self._rivals = 0
        """How many readers may have had entries to take, at the last look."""

    @property
    def steady(self) -> bool:
        """Whether the connections hold, and it is known what was handed to us."""
        return self._mender is None and not self._recovering

    @property
    def acks_wait(self) -> bool:
        """Whether acknowledgements are kept for later: they could not be sent."""
        return self._mender is not None

    @property
    def mending(self) -> bool:
        """Whether a thread is at work on the connections: nobody else touches them."""
        return self._mender is not None

    def mended(self, error: EventQueueError | None) -> None:
        """The thread is done. On its thread."""
        self._mender = None
        if error is not None:
            self._session.fail(error)
        self._session.wake()

    def _mend(self, *links: Link) -> None:
        self._mender = Mender(list(links), self._session.options.lease, self.mended)
        self._mender.start()

    def stop(self) -> None:
        """The session ends."""
        if self._mender is not None:
            self._mender.stop()

    def reconnected(self) -> None:
        """A connection was replaced: a reply may have gone with it."""
        self._recover_at, self._reconnected = 0.0, True

    def settle_down(self) -> None:
        """Read replies only, of a session that takes no more."""
        session = self._session
        if self._mender is not None or session.taker is None or session.waiter is None:
            return
        session.taker.look()
        self.end_wait()
        session.waiter.look()
        if session.taker.broken:
            self._mend(session.taker)

    def next_look(self) -> float:
        """Seconds after which `run` is to be called again though nothing could be read."""
        session = self._session
        if self._unblocking and self._waiting is not None:
            return UNBLOCK_AGAIN
        now = clock.now()
        return min(1.0, max(0.0, session.sweep_at - now) + 0.005, max(0.0, self.put_off - now))

    def run(self, *, read: bool = True) -> None:
        """Do what can be done now.

        :param read: look for replies; False: whoever watches the connections says when there are any
        """
        session = self._session
        self.put_off = math.inf  # whatever follows: a time that is over would wake an event loop again and again
        if not self.look(read=read):
            return
        session.check()
        session.deliveries.flush()
        now = clock.now()
        if not self.recovered(now):
            return
        self._feed(now)
        session.push_uncorked()
        self.maybe_block()

    def look(self, *, read: bool) -> bool:
        """Read what there is and see that the connections hold; False: they do not at present."""
        session = self._session
        if self._mender is not None or session.taker is None or session.waiter is None:
            return False
        if read:
            session.taker.look()
            session.waiter.look()
        elif session.taker.outstanding > UNREAD:
            session.taker.look()
        if session.taker.broken or session.waiter.broken:
            # The deliveries are still ours, and nothing is raised: a connection loss shorter than the lease is nobody's
            # business.
            self._mend(session.taker, session.waiter)
            return False
        return True

    def recovered(self, now: float) -> bool:
        """Whether it is known what was handed to us; where it is not, that is asked."""
        if now >= self._recover_at and not self._recovering:
            self._start_recovery(now)
        return not self._recovering

    def _feed(self, now: float) -> None:
        session = self._session
        hungry = [reader for reader in session.readers.values() if reader.hungry and reader.subscriptions]
        self._rivals = len(hungry)
        if len(hungry) == 1:
            self._maybe_take(hungry[0], now)
        elif hungry:
            self._share(hungry, now)

    # -- takes

    def top_up(self, reader: Reader, now: float) -> None:
        """An entry left the buffer: perhaps it is time for the next take, so that nobody has to wait for it."""
        if self._rivals <= 1 and reader.hungry and not (self._mender is not None or self._recovering):
            self._maybe_take(reader, now)
            self._session.push_uncorked()

    def _may_take(self, reader: Reader, now: float) -> bool:
        return not (not reader.hungry or reader.taking or reader.state or reader.blocked or now < reader.not_before)

    def _share(self, readers: list[Reader], now: float) -> None:
        """Take for several that may have entries, within what the prefetch of their channels allows in all.

        Some for a few of them, in turn, rather than one for each: a take costs the server the same.
        """
        in_hand: dict[Channel, int] = {}
        for each in self._session.readers.values():
            for subscription in each.subscriptions[:1]:
                held = len(each.buffer) + each.taking
                in_hand[subscription.channel] = in_hand.get(subscription.channel, 0) + held
        enough = {channel for channel, held in in_hand.items() if held * 2 > channel.room()}
        for reader in sorted(readers, key=attrgetter("took")):
            channel, most = reader.subscriptions[0].channel, reader.room()
            room = most - in_hand[channel]
            if channel in enough or room <= 0 or not self._may_take(reader, now):
                continue
            n = min(room, max(SHARE, math.ceil(most / len(readers))), self._session.options.fetch_limit)
            in_hand[channel] += n
            self.take(reader, n)

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
        self.take(reader, max(1, min(room, self._session.options.fetch_limit)))

    def take(self, reader: Reader, n: int) -> None:
        """Ask for up to n entries."""
        reader.taking = n
        reader.took = clock.now()
        token, reader.token = reader.token, b""
        call = reader.verbs.take(self._session.name, n, token)
        self._session.post(call, lambda outcome: self._taken(reader, n, outcome), gather=True)

    def _taken(self, reader: Reader, n: int, outcome: Taken | Exception) -> None:
        reader.taking = 0
        if isinstance(outcome, Exception):
            self._failed(reader, outcome)
            return
        reader.taken(outcome, n)
        if outcome.next_event >= 0:
            self._session.sooner(reader, outcome.next_event / 1000)

    def _failed(self, reader: Reader, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            reader.lose()
        elif isinstance(error, ServerConnectionError) and clock.now() - reader.confirmed >= reader.lease:
            self._session.fail(error)  # while the lease holds, being cut off is nobody's business
        else:
            log.error("cannot take messages from %s at present, trying again: %s", reader.queue, error)
            reader.not_before = clock.now() + TRY_AGAIN
            reader.hungry = True

    # -- the blocking read

    def _wanted(self) -> dict[Reader, bool]:
        wanted = {}
        for reader in self._session.readers.values():
            if not reader.registered or not reader.subscriptions or reader.taking:
                continue
            if reader.state:
                wanted[reader] = True
            elif not reader.hungry and reader.room() > len(reader.buffer):
                wanted[reader] = False
        return wanted

    def maybe_block(self) -> None:
        """Wait for entries, where there is nothing else to do."""
        if self._waiting is not None:
            if self._waiting_in_vain():
                self._unblock()
            return
        if any(reader.taking for reader in self._session.readers.values()):
            return
        wanted = self._wanted()
        if not wanted:
            return
        if clock.now() < self._block_at:
            self.put_off = min(self.put_off, self._block_at)
            return
        assert self._session.waiter is not None
        self._waiting, self._unblocking = wanted, False
        queues: list[tuple[Verbs, tuple[bytes, ...]]] = []
        for reader, tokens_only in wanted.items():
            reader.block()
            queues.append((reader.verbs, () if tokens_only else reader.lanes))
        block = int(self._session.block * 1000)
        self._session.waiter.submit(wait_for_entries(queues, self._session.name, 1, block, parse=list), self._woken)

    def _waiting_in_vain(self) -> bool:
        """Whether the read under way would bring what there is no room for, or lacks a queue that is idle now."""
        assert self._waiting is not None
        wanted = self._wanted()
        if wanted == self._waiting:
            return False
        return any(reader not in wanted or wanted[reader] != only for reader, only in self._waiting.items()) or any(
            reader not in self._waiting for reader in wanted
        )

    def _unblock(self) -> None:
        session = self._session
        if self._unblocking and clock.now() < self._unblock_at:
            return
        assert session.waiter is not None
        self._unblocking = True
        self._unblock_at = clock.now() + UNBLOCK_AGAIN
        number = session.waiter.client_id
        if number is None:
            session.waiter.drop()
            return
        session.post(command("CLIENT", "UNBLOCK", number, parse=int, doing="end a wait"), self._unblocked)

    def _unblocked(self, outcome: int | Exception) -> None:
        if isinstance(outcome, Exception) and not isinstance(outcome, ServerConnectionError) and self._session.waiter:
            self._session.waiter.drop()

    def end_wait(self) -> None:
        """End the blocking read, as the session is about to close."""
        if self._waiting is not None and not self.mending:
            self._unblock()

    def let_go(self, reader: Reader) -> None:
        """End the blocking read if it is for this reader, which is about to leave: nothing may be handed to it after that."""
        session, until = self._session, clock.now() + LET_GO
        while self._waiting is not None and reader in self._waiting and clock.now() < until:
            if (
                self._mender is not None
                or session.waiter is None
                or session.taker is None
                or not session.waiter.connected
            ):
                return
            self._unblock()
            wait_readable([session.waiter.fd], UNBLOCK_AGAIN)
            session.waiter.look()
            session.taker.look()

    def _woken(self, outcome: Any) -> None:
        waiting, self._waiting = self._waiting or {}, None
        for reader in waiting:
            reader.blocked = False
        if isinstance(outcome, Exception):
            if isinstance(outcome, ServerConnectionError):
                self.reconnected()  # what the lost reply held
            elif self._refused:
                self._block_at = clock.now() + TRY_AGAIN  # looking at the queues did not help
            elif not isinstance(outcome, LeaseLost | QueueClosed) and all(r.registered for r in waiting):
                # A stream or its group is gone (FLUSHALL): a take makes it again.
                log.warning("the queues are looked at anew: %s", outcome)
                self._refused = True
            for reader in waiting:
                reader.hungry = True
            return
        self._refused = False
        by_verbs = {reader.verbs: reader for reader in waiting}
        found: list[tuple[Verbs, Entry]] = outcome
        now = clock.now()
        for verbs, entry in found:
            reader = by_verbs[verbs]
            if entry.lane == b"w":
                reader.token, reader.state, reader.hungry = entry.id, "", True
                continue
            # One now and then is had cheapest by waiting again; where there are more, a take brings them together, and
            # in the order of their priorities.
            reader.hungry = len(reader.lanes) > PLAIN_LANES or now - reader.woken < BUSY
            reader.woken = now
            reader.read([entry])
        for reader in {by_verbs[verbs] for verbs, _ in found}:
            self._hand_back_surplus(reader)

    def _hand_back_surplus(self, reader: Reader) -> None:
        """A read may bring one entry of each lane and queue: what is beyond the prefetch goes back."""
        surplus = []
        while len(reader.buffer) > max(0, reader.room()):
            entry = reader.buffer.pop()
            surplus.append((entry.lane, entry.id))
        if surplus:
            self._session.hand_back(reader, surplus)

    # -- after a lost connection

    def _start_recovery(self, now: float) -> None:
        """Ask what was handed to us and never came. What is on its way does not matter: it is known here, or its reply comes
        over the same connection, before this one or after it, as it was carried out.
        """
        readers = [reader for reader in self._session.readers.values() if reader.registered]
        # A read over a connection that the server does not know to be gone is served for as long as it was to block.
        self._recover_at = now + self._session.block + LATE if self._reconnected else math.inf
        self._reconnected = False
        for reader in readers:
            self._recovering += 1
            limit = self._session.options.fetch_limit
            call = reader.verbs.recover(self._session.name, reader.seen(), limit)
            self._session.post(call, functools.partial(self._recovered, reader, limit))

    def _recovered(self, reader: Reader, limit: int, outcome: list[Entry] | Exception) -> None:
        self._recovering -= 1
        reader.hungry = True
        if isinstance(outcome, Exception):
            self._recover_at = min(self._recover_at, clock.now() + TRY_AGAIN)
            self._failed(reader, outcome)
            return
        if len(outcome) >= limit:
            self._recover_at = 0.0
        reader.recover(outcome)
        # Of a take that was repeated both replies are here.
        self._hand_back_surplus(reader)
