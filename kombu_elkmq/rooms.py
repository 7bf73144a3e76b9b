"""The rooms of a session on a Cluster: one for each queue that is consumed, with connections of its own."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.verbs import Delivered
from elkmq.errors import EventQueueError
from kombu_elkmq.pump import Pump
from kombu_elkmq.takes import Takes
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
    """The pumps of all rooms as one."""

    takes: RoomTakes

    def __init__(self, session: ClusterSession) -> None:
        super().__init__(session)
        self._rooms = session.rooms
        self.takes = RoomTakes(session)

    @property
    def mending(self) -> bool:
        """Whether one of the connections is being mended."""
        return any(pump.mending for pump in self._all())

    @property
    def acks_wait(self) -> bool:
        """No: those of a room that is being mended wait there."""
        return False

    @property
    def put_off(self) -> float:
        """When a take, or the next blocking read of a room, is due that was put off."""
        return min(self.takes.put_off, *(pump.put_off for pump in self._all()), math.inf)

    def _all(self) -> list[Pump]:
        return [room.pump for room in list(self._rooms.values())]

    def stop(self, patience: float = 0.0) -> None:
        """The session ends."""
        until = clock.now() + patience
        for pump in self._all():
            pump.stop(max(0.0, until - clock.now()))

    def settle_down(self) -> None:
        """Read replies only, of a session that takes no more."""
        for pump in self._all():
            pump.settle_down()

    def next_look(self) -> float:
        """Seconds after which `run` is to be called again though nothing could be read."""
        return min(super().next_look(), *(pump.next_look() for pump in self._all()), math.inf)

    def run(self, *, read: bool = True) -> None:
        """Do what can be done now."""
        session, pumps = self._session, self._all()
        self.forget_put_off()
        for pump in pumps:
            pump.forget_put_off()
        pumps = [pump for pump in pumps if pump.look(read=read)]
        session.check()
        session.deliveries.flush()
        now = clock.now()
        pumps = [pump for pump in pumps if pump.recovered(now)]
        self.takes.ready = set(pumps)
        self.takes.feed(now)
        session.push_uncorked()
        for pump in pumps:
            pump.blocking.begin()

    def let_go(self, reader: Reader) -> None:
        """End the blocking read of a reader which is about to leave."""
        if (room := self._rooms.get(reader.queue)) is not None:
            room.pump.let_go(reader)


class RoomTakes(Takes):
    """Takes of the queues of all rooms: what the prefetch of a channel allows is shared out among them."""

    def __init__(self, session: ClusterSession) -> None:
        super().__init__(session)
        self._rooms = session.rooms
        self.ready: set[Pump] = set()
        """The pumps of the rooms that could be asked at the last look."""

    def _may_take(self, reader: Reader, now: float) -> bool:
        room = self._rooms.get(reader.queue)
        return room is not None and room.pump.steady and room.pump in self.ready and super()._may_take(reader, now)

    def take(self, readers: Sequence[Reader], n: int) -> None:
        """Ask each for up to n entries."""
        for reader in readers:
            self._rooms[reader.queue].pump.takes.take([reader], n)
