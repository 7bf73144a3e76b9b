"""What a session sees to besides messages: that its leases hold, and queues that nobody consumes."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.routing import Routing, Swept
from elkmq._core.verbs import Verbs, beat
from elkmq.errors import EventQueueError, ServerConnectionError
from kombu_elkmq.wires import Wires

if TYPE_CHECKING:
    from kombu_elkmq.pump import Pump
    from kombu_elkmq.reader import Reader
    from kombu_elkmq.relay import Relay
    from kombu_elkmq.routing import Routes

log = logging.getLogger("kombu_elkmq")

_looked: dict[tuple[object, ...], float] = {}
"""Server and key prefix -> when this process last looked at the queues that nobody consumes there."""

SOONEST_SWEEP = 0.05
"""Seconds between two looks at queues that nobody consumes, where their messages expire one after the other."""


class Upkeep(Wires):
    """The part of a session that does it."""

    name: str
    readers: dict[str, Reader]
    pump: Pump
    relay: Relay
    routes: Routes
    routing: Routing
    sweep_at: float
    unused_at: float
    unused_soon: bool
    """Whether that is since a queue may be unused for long enough then, and not only since a lease went by."""
    _guarded_until = 0.0
    _routine_at = -1.0
    """What `sweep_at` is where no more than a lease went by then."""

    @property
    def attended(self) -> bool:
        """Whether somebody sees to the chores as a matter of course."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise what ended the session."""
        raise NotImplementedError

    def fail(self, error: EventQueueError) -> None:
        """Nothing can be done any more."""
        raise NotImplementedError

    def verbs(self, queue: str) -> Verbs:
        """The calls of a queue."""
        raise NotImplementedError

    def verify(self) -> None:
        """Ask the server whether the leases hold: this process was stopped, or cut off, for long.

        :raises EventQueueError: one does not
        """
        readers = [reader for reader in self.readers.values() if reader.registered]
        lease = round(self.options.lease * 1000)
        sent = clock.now()
        replies = self._renew([(reader.verbs, self.name, lease) for reader in readers])
        for reader, left in zip(readers, replies, strict=True):
            if left < 0:
                reader.lose()
            else:
                reader.heard(sent)
        self.check()

    def _renew(self, consumers: list[tuple[Verbs, str, int]]) -> list[int]:
        return self.run(beat(consumers))

    def guard(self) -> None:
        """See that nothing is started on leases that are over.

        :raises EventQueueError: they are, or the server was away for as long
        """
        if clock.now() < self._guarded_until:
            return
        confirmed = min((reader.confirmed for reader in self.readers.values() if reader.registered), default=None)
        if confirmed is None:
            return
        # Until then the oldest of the leases is young enough, and those to come are younger.
        self._guarded_until = confirmed + self.options.lease * 2 / 3
        if clock.now() < self._guarded_until:
            return
        if not self.pump.mending:
            try:
                self.verify()
                return
            except ServerConnectionError as error:
                log.info("whether the leases hold cannot be asked: %s", error)
        if clock.now() - confirmed >= self.options.lease:
            self.fail(ServerConnectionError(
                f"{self.endpoint.describe()} was away for longer than the lease; what this process held goes to others; the "
                "connection is made anew."
            ))  # fmt: skip
            self.check()

    def chores(self) -> None:
        """Now and then: see to queues that nobody consumes."""
        now = clock.now()
        if now < self.sweep_at or not self.consumes or self.pump.mending:
            return
        looked = _looked.get(self.place, -math.inf)
        if self.sweep_at == self._routine_at and now < looked + self.options.lease:
            self._sweep_in_a_lease(looked)  # another connection of this process did
            return
        self._begin_sweep(now)
        self._sweep()

    def look_around(self) -> bool:
        """See to queues that nobody consumes, for a caller who may run no loop; whether that was due, and done."""
        now = clock.now()
        if now < self.sweep_at or self.attended:
            return False
        self._begin_sweep(now)
        try:
            self._swept(self._look_at_all())
        except EventQueueError as error:
            self._swept(error)
            return False
        self.relay.finish()
        return True

    def look_for_unused(self) -> None:
        """The same for who only publishes, once a lease, and when a queue that was declared here may be unused for long enough."""
        now = clock.now()
        if now >= self.unused_at:
            routine, self.unused_soon = not self.unused_soon, False
            looked = _looked.get(self.place, -math.inf)
            if routine and now < looked + self.options.lease:
                self.unused_at = looked + self.options.lease  # another connection of this process did
                return
            self.unused_at = now + self.options.lease
            self.sweep_at = min(self.sweep_at, now)
            self.look_around()

    def _begin_sweep(self, now: float) -> None:
        """Tell the other connections of this process that this one looks."""
        _looked[self.place] = now
        self._sweep_in_a_lease(now)

    def _sweep_in_a_lease(self, now: float) -> None:
        self.sweep_at = self._routine_at = now + self.options.lease

    @property
    def place(self) -> tuple[object, ...]:
        """What the connections of a process to one server have in common, with one key prefix."""
        return self.endpoint.key, self.options.global_keyprefix

    def _look_at_all(self) -> Swept:
        return self.run(self.routing.sweep())

    def _sweep(self) -> None:
        self.post(self.routing.sweep(), self._swept)

    def _swept(self, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            _looked.pop(self.place, None)
            log.warning("queues that nobody consumes were not seen to, that is tried again: %s", outcome)
            return
        if outcome.again >= 0:
            _looked.pop(self.place, None)  # this connection may be closed by then, or nobody wait on it
            self.sweep_at = clock.now() + max(outcome.again / 1000, SOONEST_SWEEP)
        for name in outcome.dead:
            self.relay.look_at(name, self.verbs(name))
        if outcome.dropped:
            self.routes.forget_all()
