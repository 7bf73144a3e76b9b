"""Heartbeats: one thread per process and server renews the leases of all consumers, whoever runs them.

It is a thread even for asyncio and for Celery's event loop, so that a handler that blocks the loop for minutes keeps its
lease; and it has a connection of its own, so that no blocking read is in its way. After a fork the child has no consumers:
those of the parent go on there.

The thread also sees to the queues' chores (tend.lua), when an entry is due or a lease ends, so that delays are kept and
deliveries of the dead come back without anybody polling, however busy the consumers are.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from elkmq._core.call import Call
from elkmq._core.chores import BEATS, Chores
from elkmq._core.clock import now
from elkmq._core.entry import Tended
from elkmq._core.verbs import Verbs, beat, left_over, settings_of
from elkmq._endpoint import Endpoint
from elkmq._sync.link import Channel
from elkmq.errors import EventQueueError, FormatTooNew, LeaseLost, ServerConnectionError

log = logging.getLogger("elkmq")

PATIENCE = 1 / 6
"""Of the shortest lease: how long a heartbeat's answer, or connecting, may take before another connection is tried. Two thirds
of a lease are left when a connection goes mute at the worst moment: half a lease for the outage, and this to notice its end."""

LEAST_PATIENCE = 1.0
"""Seconds of it at least, and twice as many after each that were not enough: a busy machine takes that long for nothing."""

QUEUES_PER_BEAT = 100
"""Bounds how long one script runs."""

LONGEST_SLEEP = 60.0
"""Seconds after which the thread looks whether there is anybody left."""

JITTER = 0.03
"""Seconds by which the processes that wait for the same moment come apart at most; delays are kept to within 0.1 s."""


class Member(Protocol):
    """A consumer as the heart sees it. All methods are called on the heart's thread and return at once."""

    verbs: Verbs
    lease: float

    @property
    def quiet(self) -> bool:
        """Whether its queue needs no chores as far as it knows: nothing came since the last ones, and it waits for more."""

    @property
    def settings(self) -> bytes | None:
        """The text of its queue's settings, as far as it knows."""

    @property
    def consumer(self) -> str | None:
        """Its name at the server; None while it is not registered, "" for one that does chores only."""

    def heard(self, sent: float) -> None:
        """A heartbeat that was sent at ``sent`` (`elkmq._core.clock`) was answered: the lease holds."""

    def tended(self, reply: Tended) -> None:
        """The chores were done."""

    def gone(self, consumer: str) -> None:
        """The server does not know it any more."""


class Work(NamedTuple):
    """What the heart has to do now."""

    everyone: list[Member]
    beating: bool
    tending: list[Member]
    """Whose chores are due."""
    looking: list[Member]
    """Where it is enough to look whether there are any."""


class Heart:
    """The heartbeats of one process for one server (on a Cluster: for one queue's slot).

    All consumers' leases are renewed by one call (beat.lua). The chores (tend.lua) are done when something is due, and as
    `elkmq._core.chores` has it.
    """

    def __init__(self, endpoint: Endpoint, slot_key: bytes | None) -> None:
        self._endpoint = endpoint
        self._slot_key = slot_key
        self._changed = threading.Condition()
        self._beat_at = 0.0
        # Weak: who drops a consumer without closing it loses the lease, and what it held comes back.
        self._members: weakref.WeakKeyDictionary[Member, Chores] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._unanswered: float | None = None
        """Since when no heartbeat was answered; None: the last one was."""
        self._failures = 0
        """How many went unanswered since then."""
        self._failing: set[str] = set()
        """What was logged as failing: consumers whose chores do, '' for the heartbeats."""

    def add(self, member: Member) -> None:
        """Beat for a consumer, which just registered, from now on."""
        with self._changed:
            at = now()
            self._beat_at = (
                min(self._beat_at, at + member.lease / BEATS) if self._members else at + member.lease / BEATS
            )
            self._members[member] = Chores(at + member.lease / BEATS)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="elkmq-heart", daemon=True)
                self._thread.start()
            self._changed.notify()

    def sooner(self, member: Member, seconds: float) -> None:
        """Do its queue's chores in so many seconds, if not before: an entry is due then, or a lease ends."""
        at = now() + seconds + random.uniform(0, JITTER)  # noqa: S311 - not for secrets
        # Of a lease that ends later a heartbeat tells first; of an entry that is due later, a look.
        known = seconds < member.lease / BEATS
        with self._changed:
            if member in self._members and self._members[member].sooner(at, known=known):
                self._changed.notify()

    def alone(self, member: Member) -> float:
        """When a heartbeat was sent that found no other consumer at its queue; -inf where the last one that looked, once a lease at
        least, found one.
        """
        return self._chores(member).alone

    def remove(self, member: Member) -> None:
        """Beat for it no more."""
        with self._changed:
            self._members.pop(member, None)
            self._changed.notify()

    def _run(self) -> None:
        channel, patience = None, 0.0
        try:
            while work := self._due():
                if channel is None or patience != self._patience(work.everyone):
                    if channel is not None:
                        channel.close()
                    patience = self._patience(work.everyone)
                    # A heartbeat that could not be sent for longer than a beat is worth no more than the next one.
                    channel = Channel(self._endpoint.hurried(patience), slot_key=self._slot_key, retry_for=1.0)
                try:
                    if work.beating:
                        self._beat(channel, work.everyone)
                    if tending := work.tending + self._look(channel, work.looking):
                        self._tend(channel, tending)
                except Exception:
                    log.exception("a heartbeat failed; the next one is in a moment")
                    self._sooner_beat(1.0)
                # The members must be able to go while this thread waits.
                del work, tending
        finally:
            if channel is not None:
                channel.close()

    def _patience(self, members: list[Member]) -> float:
        """Seconds for an answer: few, as long as leases can be saved by it; then what the connection's options say."""
        shortest = min(member.lease for member in members)
        if self._unanswered is not None and now() - self._unanswered > shortest:
            return self._endpoint.options.socket_timeout
        least = LEAST_PATIENCE * (1 << min(self._failures, 10))
        return min(self._endpoint.options.socket_timeout, max(least, shortest * PATIENCE))

    def _due(self) -> Work | None:
        """Wait until there is something to do; None: nobody is left."""
        with self._changed:
            while members := list(self._members.items()):
                wait = min(self._beat_at, *(chores.at for _, chores in members)) - now()
                if wait <= 0:
                    break
                del members
                self._changed.wait(min(wait, LONGEST_SLEEP))
            else:
                # The last one went: thread and connection go too, a new member brings new ones.
                self._thread = None
                return None
            at = now()
            beating = at >= self._beat_at
            everyone = [member for member, _ in members]
            if beating:
                self._beat_at = at + min(m.lease for m in everyone) / BEATS
            tending: list[Member] = []
            looking: list[Member] = []
            for member, chores in members:
                if chores.at <= at:
                    enough = chores.begin(at, member.lease, quiet=member.quiet)
                    (looking if enough else tending).append(member)
            if looking:
                # One look is for many: whose next one is not far takes part, and their looks go together from then on.
                for member, chores in members:
                    soon = at < chores.at <= at + member.lease / 2
                    if soon and member not in looking and chores.enough(quiet=member.quiet):
                        chores.begin(at, member.lease, quiet=True)
                        looking.append(member)
            return Work(everyone, beating, tending, looking)

    def _sooner_beat(self, seconds: float) -> None:
        with self._changed:
            self._beat_at = min(self._beat_at, now() + seconds)

    def _beat(self, channel: Channel, members: list[Member]) -> None:
        named = [(m, name) for m in members if (name := m.consumer)]
        parts = [named[start : start + QUEUES_PER_BEAT] for start in range(0, len(named), QUEUES_PER_BEAT)]
        while parts:
            part = parts.pop(0)
            chores = [self._chores(member) for member, _ in part]
            watch = [each.watch() for each in chores]
            sent = now()
            try:
                replies = channel.run(beat([(m.verbs, name, round(m.lease * 1000)) for m, name in part], watch))
            except EventQueueError as error:
                if len(part) > 1 and not isinstance(error, ServerConnectionError):
                    parts += [[one] for one in part]  # one queue's trouble is not the others'
                    continue
                self._unanswered = self._unanswered or sent
                self._failures += 1
                self._fails("", f"no heartbeat to {self._endpoint.describe()}, which is tried on and on", error)
                self._sooner_beat(0.5)
                continue
            self._unanswered, self._failures = None, 0
            self._works("", f"the heartbeats to {self._endpoint.describe()} go on")
            for (member, name), left, each, watched in zip(part, replies, chores, watch, strict=True):
                if left < 0:
                    _tell(member.gone, name)
                    continue
                each.beaten(sent, watched=watched, alone=left >= round(member.lease * 1000))
                _tell(member.heard, sent)
                # Others' leases ran out, or will before anybody else has a reason to look.
                if left < member.lease * 1000 / BEATS:
                    self.sooner(member, left / 1000)

    def _chores(self, member: Member) -> Chores:
        with self._changed:
            return self._members.get(member) or Chores(0.0)

    def _look(self, channel: Channel, members: list[Member]) -> list[Member]:
        """Which queues, of those where nothing happened, need their chores all the same."""
        found: list[Member] = []
        for start in range(0, len(members), QUEUES_PER_BEAT):
            part = members[start : start + QUEUES_PER_BEAT]
            queues = [member.verbs for member in part]
            calls: list[Call[Any]] = [left_over(queues), settings_of(queues)]
            left, texts = channel.run_many(calls)
            if left != 0 or isinstance(texts, EventQueueError):
                found += part  # of whatever is wrong there the chores tell more
            else:
                found += [member for member, text in zip(part, texts, strict=True) if text != member.settings]
        return found

    def _fails(self, what: str, text: str, error: EventQueueError) -> None:
        """Say it once, not at every attempt."""
        log.log(logging.DEBUG if what in self._failing else logging.WARNING, "%s: %s", text, error)
        self._failing.add(what)

    def _works(self, what: str, text: str) -> None:
        if what in self._failing:
            self._failing.discard(what)
            log.warning("%s", text)

    def _tend(self, channel: Channel, members: list[Member]) -> None:
        named = [(m, name) for m in members if (name := m.consumer) is not None]
        sent = now()
        replies = channel.run_many([m.verbs.tend(name, round(m.lease * 1000), chores=True) for m, name in named])
        for (member, name), reply in zip(named, replies, strict=True):
            if isinstance(reply, LeaseLost):
                _tell(member.gone, name)
            elif isinstance(reply, EventQueueError):
                down = isinstance(reply, ServerConnectionError)
                self._fails("" if down else name, f"the chores of {name} failed, they are tried again", reply)
                if not isinstance(reply, FormatTooNew):
                    self.sooner(member, 1.0)
            else:
                self._works(name, f"the chores of {name} are done again")
                _tell(member.heard, sent)
                _tell(member.tended, reply)
                self._chores(member).done(taken_over=reply.taken_over > 0)
                if reply.more:
                    self.sooner(member, 0.0)
                elif 0 <= reply.next_event < member.lease * 1000:
                    self.sooner(member, reply.next_event / 1000)


def _tell(callback: Callable[..., None], *args: object) -> None:
    try:
        callback(*args)
    except Exception:
        log.exception("a consumer's heartbeat callback failed; the heartbeats go on")


_hearts: dict[object, Heart] = {}
_lock = threading.Lock()


def heart(endpoint: Endpoint, slot_key: bytes) -> Heart:
    """The heart of this process for a server; on a Cluster, for a queue."""
    key = (endpoint.key, slot_key if endpoint.cluster else None)
    with _lock:
        if key not in _hearts:
            _hearts[key] = Heart(endpoint, slot_key if endpoint.cluster else None)
        return _hearts[key]


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - the heart's thread, which is not here, may have held it
    _lock = threading.Lock()
    _hearts.clear()


os.register_at_fork(after_in_child=_in_child)
