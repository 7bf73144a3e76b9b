"""One queue as a session reads it: what it was handed, what it may still take, whether its lease holds. No I/O.

A reader is registered at the server under its session's consumer name; `elkmq._heart` renews its lease on a thread of
its own and tells it here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.entry import Entry, Opened, Taken, Tended, number
from elkmq._core.entry import settings as read_settings
from elkmq._core.verbs import Delivered, Verbs
from kombu_elkmq.batches import Batches
from kombu_elkmq.handover import HERE, SETTINGS, Unread

if TYPE_CHECKING:
    from kombu_elkmq.channel import Channel
    from kombu_elkmq.session import Session


READ_BEFORE = 1000
"""Messages of a queue that are remembered, so that one published again is known."""

AGAIN = 10_000
"""Milliseconds within which it is."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A consumer of Kombu."""

    channel: Channel
    tag: str
    no_ack: bool
    callback: Callable[[Any], object]


class Reader:
    """See the module."""

    def __init__(self, session: Session, queue: str, verbs: Verbs, lease: float) -> None:
        self.session = session
        self.queue = queue
        self.verbs = verbs
        self.lease = lease
        self.subscriptions: list[Subscription] = []
        self.buffer: deque[Entry] = deque()
        self.loaded = False
        """Whether its session knows that there is something in the buffer."""
        self.known: set[Delivered] = set()
        """Handed to us and not settled: in the buffer or with the application."""
        self.settling: set[Delivered] = set()
        """Settled here, while the server has not said so yet: still pending there perhaps, and never to be started again."""
        self.recovered: set[Delivered] = set()
        """Had from a recovery while a blocking read was under way, whose reply may bring them once more."""
        self.settled: list[Delivered] = []
        """To be acknowledged with the next flush."""
        self.hungry = True
        """There may be entries at the server."""
        self.taking = 0
        """How many were asked for by a take that was not answered yet."""
        self.blocked = False
        """Part of the blocking read that is under way."""
        self.took = float("-inf")
        """When it was last asked for entries."""
        self.woken = float("-inf")
        """When the blocking read last brought something."""
        self.state = ""
        self.lanes: tuple[bytes, ...] = (b"r", b"0")
        self.keep = self.plain = False
        """Plain: whether to read its lanes is as good as a take, as far as is known: see docs/decisions/reading-lanes.md."""
        self.batches = Batches()
        self.token = b""
        self.not_before = 0.0
        self.ttl: int | None = None
        self.relays = self.brief = False
        """Relays: its dead letters go on to an exchange. Brief: its messages are over before a lease is that was confirmed when they were handed out, and leave no trace then."""
        self.auto_delete = self.own = False
        """Own: its messages need not pass the server where this process publishes them: see `kombu_elkmq.handover`."""
        self.unread = Unread()
        self._read_before: dict[bytes, int] = {}
        """Unique ids of what was handed to consumers -> when it was sent, where nothing else tells a repetition."""
        self.alone = False
        """Its consumer is exclusive."""
        self.confirmed = self.server_ahead = float("-inf")
        self.registered = self.lost = False
        self.settings: bytes | None = None
        """As text."""
        self._tended = False
        """Whether the chores were done, and nothing came since."""

    # -- for the heart, on its thread

    @property
    def consumer(self) -> str | None:
        """Its name at the server."""
        return self.session.name if self.registered else None

    @property
    def quiet(self) -> bool:
        """Whether its queue needs no chores as far as it knows: nothing came since the last ones, which would be counted. What comes to
        a reader's own queue, as events do, need not be.
        """
        return (self._tended or self.auto_delete) and not (self.hungry or self.known)

    def heard(self, sent: float) -> None:
        """The lease holds."""
        self.confirmed = max(self.confirmed, sent)

    def tended(self, reply: Tended) -> None:
        """The chores were done."""
        self._tended = True
        self.learn(reply.settings)
        if reply.outbox and self.relays:
            self.session.relay.look(self)

    def gone(self, consumer: str) -> None:
        """The lease is over: whatever it held is others' now."""
        if consumer == self.session.name:
            self.lose()
            self.session.wake()

    def lose(self) -> None:
        """Note that the lease is over, so that the session's next check tells."""
        self.lost = self.session.any_lost = True

    # -- for the session

    def opened(self, reply: Opened, sent: float) -> None:
        """Registered, by a request that was sent at ``sent``."""
        self.registered = True
        self.confirmed = sent
        self.server_ahead = reply.now - clock.now() * 1000
        self.plain = reply.plain
        self.learn(reply.settings)

    def learn(self, text: bytes | None) -> None:
        """Note what the queue is set to do."""
        self.settings = text
        self.note(read_settings(text))

    def note(self, found: Mapping[str, str]) -> None:
        """The same of settings that were read."""
        self.ttl = number(found.get("ttl", "").encode(), 0) or None
        self.relays = "dead_letter_exchange" in found
        self.brief = (
            self.ttl is not None
            and self.ttl < self.lease * 1000 / 3
            and not any(name in found for name in ("dead_letter_exchange", "dead_letter_expired"))
        )
        self.auto_delete = "auto_delete" in found
        before, self.own = self.own, self.auto_delete and self.brief and found.keys() <= SETTINGS
        self.plain = self.plain and (self.own or not found)
        if self.own and not before:
            self.unread = Unread()

    def taken(self, reply: Taken, asked: int) -> None:
        """A take's reply."""
        self.server_ahead = max(self.server_ahead, reply.now - clock.now() * 1000)
        self.state, self.lanes, self.keep = reply.state, reply.lanes, reply.keep
        if reply.outbox and self.relays:
            self.session.relay.look(self)
        self.put(reply.entries)
        # Of what came back there may be more, where nothing else was found: a read would bring of the others as well.
        as_good = reply.plain or (reply.only_set and self.own)  # none of an own queue's settings is about what is read
        self.plain = as_good and not (reply.entries and reply.entries[-1].lane == b"r")
        self.hungry = len(reply.entries) >= asked or (not reply.entries and reply.next_event == 0)

    def was_read(self, entries: list[Entry], asked: int) -> None:
        """What a plain read brought, up to ``asked`` of each lane."""
        self.hungry = len(entries) >= asked
        tokens = [entry for entry in entries if entry.lane == b"w"]
        if tokens:
            entries = [entry for entry in entries if entry.lane != b"w"]
            self.told(tokens[0].id)
        self.look_at(entries)
        self.put(entries)
        self.hungry = self.hungry or not self.plain

    def told(self, token: bytes) -> None:
        """A wake token came: something changed, which a take tells."""
        self.token, self.state, self.plain, self.hungry = token, "", False, True
        self.relays = True  # perhaps, by now: the next chores tell

    def look_at(self, entries: list[Entry]) -> None:
        """What entries that were read say of the others: where one came back, a take brings all such before anything else; a
        client of elk-mq 0.1 leaves more to tidy up.
        """
        if self.plain:
            self.plain = all(entry.lane == b"0" and b"v" in entry.fields for entry in entries)

    def put(self, entries: list[Entry]) -> None:
        """Buffer what was handed out; what came before, in another reply, is not put twice."""
        if entries:
            self._tended = False
            self.session.deliveries.handed.take_in()  # what was handed over before these were sent
        for entry in entries:
            delivered = (entry.lane, entry.id)
            if delivered not in self.known and delivered not in self.settling:
                self.known.add(delivered)
                self.buffer.append(entry)
        self._load()
        for entry in reversed(entries):
            if entry.lane == b"0":
                self.unread.read = entry.id
                break

    def hold(self, entry: Entry) -> None:
        """Buffer what was handed over. Where its last consumer went meanwhile, the queue goes too, and what is in it."""
        if self.subscriptions and not self.lost:
            self.buffer.append(entry)
            self._load()

    def put_back(self, entry: Entry) -> None:
        """An entry was taken from the buffer and not delivered."""
        self.buffer.appendleft(entry)
        self._load()

    def _load(self) -> None:
        if self.buffer and not self.loaded:
            self.loaded = True
            self.session.deliveries.loaded(self)

    def recover(self, entries: list[Entry]) -> None:
        """Buffer what the server says is ours, as far as it was never seen."""
        if self.blocked:
            self.recovered.update((entry.lane, entry.id) for entry in entries)
        self.put(entries)

    def block(self) -> None:
        """A blocking read begins."""
        self.blocked = True
        self.recovered.clear()

    def read(self, entries: list[Entry]) -> None:
        """Buffer what a blocking read brought."""
        self.look_at(entries)
        self.put([entry for entry in entries if (entry.lane, entry.id) not in self.recovered])

    def name_of(self, delivered: Delivered) -> list[str | int]:
        """A delivery, for a process that has no session: see `kombu_elkmq.events.DELIVERY`."""
        lane, id_ = delivered
        return [self.queue, self.session.name, lane.decode(), id_.decode(), int(self.keep)]

    def repeated(self, entry: Entry) -> bool:
        """Whether a consumer was given the same message before, in an entry of its own: it was published again since the answer was
        lost, to a queue where no mark tells (lua/include/accept.lua).
        """
        unique = entry.fields.get(b"unique")
        if unique is None or not self.auto_delete or entry.lane == b"r":  # what came back is no repetition
            return False
        before = self._read_before.get(unique)
        if before is not None and entry.timestamp - before < AGAIN:
            return True
        if len(self._read_before) >= READ_BEFORE:
            del self._read_before[next(iter(self._read_before))]
        self._read_before[unique] = entry.timestamp
        return False

    def expired(self, entry: Entry) -> bool:
        """Whether an entry's time to live is over."""
        deadline = entry.deadline()
        if self.ttl is not None:
            of_queue = entry.ready + self.ttl
            deadline = of_queue if deadline is None else min(deadline, of_queue)
        return deadline is not None and deadline <= clock.now() * 1000 + self.server_ahead

    def room(self) -> int:
        """How many entries more its consumers may be given, as far as prefetch goes; what is buffered not taken off."""
        if len(self.subscriptions) == 1:  # asked for several times a message
            return self.subscriptions[0].channel.room()
        if not self.subscriptions:
            return 0
        channels = {subscription.channel for subscription in self.subscriptions}
        return max(channel.room() for channel in channels) if len(channels) == 1 else sum(c.room() for c in channels)

    def surplus(self) -> list[Delivered]:
        """Take out of the buffer what is beyond the prefetch, to be handed back in the order in which it came."""
        found: deque[Delivered] = deque()
        while len(self.buffer) > max(0, self.room()) and self.buffer[-1].lane != HERE:
            entry = self.buffer.pop()
            found.appendleft((entry.lane, entry.id))
        return list(found)

    def most(self) -> int:
        """The same when its consumers have nothing."""
        if len(self.subscriptions) == 1:  # asked for with each message
            return self.subscriptions[0].channel.qos.prefetch_count
        return max((subscription.channel.qos.prefetch_count for subscription in self.subscriptions), default=0)

    def choose(self) -> Subscription | None:
        """Who gets the next entry: each in turn, as long as its channel has room."""
        for position, subscription in enumerate(self.subscriptions):
            if subscription.channel.room() > 0:
                if position or len(self.subscriptions) > 1:
                    self.subscriptions.append(self.subscriptions.pop(position))
                return subscription
        return None

    def settle(self, delivered: Delivered) -> None:
        """Done with it here; the server is told next. From any thread."""
        self.settling.add(delivered)  # first: at no time is it in neither
        self.known.discard(delivered)

    def answered(self, delivered: Iterable[Delivered]) -> None:
        """The server said that they are not ours any more."""
        self.settling.difference_update(delivered)

    def seen(self) -> list[Delivered]:
        """Everything that is ours at the server, as far as is known here. From any thread."""
        known = self.known.copy()  # before the other: what moves meanwhile is in both
        return [*known, *self.settling.copy()]
