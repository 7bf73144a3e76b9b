"""What a queue is, without a server: where each event is, who holds it, what was counted. The scripts must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

Key = tuple[bytes, bytes]
"""(lane, id) of a delivery, as the server named it."""


@dataclass(eq=False)
class Event:
    """``kind``: plain | mortal (its time to live is over at once) | request | original (of a client of elk-mq 0.1)."""

    body: bytes
    unique: str
    kind: str = "plain"
    priority: int = 0
    delay: bool = False
    failed: int = 0
    handed_out: int = 0
    due: bool = False
    returning: bool = False
    """Put off by a requeue: goes to the lane that is read first."""


@dataclass
class Held:
    """A delivery in flight."""

    event: Event
    owner: str
    started: bool = False


class Full(Exception):
    """The queue has no room."""


@dataclass
class Model:
    """The queue."""

    limit: int
    """Delivery limit."""
    max_length: int = 0
    drops: bool = False
    """What a full queue does: drop the oldest, or refuse."""
    paused: bool = False
    lanes: dict[bytes, list[Event]] = field(default_factory=lambda: {b"r": [], b"0": []})
    flight: dict[Key, Held] = field(default_factory=dict)
    delayed: list[Event] = field(default_factory=list)
    dead: list[Event] = field(default_factory=list)
    consumers: set[str] = field(default_factory=set)
    marks: dict[str, str] = field(default_factory=dict)
    """Unique id -> kind of the event that was accepted under it."""
    answered: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    # -- looks

    def order(self) -> list[bytes]:
        """Lanes in reading order."""
        priorities = sorted((int(lane) for lane in self.lanes if lane not in (b"r", b"0")), reverse=True)
        return [b"r", *(str(priority).encode() for priority in priorities), b"0"]

    def ready(self) -> int:
        return sum(map(len, self.lanes.values()))

    def outcome(self, consumer: str, key: Key) -> str:
        """Who asks, about a delivery that was once handed out."""
        if key in self.flight:
            return "mine" if self.flight[key].owner == consumer else "lost"
        return "done" if consumer in self.consumers else "lost"

    def of(self, consumer: str) -> list[Key]:
        """Deliveries of a consumer in the order in which the scripts go through them."""
        order = self.order()
        mine = [key for key, held in self.flight.items() if held.owner == consumer]
        return sorted(mine, key=lambda key: (order.index(key[0]), *map(int, key[1].split(b"-"))))

    # -- events in

    def accept(self, events: Iterable[Event]) -> list[bool]:
        """Returns for each whether it is answered as accepted before; raises Full, and then nothing changed."""
        events = list(events)
        fresh: list[Event] = []
        answers = []
        for event in events:
            known = event.unique in self.marks or any(other.unique == event.unique for other in fresh)
            # Who asks again joins its own request; within one batch the answer says that it was there before.
            answers.append(known and self.marks.get(event.unique) != "request")
            if not known:
                fresh.append(event)
        if (
            self.max_length
            and not self.drops
            and fresh
            and self.ready() + len(self.delayed) + len(fresh) > self.max_length
        ):
            raise Full
        for event in fresh:
            self.marks[event.unique] = event.kind
            self.counts["enqueued"] += 1
            self._add(event) if not event.delay else self.delayed.append(event)
        if self.max_length and self.drops and fresh:
            self._drop(self.ready() - self.max_length)
        return answers

    def original(self, event: Event) -> None:
        """A client of elk-mq 0.1 enqueues."""
        self.counts["enqueued"] += 1
        self._add(event)

    def _add(self, event: Event) -> None:
        lane = b"r" if event.returning else str(event.priority).encode()
        event.delay = event.returning = event.due = False
        self.lanes.setdefault(lane, []).append(event)

    def _drop(self, over: int) -> None:
        for lane in reversed(self.order()):
            while over > 0 and self.lanes[lane]:
                self.lanes[lane].pop(0)
                self.counts["dropped"] += 1
                over -= 1

    def make_due(self) -> None:
        for event in self.delayed:
            event.due = True

    def move_due(self) -> None:
        for event in [event for event in self.delayed if event.due]:
            self.delayed.remove(event)
            self._add(event)

    # -- handing out

    def read(self, n: int) -> list[tuple[bytes, Event]]:
        """What a take of n hands out; what has expired goes on the way."""
        self.move_due()
        found: list[tuple[bytes, Event]] = []
        for lane in self.order():
            while self.lanes[lane] and len(found) < n:
                event = self.lanes[lane].pop(0)
                if event.kind == "mortal":
                    self.counts["expired"] += 1
                else:
                    found.append((lane, event))
        return found

    def read_lanes(self, n: int) -> list[tuple[bytes, Event]]:
        """What a consumer reads by itself: up to n of each lane, expired or not."""
        found = [(lane, event) for lane in self.order() for event in self.lanes[lane][:n]]
        for lane, event in found:
            self.lanes[lane].remove(event)
        return found

    def hold(self, consumer: str, key: Key, event: Event) -> None:
        assert key not in self.flight
        self.flight[key] = Held(event, consumer)

    # -- what becomes of a delivery

    def complete(self, key: Key) -> None:
        del self.flight[key]
        self.counts["completed"] += 1

    def send_back(self, key: Key, *, failed: int, seen: int, delay: bool = False, limited: bool = True) -> str:
        event = self.flight.pop(key).event
        event.failed += failed
        event.handed_out += seen
        if limited and failed and event.failed > self.limit:
            self._bury(event, key)
            return "dead"
        event.returning = True
        if key[0] not in (b"r", b"0"):
            event.priority = int(key[0])
        self.counts["requeued"] += 1
        if delay:
            event.delay = True
            self.delayed.append(event)
        else:
            self._add(event)
        return "requeued"

    def reject(self, key: Key, *, expired: bool) -> None:
        event = self.flight.pop(key).event
        event.handed_out += 1
        if expired:
            self.counts["expired"] += 1
        else:
            self._bury(event, key)

    def _bury(self, event: Event, key: Key) -> None:
        if key[0] not in (b"r", b"0"):
            event.priority = int(key[0])
        self.dead.append(event)
        self.counts["dead_lettered"] += 1

    def take_over(self, consumer: str) -> int:
        keys = self.of(consumer)
        for key in keys:
            held = self.flight[key]
            self.send_back(key, failed=int(held.started or not held.event.failed), seen=1)
        self.consumers.discard(consumer)
        return len(keys)

    def leave(self, consumer: str) -> None:
        for key in self.of(consumer):
            self.send_back(key, failed=0, seen=int(self.flight[key].started), limited=False)
        self.consumers.discard(consumer)

    # -- the rest

    def purge(self, *, delayed: bool) -> int:
        removed = self.ready()
        for lane in self.lanes.values():
            lane.clear()
        if delayed:
            removed += len(self.delayed)
            self.delayed.clear()
        self.counts["purged"] += removed
        return removed

    def revive(self, event: Event) -> None:
        self.dead.remove(event)
        event.failed = event.handed_out = 0
        if event.kind in ("request", "mortal"):  # what it was asked with is over
            event.kind = "plain"
        self.counts["revived"] += 1
        self._add(event)

    def answer(self, event: Event) -> str:
        """The response to a delivery."""
        if event.kind not in ("request", "original"):
            return "nobody"
        self.answered.add(event.unique)
        return "sent"

    def adds_up(self) -> bool:
        gone = sum(self.counts[name] for name in ("completed", "expired", "dead_lettered", "dropped", "purged"))
        there = self.ready() + len(self.flight) + len(self.delayed)
        return self.counts["enqueued"] + self.counts["revived"] == there + gone
