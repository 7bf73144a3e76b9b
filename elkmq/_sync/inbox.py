"""A client's inbox for threads: whoever waits reads, one at a time, for all of them.

So a lone caller gets its response with no other thread in between. The reader sends its blocking read right behind its
request, in one piece; when it has its own response it lets another waiting thread read on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from elkmq._core.call import Form
from elkmq._core.entry import Receipt, plainly_accepted
from elkmq._core.inbox import NOTHING_READ, READ_WAIT, Awaited, Responses, patience
from elkmq._sync.link import Channel
from elkmq._sync.session import Session
from elkmq.errors import EventQueueError, QueueClosed
from elkmq.event import ServiceEvent, TimestampedEvent, uuid_text

LOOK_AGAIN = 1.0
"""Seconds after which a waiting thread looks whether it is its turn: one that was torn away may have told nobody."""

Found = list[tuple[bytes, bytes, bytes]]

Accepted = Callable[[ServiceEvent, Receipt], None]


class _Place:
    """One thread's place among those that wait."""

    __slots__ = ("_bell", "error", "gone", "value")

    def __init__(self) -> None:
        self._bell = threading.Lock()  # free: it was rung. A lock costs a tenth of an `Event`
        self._bell.acquire()
        self.value: TimestampedEvent | None = None
        self.error: BaseException | None = None
        self.gone = False

    def keep(self, value: TimestampedEvent) -> None:
        self.value = value
        self.ring()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.ring()

    @property
    def rung(self) -> bool:
        return not self._bell.locked()

    def ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:  # it was rung before
            return

    def listen(self, seconds: float) -> None:
        """Wait until it is rung, which counts once."""
        self._bell.acquire(timeout=seconds)

    def outcome(self) -> TimestampedEvent | None:
        if self.value is None and self.error is not None:
            raise self.error
        return self.value


class Inbox:
    """Responses for one client of one queue."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._responses = Responses()
        self._guard = threading.Lock()  # never held over a wait
        self._reader: _Place | None = None
        self._channel: Channel | None = None
        self._read_call: Form[Found] | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """What requests carry."""
        return self._responses.inbox

    @property
    def waiting(self) -> Mapping[bytes, Awaited]:
        """Who awaits a response, by the request's uuid."""
        return self._responses.waiting

    def response(
        self,
        event: ServiceEvent,
        form: Form[list[Receipt]],
        values: tuple[bytes, ...],
        timeout: float,
        accepted: Accepted,
    ) -> TimestampedEvent:
        """Send a request, ``form`` filled with ``values``, and await its response.

        ``accepted`` is told where the server says more of it than its id.

        Raises: TimeoutError, and what ``accepted`` raises.
        """
        uuid, until = uuid_text(event).encode(), time.monotonic() + timeout
        place, responses = _Place(), self._responses
        try:
            responses.expect(uuid, place)
            found = None
            if self._may_read(place) and not (channel := self._connection()).outstanding:
                block = _block(timeout)
                sent = channel.run_before(
                    form, values, self._read_form(), (b"%d" % block, responses.last),
                    done=partial(self._came, channel, until), usual=plainly_accepted, block=block / 1000, until=until,
                )  # fmt: skip
                receipts, found = sent
                if found is not None:
                    responses.came(found)
            else:
                pool, _ = self._session.open()
                receipts = pool.run(form(*values, until=until))
            if receipts is not None and (receipts[0].served or receipts[0].duplicate):
                accepted(event, receipts[0])
            return place.value or self._wait(
                place, until if found is not None else time.monotonic() + patience(until, timeout)
            )
        except BaseException:
            if self._reader is place:
                self._drop_the_read()
            raise
        finally:
            place.gone = True  # first of all: wherever a signal handler's exception comes, the next one may read
            waiting = responses.waiting
            if waiting.get(uuid) is place:
                waiting.pop(uuid, None)
            if waiting or responses.many_read:
                self._pass_on(place)

    def _wait(self, place: _Place, deadline: float) -> TimestampedEvent:
        while (value := place.outcome()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if self._may_read(place):
                self._read(left)
            else:
                # Until its response is there, it is this thread's turn to read, or its time is over.
                place.listen(min(left, LOOK_AGAIN))
        return value

    def close(self) -> None:
        """End the reading; requests under way fail."""
        self._closed = True
        if self._channel is not None:
            self._channel.close()
        self._responses.closed()
        if self._responses.last != NOTHING_READ:
            pool, verbs = self._session.open()
            call = verbs.forget_inbox(self.name)
            call.until = self._session.closing_until
            with suppress(EventQueueError):  # then it goes with the last deadline
                pool.run(call)

    def _forget(self, ids: list[bytes]) -> None:
        """Have responses removed that were read, without waiting for it: who got one must not suffer for it."""
        pool, verbs = self._session.open()
        with pool.channel() as channel:
            if channel.connected and not (channel.outstanding and channel.drain()):
                channel.post(verbs.forget_responses(self.name, ids))
            else:
                self._responses.not_forgotten(ids)

    def _connection(self) -> Channel:
        if self._closed:
            raise QueueClosed("the queue was closed; nothing was sent; make a new EventQueue.")
        if self._channel is None:
            self._channel = self._session.channel()
        return self._channel

    def _read_form(self) -> Form[Found]:
        """The blocking read."""
        if self._read_call is None:
            _, verbs = self._session.open()
            self._read_call = verbs.wait_for_responses(self.name)
        return self._read_call

    def _drop_the_read(self) -> None:
        """A blocking read that is under way would keep the next thread for longer than that wants to wait."""
        channel = self._channel
        if channel is not None and channel.outstanding:
            self._channel = None
            channel.close()

    def _came(self, channel: Channel, until: float, found: Found | EventQueueError) -> None:
        """The outcome of a blocking read on a channel, wanted until then."""
        if channel is not self._channel:
            return
        if not isinstance(found, EventQueueError):
            self._responses.came(found)
        elif time.monotonic() < until:  # when its own time was over it says nothing to the others
            self._responses.fail(found)

    def _read(self, left: float) -> None:
        """Read until a response came, or the server's time for it was over; for all who wait."""
        channel = self._connection()
        if not channel.outstanding:
            block, until = _block(left), time.monotonic() + left
            call = self._read_form()(b"%d" % block, self._responses.last, block=block / 1000, until=until)
            channel.post(call, partial(self._came, channel, until))
        channel.flush()

    def _may_read(self, place: _Place) -> bool:
        """Whether it is the turn of this one, which it is where nobody else who reads is still here."""
        if self._reader is not place:
            with self._guard:
                if self._reader is None or self._reader.gone:
                    self._reader = place
        return self._reader is place

    def _pass_on(self, place: _Place) -> None:
        """Read no more: let another waiting thread do it, and tidy up where there is none."""
        reader = self._reader
        if reader is not None and not reader.gone:
            return
        waiting = self._responses.waiting
        try:
            if reader is place and (ids := self._responses.to_forget(idle=False)) and not self._closed:
                self._forget(ids)
        finally:
            if waiting:
                for awaited in list(waiting.values()):
                    if isinstance(awaited, _Place) and not awaited.rung:
                        awaited.ring()
                        break


def _block(timeout: float) -> int:
    """Milliseconds for which a blocking read waits."""
    return max(1, min(READ_WAIT, round(timeout * 1000)))
