"""The inside of the sync driver's connection: what is on its way, in what order, and what comes of it.

How a call travels. It is *written* and waits in ``_sent``, in the order of writing, which is the order of the replies.
From there it goes

- to its outcome, when its reply is read;
- to ``_again``, when the reply says that it was not carried out: the server lost its script (``NOSCRIPT``), or is a
  replica, still loading, or not the owner of the slot any more. Once all replies are in, the channel loads the scripts,
  or connects anew (by way of Sentinel or the cluster's slots, so to another server perhaps), and sends these calls again
  in their order. A call behind them that was carried out stays carried out: between two calls of a pipeline, the server
  keeps the order only as long as both are carried out at once;
- to ``_again`` too, when the connection breaks or stays mute for ``socket_timeout`` and the call is safe to repeat
  (``call.retry``); else to an error which says that its outcome is unknown.

A call is repeated until ``retry_for`` seconds after its own first failure.

An exception out of a signal handler (Celery's soft time limit, Ctrl-C) can come between any two steps. It costs the
connection, since where the reading stopped is unknown, and the call that it came out of. For all others to keep their
place and their replies, a call is put where it goes before it is taken from where it was, `_broken` mends what that leaves
behind, and nothing waits in Python's own ``Event`` or ``Condition``, which such an exception leaves locked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from elkmq._core.call import Script
from elkmq._core.fork import disarm, forget_in_child
from elkmq._core.recovery import FROM_BELOW, MAX_SENDINGS, Backoff, Failure, judge
from elkmq._core.sending import Sending, call_back, closed, from_outside, load, loaded, pack, read, refusal, say_reach
from elkmq._endpoint import Endpoint, Raw, poller, receive

T = TypeVar("T")

GRACE = 1.0
"""Seconds that a blocking call's reply may come after nobody wants it any more, before the connection is taken for broken."""


class Interrupted(Exception):
    """The wait was ended from outside."""


class Line:
    """The state of a channel, and the way of its calls; `elkmq._sync.mending` adds the rest. Whoever calls these methods holds its lock, by `_work`."""

    on_reconnect: Callable[[Any], None] | None

    def __init__(self, endpoint: Endpoint, slot_key: bytes | None, retry_for: float | None) -> None:
        self.endpoint = endpoint
        self._slot_key = slot_key
        self._retry_for = endpoint.options.retry_for if retry_for is None else retry_for
        self._timeout = endpoint.options.socket_timeout
        self._closed = False
        self._be_new()
        forget_in_child(self)

    def _be_new(self) -> None:
        self._lock = threading.RLock()
        self._owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]
        """Whether this thread is inside already."""
        self._wake = threading.Lock()  # released to end a wait between attempts to connect
        self._wake.acquire()
        self._raw: Raw = None
        self._fileno = -1
        self._poll: Callable[[int], object] = poller(-1)
        self._was_connected = False
        self._unreached = False
        self._sent: deque[Sending[Any]] = deque()
        self._at_server: set[str] = set()  # scripts that ran on this connection
        self._again: deque[Sending[Any]] = deque()
        self._held: deque[Sending[Any]] = deque()  # what waits in _again while on_reconnect uses the connection
        self._told: deque[Sending[Any]] = deque()  # have an outcome that their callback has not been told
        self._missing: dict[str, Script] = {}
        self._stale: Exception | None = None  # why this server is not the right one any more
        self._error: Exception | None = None  # what broke the connection last
        self._load_refused: Exception | None = None
        self._backoff = Backoff(self._retry_for)
        self._progress = 0.0  # when the last reply came, or the oldest unanswered call was sent
        self._not_before = 0.0  # when the next attempt to connect is due
        self._in_hook = False
        self.interrupted = False
        """Whether `Channel.interrupt` was called and `Channel.resume` was not, since."""

    def forget_parent(self) -> None:
        """Be as new, in a forked child; calls under way belong to the parent."""
        if self._raw is not None:
            disarm(self._fileno)
        self._be_new()

    def _work(self, work: Callable[[], T], sendings: Sequence[Sending[Any]] = ()) -> T:
        """Do some work under the lock and report outcomes after it. Calls whose caller is thrown out are forgotten."""
        in_hook = self._in_hook
        try:
            with self._lock:
                try:
                    return work()
                except BaseException as error:
                    for sending in sendings:
                        sending.abandoned = True
                    self._broken(error)
                    if not in_hook:
                        self._leave_hook()
                    raise
        finally:
            while self._told and not self._in_hook:
                try:
                    sending = self._told.popleft()
                except IndexError:  # another thread reports as well
                    break
                call_back(sending, from_outside)

    def _exchange(self, sendings: Sequence[Sending[Any]]) -> None:
        """Write what was not written yet and make steps until all of it is answered."""
        new = [sending for sending in sendings if not sending.written]
        if self._raw is not None and not self._sent and not all(sending.call.retry for sending in new):
            # What cannot be repeated is not tried on a connection that is known to be gone.
            self._readable()
        if new:
            self._write(new)
        for sending in sendings:
            while not sending.answered:
                self._step()

    def _step_to_the_end(self) -> None:
        while self._sent or self._again:
            self._step()

    def _step(self) -> None:
        if self._closed:
            self._broken(closed())
            self._give_up(closed())
        elif self._raw is None or (self._stale is not None and not self._sent):
            self._mend()
        elif self._sent:
            self._read_one()
        else:
            self._send_again()

    # -- writing and reading

    def _write(self, sendings: Sequence[Sending[Any]]) -> None:
        if self._raw is None or self._stale is not None or self._again:
            self._again.extend(sendings)  # behind those that wait already
        else:
            self._send(sendings)

    def _send(self, sendings: Sequence[Sending[Any]]) -> None:
        packed = pack(sendings)
        if not self._sent:
            self._progress = time.monotonic()
        self._sent.extend(sendings)
        for sending in sendings:
            sending.written = True
        self._again.clear()  # only now: in between they are in both
        try:
            self._raw._sock.sendall(packed)
        except FROM_BELOW as error:
            self._broken(error)

    def _send_again(self) -> None:
        loads = [Sending(load(script), loaded) for script in self._missing.values()]
        self._missing.clear()
        self._send([*loads, *(sending for sending in self._again if not (sending.answered or sending.abandoned))])

    def _read_one(self, *, ready: bool = False) -> None:
        """Read a reply. ``ready``: it is there, so that nothing has to be set for waiting longer."""
        raw, sending = self._raw, self._sent[0]
        block, until = sending.call.block, sending.call.until
        timed = not ready and (block or until is not None)
        try:
            if timed:
                raw._sock.settimeout(self._patience(block, until))
            reply = receive(raw)
            if timed:
                raw._sock.settimeout(self._timeout)
        except FROM_BELOW as error:
            self._failed(error)
        else:
            self._settle(sending, read(sending.call, reply, from_outside))
            self._sent.popleft()
            self._progress = time.monotonic()
            self._backoff.reset()
            if self._unreached:
                self._say(None)

    def _patience(self, block: float, until: float | None) -> float:
        """Seconds after which a call's reply is not waited for any more."""
        patience = self._timeout + block
        return patience if until is None else min(patience, max(until + GRACE - time.monotonic(), 0.05))

    def _readable(self) -> bool:
        """Whether a reply is there; False, too, when the connection turns out to be broken."""
        if self._raw is None:
            return False
        try:
            return bool(self._raw.can_read(0))
        except FROM_BELOW as error:
            self._broken(error)
            return False

    def _failed(self, error: Exception) -> None:
        """Decide about the call whose reply is due, and got this."""
        failure = judge(error)
        sending = self._sent[0]
        script = sending.call.script
        if failure is Failure.BROKEN:
            self._broken(error)
            return
        if (sending.call.block or sending.call.until is not None) and self._raw is not None:
            self._raw._sock.settimeout(self._timeout)
        if failure is Failure.NOT_NOW:
            self._stale = self._error = error
            self._say(error)
            self._again.append(sending)
        elif failure is Failure.NO_SCRIPT and script is not None and sending.sendings < MAX_SENDINGS:
            if self._load_refused is None:
                sending.sendings += 1
                self._missing[script.sha] = script
                self._again.append(sending)
            else:
                self._settle(sending, refusal(sending.call, self._load_refused, self.endpoint.describe()))
        elif sending.done is loaded:
            self._load_refused = error
        else:
            self._settle(sending, refusal(sending.call, error, self.endpoint.describe()))
        self._sent.popleft()
        if self._missing and any(behind.call.block for behind in self._sent):
            # A blocking call behind it would hold the script back for as long as it waits.
            missing = dict(self._missing)
            self._broken(error)
            self._missing = missing
            self._error, self._not_before = None, 0.0  # nothing is wrong with the server
            self._backoff.reset()

    def _settle(self, sending: Sending[Any], outcome: Any) -> None:
        sending.outcome = outcome
        sending.answered = True
        if sending.done is not None:
            self._told.append(sending)

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

    def _mend(self) -> None:
        """There is none, or not the right one, and calls wait for it."""
        raise NotImplementedError

    def _give_up(self, error: Exception) -> None:
        """There will be none."""
        raise NotImplementedError

    def _leave_hook(self) -> None:
        """Whatever ``on_reconnect`` did is over."""
        raise NotImplementedError
