"""The rooms of a session on a Cluster: one for each queue that is consumed, with connections of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.verbs import Delivered
from elkmq.errors import EventQueueError
from kombu_elkmq.pump import Pump
from kombu_elkmq.wires import Wires

if TYPE_CHECKING:
    from kombu_elkmq.cluster import ClusterSession
    from kombu_elkmq.delivery import Deliveries
    from kombu_elkmq.reader import Reader


class Room(Wires):
    """One queue's connections and what keeps its entries coming, which takes the room for its session."""

    def __init__(self, session: ClusterSession, slot_key: bytes) -> None:
        self.session = session
        super().__init__(session.endpoint, session.options)
        self.slot_key = slot_key
        self.name = session.name
        self.readers: dict[str, Reader] = {}
        self.pump = Pump(self)  # type: ignore[arg-type]

    def _commanding(self) -> Any:
        return self.session.command

    def _open_pipe(self) -> None:
        """The session has one."""

    def _reconnected(self, _: Any) -> None:
        self.pump.reconnected()

    def _mending(self) -> bool:
        return self.pump.mending

    def push_uncorked(self) -> None:
        """Send what was gathered, unless this thread does so later."""
        if self.session.corked_by != threading.get_ident():
            self.push()

    def close(self) -> None:
        """Hang up."""
        self.pump.stop()
        for link in (self.taker, self.waiter):
            if link is not None:
                link.close()

    # -- for the pump, the session's

    @property
    def deliveries(self) -> Deliveries:
        """Where what was handed out goes."""
        return self.session.deliveries

    @property
    def sweep_at(self) -> float:
        """When the session's chores are due."""
        return self.session.sweep_at

    def check(self) -> None:
        """Raise what ended the session."""
        self.session.check()

    def fail(self, error: EventQueueError) -> None:
        """The queue's node was away for longer than the lease: the session ends."""
        self.session.fail(error)

    def wake(self) -> None:
        """End the waiting of whoever waits for messages."""
        self.session.wake()

    def sooner(self, reader: Reader, seconds: float) -> None:
        """Have the heart see to the queue when something is due."""
        self.session.sooner(reader, seconds)

    def hand_back(self, reader: Reader, delivered: list[Delivered]) -> None:
        """Give back what no application has seen."""
        self.session.hand_back(reader, delivered)


class Pumps(Pump):
    """The pumps of all rooms as one. What the prefetch of a channel allows is shared out among all queues here."""

    def __init__(self, session: ClusterSession) -> None:
        super().__init__(session)
        self._rooms = session.rooms
        self._ready: set[Pump] = set()

    @property
    def mending(self) -> bool:
        """Whether one of the connections is being mended."""
        return any(room.pump.mending for room in self._all())

    @property
    def acks_wait(self) -> bool:
        """No: those of a room that is being mended wait there."""
        return False

    def _all(self) -> list[Room]:
        return list(self._rooms.values())

    def stop(self) -> None:
        """The session ends."""
        for room in self._all():
            room.pump.stop()

    def settle_down(self) -> None:
        """Read replies only, of a session that takes no more."""
        for room in self._all():
            room.pump.settle_down()

    def next_look(self) -> float:
        """Seconds after which `run` is to be called again though nothing could be read."""
        return min((room.pump.next_look() for room in self._all()), default=super().next_look())

    def run(self, *, read: bool = True) -> None:
        """Do what can be done now."""
        session = self._session
        self.put_off = float("inf")
        pumps = [room.pump for room in self._all() if room.pump.look(read=read)]
        session.check()
        session.deliveries.flush()
        now = clock.now()
        pumps = [pump for pump in pumps if pump.recovered(now)]
        self._ready = set(pumps)
        self._feed(now)
        session.push_uncorked()
        for pump in pumps:
            pump.maybe_block()

    def top_up(self, reader: Reader, now: float) -> None:
        """An entry left the buffer: perhaps it is time for the next take."""
        if self._rivals <= 1 and reader.hungry:
            self._maybe_take(reader, now)
            self._session.push_uncorked()

    def _may_take(self, reader: Reader, now: float) -> bool:
        room = self._rooms.get(reader.queue)
        return room is not None and room.pump.steady and room.pump in self._ready and super()._may_take(reader, now)

    def take(self, reader: Reader, n: int) -> None:
        """Ask for up to n entries."""
        self._rooms[reader.queue].pump.take(reader, n)

    def let_go(self, reader: Reader) -> None:
        """End the blocking read of a reader which is about to leave."""
        if (room := self._rooms.get(reader.queue)) is not None:
            room.pump.let_go(reader)
