"""The inside of the asyncio driver's connection: what is on its way, in what order, and what comes of it.

The way of a call is the one that ``elkmq._sync.channel`` describes: ``_queue`` (asked for), ``_sent`` (written, in the
order of the replies), ``_again`` (to be sent once more). Here two tasks move the calls: the *reader*, one for each
connection, reads replies until it breaks; the *mender* exists only while there is something to send and no connection.
Calls of the same tick leave in one piece. A call whose task was cancelled stays where it is until its reply has been
read, so that no reply meets the wrong call; if it was not written yet, it never is. `elkmq._aio.ending` ends the two with
their event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from elkmq._aio.ending import Ending
from elkmq._core.call import Script
from elkmq._core.fork import disarm, forget_in_child
from elkmq._core.recovery import MAX_SENDINGS, Backoff, Failure, judge
from elkmq._core.sending import Sending, call_back, closed, load, loaded, pack, read, refusal, say_reach
from elkmq._endpoint import Endpoint, Raw
from elkmq.errors import EventQueueError

hook_of: ContextVar[Line | None] = ContextVar("hook_of", default=None)
_parents: list[Any] = []  # connections of the parent, in a forked child: kept, since their finalizers would warn


class Interrupted(Exception):
    """The wait was ended from outside."""


class Line:
    """The state of a channel, and the way of its calls; `elkmq._aio.mending` adds the rest. Its methods belong to the loop's thread."""

    on_reconnect: Callable[[Any], Awaitable[None] | None] | None

    def __init__(self, endpoint: Endpoint, slot_key: bytes | None, retry_for: float | None) -> None:
        self.endpoint = endpoint
        self._slot_key = slot_key
        self._retry_for = endpoint.options.retry_for if retry_for is None else retry_for
        self._timeout = endpoint.options.socket_timeout
        self._closed = False
        self._be_new()
        forget_in_child(self)

    def _be_new(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._raw: Raw = None
        self._was_connected = False
        self._unreached = False
        self._transport: Any = None
        self._fileno = -1
        self._reader: asyncio.Task[None] | None = None
        self._mender: asyncio.Task[None] | None = None
        self._ending = Ending(self._hang_up)
        self._queue: deque[Sending[Any]] = deque()
        self._sent: deque[Sending[Any]] = deque()
        self._again: deque[Sending[Any]] = deque()
        self._left: set[Sending[Any]] = set()  # sent on behalf of those that are gone
        self._missing: dict[str, Script] = {}
        self._resending = False
        self._ticking = False
        self._gated = False  # on_reconnect is at work: others wait
        self._stale: Exception | None = None
        self._error: Exception | None = None
        self._load_refused: Exception | None = None
        self._backoff = Backoff(self._retry_for)
        self._progress = 0.0  # when the last reply came, or the oldest unanswered call was sent
        self._not_before = 0.0  # when the next attempt to connect is due
        self._watch: asyncio.TimerHandle | None = None
        self._changes: list[asyncio.Future[None]] = []

    def forget_parent(self) -> None:
        """Be as new, in a forked child; calls under way belong to the parent."""
        if self._raw is not None:
            disarm(self._fileno)
            _parents.append((self._raw, self._reader, self._mender, self._ending))
        self._be_new()

    # -- writing

    def _here(self) -> asyncio.AbstractEventLoop:
        """The running loop, which is the one that this channel belongs to."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise EventQueueError(
                    "this client is in use in another event loop; nothing was sent; open one in each."
                )
            self.forget_parent()  # a loop that was closed took its connections along
            self._loop = loop
        return loop

    def _submit(self, *sendings: Sending[Any]) -> None:
        if self._closed:
            for sending in sendings:
                self._settle(sending, closed())
        elif self._gated and self._raw is not None and hook_of.get() is self:
            self._write(sendings)
        else:
            self._queue.extend(sendings)
            if self._raw is None or self._gated:
                self._begin_to_mend()
            elif not self._ticking:
                # The first of a tick leaves at once, the others of the tick together at its end.
                self._ticking = True
                self._flush()
                asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._flush()

    def _flush(self) -> None:
        if self._queue and self._raw is not None and self._stale is None and not self._gated:
            sendings = [sending for sending in self._queue if not sending.unwanted]
            self._queue.clear()
            self._write(sendings)

    def _write(self, sendings: Sequence[Sending[Any]]) -> None:
        if not sendings:
            return
        packed = pack(sendings)
        loop = asyncio.get_running_loop()
        if not self._sent:
            self._progress = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(self._timeout, self._look_at_the_clock)
        for sending in sendings:
            sending.written = True
        self._sent.extend(sendings)
        self._transport.write(packed)
        self._changed()

    def _send_again(self) -> None:
        self._resending = False
        if self._raw is None or self._stale is not None:
            return
        loads = [Sending(load(script), loaded) for script in self._missing.values()]
        self._missing.clear()
        again = [sending for sending in self._again if not sending.unwanted]
        self._again.clear()
        self._write([*loads, *again])

    # -- reading

    async def _read(self, raw: Raw) -> None:
        try:
            while True:
                try:
                    reply = await raw.read_response(disconnect_on_error=False)
                except Exception as error:
                    failure = judge(error)
                    if failure is Failure.BROKEN or not self._sent:
                        raise
                    self._failed(failure, error)
                    if self._raw is not raw:
                        return
                else:
                    sending = self._sent.popleft()
                    self._progress = asyncio.get_running_loop().time()
                    self._backoff.reset()
                    self._ending.answered()
                    if self._unreached:
                        self._say(None)
                    self._settle(sending, read(sending.call, reply))
                    if self._stale is not None and not self._sent:
                        raise self._stale
        except asyncio.CancelledError as error:
            if self._raw is raw:
                if not self._closed and self._ending.goes_on():
                    self._reader = asyncio.get_running_loop().create_task(self._read(raw))
                else:
                    self._broken(error)
            raise
        except Exception as error:  # noqa: BLE001 - judged
            if self._raw is raw:
                self._broken(error)

    def _failed(self, failure: Failure, error: Exception) -> None:
        """Decide about the call whose reply is due, and got this."""
        sending = self._sent.popleft()
        script = sending.call.script
        if failure is Failure.NOT_NOW:
            self._stale = error
            self._say(error)
            self._again.append(sending)
        elif failure is Failure.NO_SCRIPT and script is not None and sending.sendings < MAX_SENDINGS:
            if self._load_refused is not None:
                self._settle(sending, refusal(sending.call, self._load_refused, self.endpoint.describe()))
            else:
                sending.sendings += 1
                self._missing[script.sha] = script
                self._again.append(sending)
                if not self._resending:
                    # After the other replies that are here already: one load for all of them.
                    self._resending = True
                    asyncio.get_running_loop().call_soon(self._send_again)
        elif sending.done is loaded:
            self._load_refused = error
        else:
            self._settle(sending, refusal(sending.call, error, self.endpoint.describe()))
        if self._stale is not None and not self._sent:
            self._broken(self._stale)

    def _settle(self, sending: Sending[Any], outcome: Any) -> None:
        sending.outcome = outcome
        sending.answered = True
        if sending.future is not None:
            resolve(sending.future, outcome)
        elif sending.done is not None:
            call_back(sending)
        if self._changes:
            self._changed()

    def _look_at_the_clock(self) -> None:
        """Break a connection that is mute for too long: half open, or a server that hangs."""
        self._watch = None
        if not self._sent or self._raw is None:
            return
        loop = asyncio.get_running_loop()
        due = self._progress + self._timeout + self._sent[0].call.block
        if loop.time() >= due:
            self._broken(RedisTimeoutError("no reply in time"))
        else:
            self._watch = loop.call_at(due, self._look_at_the_clock)

    def _change(self) -> asyncio.Future[None]:
        """Return what to await for the next call to be written or answered."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes.append(future)
        return future

    def _changed(self) -> None:
        changes, self._changes = self._changes, []
        for future in changes:
            resolve(future, None)

    def _say(self, error: Exception | None) -> None:
        """Log that the server is out of reach, once per outage; None: it is not any more."""
        patience = self.endpoint.options.retry_for  # what callers have; a heartbeat has less
        if self._unreached == (error is None) and patience:
            self._unreached = error is not None
            say_reach(error, self.endpoint.describe(), patience)

    # -- for `Mending`

    def _broken(self, error: BaseException) -> None:
        """The connection cannot be used any more."""
        raise NotImplementedError

    def _begin_to_mend(self) -> None:
        """There is none, and calls wait for it."""
        raise NotImplementedError

    def _hang_up(self) -> list[asyncio.Task[None] | None]:
        """For good; returns the tasks that are at work for it."""
        raise NotImplementedError


def resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return  # cancelled
    with suppress(RuntimeError):  # its loop is closed
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
