"""A session on a Cluster: every queue is in a slot of its own, what queues share (exchanges, bindings) in another one.

No command and no script works across slots, not even for two slots of one node. So what is one step on one server is here

- a read that blocks: one for each queue, so each queue that is consumed has two connections of its own
  (`kombu_elkmq.rooms`). One that breaks is mended by itself, at whichever node owns the slot then, and the others go on;
- a publish by an exchange: the route's versions are looked at first, then each queue is given its copy, all nodes at once. A
  copy carries the message's unique id, so that a repetition adds nothing where it arrived before;
- declaring a queue that expires, and deleting one: in its own slot, and in that of what is shared. Who comes in between finds
  what is left by `queue_forget.lua` and the sweep.

docs/decisions/transport-on-a-cluster.md has the reasons.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from elkmq._core.call import Call, slot_key
from elkmq._core.entry import Outgoing as Event
from elkmq._core.routing import ClusterRouting, Swept
from elkmq._core.sending import ignore
from elkmq._core.verbs import Verbs, beat
from elkmq.errors import EventQueueError
from elkmq.keys import SharedKeys
from kombu_elkmq.relay import Relay
from kombu_elkmq.rooms import Pumps, Room
from kombu_elkmq.session import Session
from kombu_elkmq.shards import Shards
from kombu_elkmq.steps import WINDOW
from kombu_elkmq.wires import GOODBYE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu_elkmq.reader import Reader

log = logging.getLogger("kombu_elkmq")


class BesideRelay(Relay):
    """The relay on a thread: the node that a dead letter goes to may be away while all that are consumed are there."""

    def __init__(self, session: ClusterSession) -> None:
        super().__init__(session)
        self._working = threading.Lock()

    def run(self) -> None:
        """Relay what there is, beside the caller."""
        if self._waiting and self._working.acquire(blocking=False):
            threading.Thread(target=self._work, name="elkmq-relay", daemon=True).start()

    def finish(self) -> None:
        """Relay what there is before the caller goes on."""
        with self._working:
            super().finish()

    def _work(self) -> None:
        try:
            super().finish()
        finally:
            self._working.release()
            if self._waiting:
                self._session.wake()


class ClusterSession(Session):
    """See the module."""

    command: Shards
    routing: ClusterRouting

    def __init__(self, client: Any, endpoint: Any, options: Any) -> None:
        self.rooms: dict[str, Room] = {}
        self._by_key: dict[bytes, Room] = {}
        self._sweeping = threading.Lock()
        super().__init__(client, endpoint, options)
        self.pump = Pumps(self)
        self.relay = BesideRelay(self)

    def _commanding(self) -> Any:
        shared = SharedKeys(self.options.global_keyprefix, cluster=True).of("exchanges")
        return Shards(self.endpoint, retry_for=self.options.publish_timeout, any_key=shared)

    def _routing(self) -> ClusterRouting:
        return ClusterRouting(self.options.global_keyprefix, window=WINDOW)

    def forget_parent(self) -> None:
        """In a forked child: nothing here is the child's."""
        super().forget_parent()
        self.rooms.clear()
        self._by_key.clear()
        self._sweeping = threading.Lock()
        self.command.forget_parent()
        self.pump = Pumps(self)
        self.relay = BesideRelay(self)

    # -- rooms

    @property
    def unsent(self) -> bool:
        """There may always be something in one of the rooms."""
        return True

    def wires_of(self, queue: str) -> Room:
        """The connections over which a queue is consumed."""
        room = self.rooms.get(queue)
        if room is None:
            with self._lock:
                room = self.rooms.get(queue)
                if room is None:
                    if self._pipe is None:
                        self._open_pipe()
                    key = self.routing.queue(queue).lane(0)
                    room = self.rooms[queue] = self._by_key[key] = Room(self, key)
        return room

    def reader(self, queue: str) -> Reader:
        """The reader of a queue, registered; made where there is none."""
        try:
            found = super().reader(queue)
        except BaseException:
            if queue not in self.readers:
                self._close_room(queue)
            raise
        self.rooms[queue].readers[queue] = found
        return found

    def release(self, reader: Reader) -> None:
        """Hand back what a reader holds, unregister it, and hang up its connections."""
        try:
            super().release(reader)
        finally:
            self._close_room(reader.queue)

    def _close_room(self, queue: str) -> None:
        room = self.rooms.pop(queue, None)
        if room is not None:
            self._by_key = {key: other for key, other in self._by_key.items() if other is not room}
            room.close()

    @property
    def consumes(self) -> bool:
        """Whether there are connections for consuming."""
        return bool(self.rooms)

    def post(
        self, call: Call[Any], done: Callable[[Any], None] | None = None, *, hurry: bool = True, gather: bool = False
    ) -> None:
        """Send a call of a consumer; nobody waits for its answer."""
        room = self._by_key.get(slot_key(call) or b"")
        if room is not None:
            room.post(call, done, hurry=hurry, gather=gather)
            return
        try:
            outcome = self.command.run(call)
        except EventQueueError as error:
            outcome = error
        (done or ignore)(outcome)

    def push(self) -> None:
        """Send what was gathered."""
        for room in list(self.rooms.values()):
            room.push()

    def watched(self) -> dict[int, Any]:
        """What to watch while waiting."""
        found = super().watched()
        for room in list(self.rooms.values()):
            found.update(room.watched())
        return found

    def read(self, fd: int) -> None:
        """A watched descriptor can be read: read what there is."""
        super().read(fd)
        for room in list(self.rooms.values()):
            room.read(fd)

    def hang_up_wires(self) -> None:
        """Close everything."""
        for queue in list(self.rooms):
            self._close_room(queue)
        super().hang_up_wires()

    def _leave(self) -> None:
        self.command.give_up_after(GOODBYE)
        self.deliveries.flush()
        for reader in list(self.readers.values()):
            room = self.rooms.get(reader.queue)
            try:
                if room is not None:
                    room.be_quick()
                    if room.taker is not None and not room.pump.mending:
                        room.taker.flush()
                self.release(reader)
            except EventQueueError as error:
                log.warning("could not say goodbye to %s, which is noticed within the lease: %s", reader.queue, error)
        self.relay.finish()
        for queue in self.exclusive:
            self._delete(queue, tombstone=True)

    # -- what takes several steps

    def spread(
        self,
        queues: Sequence[str],
        versions: Sequence[tuple[str, str]],
        events: Sequence[tuple[int, Event]],
        window: int | None = None,
    ) -> list[bytes] | None:
        """Publish: see to the versions, then give each queue its copies. Where one fails others may have theirs."""
        if versions and not self.hold(versions):
            return None
        of_queue: dict[int, list[int]] = {}
        for position, (index, _) in enumerate(events):
            of_queue.setdefault(index, []).append(position)
        found = self.run_all([
            self.routing.enqueue(queues[index], [events[position][1] for position in positions], window=window)
            for index, positions in of_queue.items()
        ])  # fmt: skip
        receipts = [b""] * len(events)
        for positions, of_one in zip(of_queue.values(), found, strict=True):
            for position, receipt in zip(positions, of_one, strict=True):
                receipts[position] = receipt
        return receipts

    def _renew(self, consumers: list[tuple[Verbs, str, int]]) -> list[int]:
        return [left for (left,) in self.run_all([beat([one]) for one in consumers])]

    def expect_queue(self, queue: str, expires: int | None) -> None:
        """Have the sweep look at a queue that expires, before it is there: so it is never there unknown."""
        if expires is not None:
            self.run(self.routing.expires(queue, expires))

    def declared_queue(self, queue: str, settings: Mapping[str, str]) -> None:
        """Have the sweep send on what dies in it."""
        if "dead_letter_exchange" in settings:
            self.run(self.routing.unattended(queue))

    def delete_queue(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False, tombstone: bool = False
    ) -> int:
        """Delete a queue, then its bindings, unless it is declared anew in between."""
        self.usable()
        return self._delete(queue, if_unused=if_unused, if_empty=if_empty, tombstone=tombstone)

    def _delete(self, queue: str, **how: bool) -> int:
        seen = self.command.run(self.routing.expiring_at(queue))
        held = self.command.run(self._delete_call(queue, **how))
        if held >= 0:
            self.command.run(self.routing.queue_forget(queue, seen))
        return held

    # -- queues that nobody consumes

    def _sweep(self) -> None:
        """On a thread: it takes a few round trips, and one node that is away must not hold the others' messages up."""
        if self._sweeping.acquire(blocking=False):
            threading.Thread(target=self._sweep_all, name="elkmq-sweep", daemon=True).start()

    def _sweep_all(self) -> None:
        try:
            self._swept(self._look_at_all())
        except EventQueueError as error:
            if not self.closed:
                self._swept(error)
        finally:
            self._sweeping.release()

    def _look_at_all(self) -> Swept:
        run, routing = self.command.run, self.routing
        due = run(routing.sweep_due())
        dropped, dead, again = [], [], 0 if len(due.expiring) == 10 else -1
        for name in {**due.expiring, **dict.fromkeys(due.unattended)}:
            unused = name in due.expiring
            try:
                found = run(routing.sweep_queue(name, unused=unused, expired=name in due.unattended))
                if found.gone:
                    if run(routing.queue_forget(name, due.expiring[name])):
                        dropped.append(name)
                    continue
                if unused:
                    run(routing.expires(name, found.unused) if found.unused >= 0 else routing.stays(name))
                if found.expired >= 0:
                    again = min(found.expired, again if again >= 0 else found.expired)
                elif name in due.unattended:
                    run(routing.unattended(name, there=False))
            except EventQueueError as error:
                log.warning(
                    "the queue %s, which nobody consumes, was not seen to, that is tried again: %s", name, error
                )
                continue
            if found.outbox:
                dead.append(name)
        return Swept(dropped, dead, again)
