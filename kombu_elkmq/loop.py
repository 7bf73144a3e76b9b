"""A session on Kombu's event loop, which is how a Celery worker with a prefork, threads or solo pool runs it.

One pass of the loop is: what was called for soon (acknowledgements among it), timers, `Loop._tick`, the poll, readers.
The tick sends the acknowledgements, before anything else can start. Entries that were delivered by a take wait in the
session's buffer, which no poll can see: the poll is made to report them.

Where tasks run in the callback (solo), a pass hands out several messages, and what the callback of each called for soon is
done right after it. Where tasks go to pool processes, it hands out one: they finish tasks, and want others, meanwhile.
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

PER_POOL_PASS = 1
"""The same where tasks go to pool processes: what these finish, and are to get next, is seen to in between."""

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
        self._modify = getattr(getattr(poller, "_epoll", None), "modify", None)
        self._masks: dict[int, int] = {}
        """Descriptor -> what it was last registered for."""
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
        """Watch a descriptor. Celery's prefork pool has this done twice a task for descriptors that are watched already: an
        exception each, where Kombu does not ask first.
        """
        number = fd if isinstance(fd, int) else fd.fileno()
        if self._modify is not None:
            if number not in self._unregistered and self._masks.get(number) == events:
                try:
                    self._modify(number, events)
                    return fd
                except OSError:
                    pass  # it was closed meanwhile
            self._masks[number] = events
        self._unregistered.discard(number)
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
        self._left_some = False
        """Whether the last pass that handed out messages may have left some."""
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
            self.due = self._left_some and session.deliveries.deliverable()
            return
        if not (session.stirred or session.unsent or self._read or clock.now() >= session.sweep_at):
            # Most passes are about results of pool processes, others only bring acknowledgements.
            if untold or self._left_some:
                self._go_on()
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

    def _go_on(self) -> None:
        """What is left of a pass in which nothing came from the server."""
        session, awaited = self._session, self._session.awaited
        session.deliveries.flush()
        if session.deliveries.deliverable():  # and with each that is handed out more is asked for
            self.due = session.pipe in self._watched
        else:
            session.pump.made_room()
            self._set_alarm()
        session.push()
        if session.awaited != awaited:
            self._watch()

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
        if session.woken or fd != session.pipe:  # else it is only that the last pass left something to hand out
            session.stirred = True
            session.read(fd)
        session.check()
        until, pool = clock.now() + PASS, hub.consolidate_callback is not None
        self._left_some = True
        try:
            for _ in range(PER_POOL_PASS if pool else PER_PASS):
                if not session.deliveries.deliver_one():
                    self._left_some = False
                    break
                self._handed_out = True
                if hub._ready and not pool:
                    self._do_soon()
                if clock.now() > until or session.closed:
                    # Another descriptor may be read in this pass, and start the next one.
                    session.deliveries.flush()
                    session.push()
                    break
        except BaseException:
            session.deliveries.flush()  # what callbacks before this one acknowledged: no pass may follow
            session.push()
            raise

    def _do_soon(self) -> None:
        """What a callback called for soon, before the next one: where the task ran in it, that is its acknowledgement. A pass of
        the loop for each would cost more than the rest.
        """
        session = self._session
        for soon in self._hub._pop_ready():
            if soon:
                soon()
        session.deliveries.flush()
        session.push()
        if session.awaited:
            session.stirred = True
