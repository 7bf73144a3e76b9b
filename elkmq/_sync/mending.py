"""What happens when the sync driver's connection breaks: connect anew, send again what may be repeated, in time or not at all."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from elkmq._core.recovery import FROM_BELOW, hopeless
from elkmq._core.sending import Sending, closed, loaded, log, surrender
from elkmq._endpoint import poller
from elkmq._sync.line import Interrupted, Line
from elkmq.errors import EventQueueError


class _Lost(Exception):
    """The connection broke while ``on_reconnect`` used it; the argument is why. Only passed on."""


class Mending(Line):
    """A line that mends itself. Whoever calls these methods holds its lock, by `_work`."""

    def _broken(self, error: BaseException) -> None:
        """Hang up; what has no answer is to be sent again, or has an unknown outcome for good."""
        raw = self._raw
        if raw is None and not self._sent:
            return
        self._error = error if isinstance(error, Exception) else None
        self._at_server.clear()
        again = dict.fromkeys(self._again)
        for sending in self._sent:
            sending.maybe_ran = True
            if sending.answered or sending.abandoned or sending.done is loaded:
                continue
            if sending.call.retry:
                again[sending] = None
            elif sending not in again:
                self._settle(sending, self._surrender(sending))
        self._again = deque(again)
        self._sent.clear()
        self._stale = self._load_refused = None
        self._missing.clear()
        self._not_before = time.monotonic() + self._backoff.delay()
        if raw is not None:
            self._raw = None
            raw.disconnect()

    def _mend(self, *, patient: bool = True) -> None:
        """Connect and send again what waits in ``_again``, until that works or nothing waits any more.

        :param patient: False: one attempt at most, and none before its time
        """
        if self._stale is not None:
            self._broken(self._stale)
        if self._in_hook:
            raise _Lost(self._error)
        while self._retire():
            if self._closed:
                self._give_up(closed())
                return
            if self.interrupted:
                raise Interrupted
            pause = self._not_before - time.monotonic()
            if pause > 0:
                if not patient:
                    return
                soonest = min(sending.give_up_at or 0.0 for sending in self._again)
                self._wake.acquire(timeout=min(pause, max(0.0, soonest - time.monotonic())))
                continue
            try:
                self._connect()
            except Interrupted:
                if not self._closed:
                    raise
            except FROM_BELOW as error:
                self._broken(error)
                self._error = error
                self._not_before = time.monotonic() + self._backoff.delay()
                if hopeless(error):
                    self._give_up(error)
                else:
                    self._say(error)
                if not patient:
                    return
            else:
                self._send_again()
                return

    def _connect(self) -> None:
        self._raw = raw = self.endpoint.connect(self._slot_key)
        self._fileno = raw._sock.fileno()
        self._poll = poller(self._fileno)
        self._not_before = 0.0
        first, self._was_connected = not self._was_connected, True
        if self.interrupted:
            self._broken(Interrupted())
            raise Interrupted
        if first or self.on_reconnect is None:
            return
        self._in_hook = True
        self._held, self._again = self._again, self._held
        try:
            self.on_reconnect(self)
        except _Lost as lost:
            raise RedisConnectionError("the connection broke again") from lost.args[0]
        except Exception:  # noqa: BLE001 - a user's code
            log.exception("on_reconnect failed; the calls that wait are sent all the same")
        finally:
            self._leave_hook()
        if self._raw is None:
            raise RedisConnectionError("the connection broke again") from self._error

    def _leave_hook(self) -> None:
        self._in_hook = False
        if self._held:
            self._again = deque(dict.fromkeys((*self._held, *self._again)))
            self._held = deque()

    def give_up_after(self, seconds: float) -> None:
        """Repeat no call for longer than so many seconds from now, not even those under way, for the channel's last ones.

        Takes no lock: it may be another thread's call that is under way.
        """
        self._retry_for = min(self._retry_for, seconds)
        self._timeout = min(self._timeout, max(seconds, 0.1))
        self.endpoint = self.endpoint.hurried(self._timeout)
        until = time.monotonic() + seconds
        for sending in (*self._sent, *self._again):
            if sending.give_up_at is not None:
                sending.give_up_at = min(sending.give_up_at, until)
        if (raw := self._raw) is not None and (sock := raw._sock) is not None:
            with suppress(OSError):
                sock.settimeout(self._timeout)
        with suppress(RuntimeError):  # nobody waits, and it was released already
            self._wake.release()

    def _retire(self) -> bool:
        """Give up calls whose time to be repeated is over; return whether any is left."""
        now = time.monotonic()
        left: deque[Sending[Any]] = deque()
        for sending in self._again:
            if sending.answered or sending.abandoned:
                continue
            if sending.give_up_at is None:
                sending.give_up_at = sending.until(now + self._retry_for)
            elif sending.give_up_at <= now:
                self._settle(sending, self._surrender(sending))
                continue
            left.append(sending)
        self._again = left
        return bool(left)

    def _give_up(self, error: Exception) -> None:
        self._error = error
        for sending in self._again:
            if not (sending.answered or sending.abandoned):
                self._settle(sending, self._surrender(sending))
        self._again.clear()

    def _surrender(self, sending: Sending[Any]) -> EventQueueError:
        # What broke it is the closing, then, however it looked to whoever was reading.
        error = closed() if self._closed else self._error or closed()
        return surrender(sending, error, self.endpoint.describe())
