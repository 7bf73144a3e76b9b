"""A session on Kombu's event loop, which is how a Celery worker with a prefork, threads or solo pool runs it.

One pass of the loop is: what was called for soon (acknowledgements among it), timers, `Loop._tick`, the poll, readers.
The tick sends the acknowledgements, before anything else can start. Entries that were delivered by a take wait in the
session's buffer, which no poll can see: the poll is made to report them.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from kombu.utils.eventio import READ

from elkmq._core import clock

if TYPE_CHECKING:
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

PER_PASS = 50
"""Messages handed out before the loop may see to timers and results again."""

PASS = 0.002
"""Seconds after which it may, too: what a callback that took long acknowledged is told before the next one starts."""

TICK = 1.0
"""Seconds between looks at connections that say nothing."""


class Guard:
    """The loop's poller, which looks at the clock after each poll.

    A worker that was stopped, or whose machine slept, goes on with whatever the poll brings: the result of a task frees a
    pool process for a task that was handed out long ago. So the leases are looked at before anything else is done.
    """

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.loops: list[Loop] = []
        self._unregistered: set[int] = set()
        """Descriptors that are not watched for certain."""

    def poll(self, timeout: float | None) -> Any:
        """Poll; raises where the leases turn out to be lost."""
        due = []
        for loop in self.loops:
            if loop.due:
                due.append((loop.pipe, READ))
            if loop.due or loop.soon:
                loop.due = loop.soon = False
                timeout = 0
        found = self._poller.poll(timeout)
        for loop in self.loops:
            loop.guard()
        return [*(found or ()), *due] if due else found

    def register(self, fd: Any, events: int) -> Any:
        """Watch a descriptor."""
        self._unregistered.discard(fd if isinstance(fd, int) else fd.fileno())
        return self._poller.register(fd, events)

    def unregister(self, fd: Any) -> None:
        """Do not any more. Celery's prefork pool has this done for each of its processes in each pass, though most are not watched:
        a system call that fails, and an exception, each.
        """
        if fd not in self._unregistered:
            self._poller.unregister(fd)
            if isinstance(fd, int):
                self._unregistered.add(fd)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


class Loop:
    """The session's part of an event loop."""

    def __init__(self, session: Session, hub: Any) -> None:
        self._session = session
        self._hub = hub
        self._watched: dict[int, Any] = {}
        self._read = True
        """Whether to look for replies, though the poll did not say that there are any."""
        self._alarm = math.inf
        """When the loop is to be woken for a take that was put off."""
        self.due = False
        """Whether there is something to hand out, though no descriptor can be read: the next poll is to say so."""
        self.soon = False
        """Whether the next poll is not to wait: the pass after it has something to do."""
        self._handed_out = False
        """Whether there were messages in this pass."""
        if not isinstance(hub.poller, Guard):
            hub.poller = Guard(hub.poller)
        self._poller = hub.poller
        self._poller.loops.append(self)
        hub.on_tick.add(self._tick)
        self._timer = hub.call_repeatedly(TICK, self._look)
        session.cork()

    def leave(self) -> None:
        """The session is done with the loop."""
        self._session.uncork()
        self._hub.on_tick.discard(self._tick)
        self._poller.loops = [loop for loop in self._poller.loops if loop is not self]
        self._timer.cancel()
        for fd in self._watched:
            self._hub.remove(fd)
        self._watched.clear()

    @property
    def pipe(self) -> int:
        """The descriptor that stands for what the session has to hand out."""
        return self._session.pipe

    def guard(self) -> None:
        """See that the leases hold."""
        if not self._session.closed:
            self._session.guard()

    def _tick(self) -> None:
        session = self._session
        if session.closed and not session.connected:
            self.leave()
            return
        session.cork()
        untold, handed_out, self._handed_out = session.deliveries.untold, self._handed_out, False
        if handed_out and not untold and self._hub.consolidate_callback is not None:
            # Tasks for pool processes are written after the next poll, which does not wait. All this comes after that.
            self.soon = True
            return
        if not (session.stirred or session.unsent or self._read or clock.now() >= session.sweep_at):
            # Most passes are about results of pool processes, others only bring acknowledgements.
            if not untold:
                return
            session.deliveries.flush()
            if session.deliveries.deliverable():  # and with each that is handed out more is asked for
                session.push()
                self.due = session.pipe in self._watched
                return
        session.stirred = False
        read, self._read = self._read, False
        session.pump.run(read=read)
        session.check()
        session.chores()
        session.relay.run()
        session.push()
        self._set_alarm()
        self._watch()
        if session.deliveries.deliverable():
            self.due = session.pipe in self._watched

    def _look(self) -> None:
        """Once a second: connections that say nothing may be broken, and answers that nobody waits for may be there."""
        self._read = True

    def _set_alarm(self) -> None:
        put_off = self._session.pump.put_off
        if put_off < self._alarm:
            self._alarm = put_off
            self._hub.call_later(max(0.0, put_off - clock.now()), self._wake_up)

    def _wake_up(self) -> None:
        """A pass of the loop is all that is wanted."""
        self._alarm = math.inf
        self._session.stirred = True

    def _watch(self) -> None:
        """Keep the loop's readers in step with the connections, which are replaced when they break."""
        session, hub = self._session, self._hub
        wanted = session.watched()
        for fd, sock in list(self._watched.items()):
            if wanted.get(fd) is not sock or fd not in hub.readers:
                hub.remove(fd)
                del self._watched[fd]
        for fd, sock in wanted.items():
            if fd not in self._watched:
                hub.add_reader(fd, self._readable, fd)
                self._watched[fd] = sock

    def _readable(self, fd: int) -> None:
        session, hub = self._session, self._hub
        session.stirred = True
        session.read(fd)
        session.check()
        until = clock.now() + PASS
        try:
            for _ in range(PER_PASS):
                if hub._ready or not session.deliveries.deliver_one():
                    break
                self._handed_out = True
                if clock.now() > until:
                    # Another descriptor may be read in this pass, and start the next one.
                    session.deliveries.flush()
                    session.push()
                    break
        except BaseException:
            session.deliveries.flush()  # what callbacks before this one acknowledged: no pass may follow
            session.push()
            raise
