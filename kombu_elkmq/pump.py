"""What a session does whenever it gets the chance: read replies, ask for more, wait where there is no more. Never blocks.

The pump sees that the connections hold, and that after a loss it is known what was handed to us. Then come the takes
(`kombu_elkmq.takes`) and the blocking read (`kombu_elkmq.blocking_read`). Which queue is read how:

============  =========================================================  ==========================================
a queue is    when                                                       and then
============  =========================================================  ==========================================
full          its consumers have all that their prefetch allows          nothing: it is neither taken from nor
                                                                         waited for, so nothing is hoarded
hungry        there may be entries: it is new, something came, or the    a take for as many as fit, as soon as half
              last take brought all that it asked for                    of the last ones are gone; of queues with
                                                                         no settings one plain read for all of
                                                                         them (docs/decisions/reading-lanes.md)
idle          the last take brought less, or one came after a while     part of the one blocking read for all idle
                                                                         queues
standing by   paused, or another consumer is served                      its wake tokens only are waited for
============  =========================================================  ==========================================
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from elkmq._core import clock
from elkmq._core.entry import Entry
from elkmq.errors import EventQueueError
from kombu_elkmq.blocking_read import END_AGAIN, BlockingRead
from kombu_elkmq.links import Link, Mender
from kombu_elkmq.takes import TRY_AGAIN, Takes

if TYPE_CHECKING:
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.session import Session

LATE = 1.0
"""Seconds that a blocking read may take longer at the server than it was to."""

UNREAD = 64
"""Replies that may wait to be read, where nobody asked for them to be read soon."""


class Pump:
    """The part of a `Session` that keeps entries coming."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mender: Mender | None = None
        self.takes = Takes(session)
        self.blocking = BlockingRead(session, self)
        self._recover_at = math.inf
        """When to ask what was handed to us and never came."""
        self._reconnected = False
        self._recovering = 0

    @property
    def put_off(self) -> float:
        """When a take, or the next blocking read, is due that was put off."""
        return min(self.takes.put_off, self.blocking.put_off)

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

    def stop(self, patience: float = 0.0) -> None:
        """The session ends.

        :param patience: seconds for which a thread that is at work on the connections may go on: what was acknowledged waits for it
        """
        mender = self._mender
        if mender is not None:
            mender.wait(patience)
            mender.stop()

    def reconnected(self) -> None:
        """A connection was replaced: a reply may have gone with it."""
        self._recover_at, self._reconnected = 0.0, True

    def settle_down(self) -> None:
        """Read replies only, of a session that takes no more."""
        session = self._session
        if self._mender is not None or session.taker is None or session.waiter is None:
            return
        session.taker.look()
        self.blocking.end()
        session.waiter.look()
        if session.taker.broken:
            self._mend(session.taker)

    def next_look(self) -> float:
        """Seconds after which `run` is to be called again though nothing could be read."""
        session = self._session
        if self.blocking.ending:
            return END_AGAIN
        now = clock.now()
        return min(1.0, max(0.0, session.sweep_at - now) + 0.005, max(0.0, self.put_off - now))

    def run(self, *, read: bool = True) -> None:
        """Do what can be done now.

        :param read: look for replies; False: whoever watches the connections says when there are any
        """
        session = self._session
        self.forget_put_off()  # whatever follows: a time that is over would wake an event loop again and again
        if not self.look(read=read):
            return
        session.check()
        session.deliveries.flush()
        now = clock.now()
        if not self.recovered(now):
            return
        self.takes.feed(now)
        session.push_uncorked()
        self.blocking.begin()

    def made_room(self) -> None:
        """As `run`, where nothing happened but that acknowledgements, sent by now, made room."""
        if not self.steady or not self.look(read=False):
            return
        self.takes.put_off = math.inf
        self.takes.feed(clock.now())
        if self.blocking.lacks_one():
            self.blocking.begin()

    def forget_put_off(self) -> None:
        """What was put off is looked at now."""
        self.takes.put_off = self.blocking.put_off = math.inf

    def top_up(self, reader: Reader, now: float) -> None:
        """An entry left the buffer: perhaps it is time for the next take, so that nobody has to wait for it."""
        if self._mender is None and not self._recovering:
            self.takes.top_up(reader, now)

    def let_go(self, reader: Reader) -> None:
        """End the blocking read if it is for this reader, which is about to leave: nothing may be handed to it after that."""
        self.blocking.let_go(reader)

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
            self.takes.failed(reader, outcome)
            return
        if len(outcome) >= limit:
            self._recover_at = 0.0
        reader.recover(outcome)
        if surplus := reader.surplus():  # of a take that was repeated both replies are here
            self._session.hand_back(reader, surplus)
