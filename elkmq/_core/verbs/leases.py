"""A consumer's life: its lease, and what it does with the deliveries under it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from elkmq._core import entry as read
from elkmq._core.call import HOLE, Arg, Call, Form, Prepared, command, encoded
from elkmq._core.entry import Completed, Entry, Opened, Outgoing, Taken, Tended
from elkmq._core.verbs.bound import Bound, OfQueue
from elkmq.keys import GROUP, QueueKeys

Delivered = tuple[bytes, bytes]
"""(lane, id): what names a delivery."""

_COMPLETED = "it is not known whether it was completed; if not, nothing was sent and it is handed out again"


class LeaseVerbs(OfQueue):
    """Register, take, wait, settle, leave."""

    def __init__(
        self, keys: QueueKeys, *, counting: bool = False, window: int = 120_000, delivery_limit: int = 20
    ) -> None:
        super().__init__(keys, counting=counting, window=window, delivery_limit=delivery_limit)
        self._last_wait: tuple[object, Call[list[Entry]]] | None = None
        self._answers: dict[bool, Form[frozenset[int]]] = {}
        self._settled: dict[tuple[str, bool], Form[frozenset[int]]] = {}

    _open: Bound[Opened] = Bound("open", read.opened, doing="register the consumer")

    def open(
        self, consumer: str, lease: int, info: Mapping[str, object], *, beside_originals: bool = False
    ) -> Call[Opened]:
        """Register a consumer with a lease in ms."""
        known = {
            **info,
            "lease": lease,
            **({"beside_originals": True} if beside_originals else {}),
        }  # take.lua looks at it
        return self._open(consumer, lease, json.dumps(known), int(beside_originals))

    _take: Bound[Taken] = Bound("take", read.taken, doing="take events", fate="what was handed out comes back")

    def take(self, consumer: str, n: int, token: bytes = b"") -> Call[Taken]:
        """Hand out up to n entries to a consumer; ``token`` is the wake token that led here."""
        return self._take(consumer, n, token)

    def wait_for_entries(self, consumer: str, n: int, lanes: Sequence[bytes], block: int) -> Call[list[Entry]]:
        """Block up to ``block`` ms until somebody enqueues; entries of lane ``w`` are wake tokens."""
        how = (consumer, n, tuple(lanes), block)
        last = self._last_wait
        if last is not None and last[0] == how:
            return last[1]
        # Most waits are like the last one.
        call = encoded(_wait([(self, lanes)], consumer, n, block, of_queues=False))
        self._last_wait = how, call
        return call

    def read_entries(self, consumer: str, n: int, lanes: Sequence[bytes]) -> Call[list[Entry]]:
        """What `wait_for_entries` would bring now, without waiting."""
        return self.wait_for_entries(consumer, n, lanes, 0)

    def wait_for_signal(self, block: int, after: bytes = b"$") -> Call[bool]:
        """Block up to ``block`` ms until a paused queue goes on, or a consumer that stands by may have its turn.

        ``after`` is the ``signal`` of the take that said so: no signal since then is missed.
        """
        return command(
            "XREAD", "BLOCK", block, "STREAMS", self.keys.of("signals"), after, parse=bool, block=block / 1000
        )

    _settle: Bound[frozenset[int]] = Bound(
        "settle",
        read.refused,
        doing="acknowledge",
        fate="it is not known whether the event was completed; if not, it is handed out again",
    )

    def settle(self, consumer: str, delivered: Iterable[Delivered], *, keep: bool = False) -> Call[frozenset[int]]:
        """Acknowledge; returns the positions that were refused because their lease is lost."""
        if isinstance(delivered, list) and len(delivered) == 1:  # most are
            form = self._settled.get((consumer, keep))
            if form is None:
                self._settled.clear()  # of the incarnation before
                form = self._settled[consumer, keep] = Form(
                    self._settle(consumer, int(keep), self.counting, HOLE, HOLE)
                )
            return form(*delivered[0])
        args: list[Arg] = [consumer, int(keep), self.counting]
        for lane, id_ in delivered:
            args += (lane, id_)
        return self._settle(*args)

    _requeue: Bound[list[str]] = Bound(
        "requeue",
        read.outcomes,
        doing="send the event back",
        fate="it is not known whether it was sent back; if not, it is handed out again",
    )

    def requeue(
        self,
        consumer: str,
        delivered: Iterable[Delivered],
        *,
        delay: int = 0,
        failed: bool,
        seen: bool = True,
        error: str = "",
    ) -> Call[list[str]]:
        """Send deliveries back; outcomes requeued | dead | done | lost."""
        args: list[Arg] = [consumer, delay, int(failed), int(seen), error, self.delivery_limit]
        for lane, id_ in delivered:
            args += (lane, id_)
        return self._requeue(*args)

    _reject: Bound[list[str]] = Bound(
        "reject",
        read.outcomes,
        doing="reject the event",
        fate="it is not known whether it is a dead letter; if not, it is handed out again",
    )

    def reject(self, consumer: str, delivered: Iterable[Delivered], reason: str, error: str = "") -> Call[list[str]]:
        """Give deliveries up; outcomes dead | done | lost."""
        args: list[Arg] = [consumer, reason, error]
        for lane, id_ in delivered:
            args += (lane, id_)
        return self._reject(*args)

    _complete: Bound[Completed] = Bound("complete", read.completed, doing="complete the event", fate=_COMPLETED)

    def complete(
        self,
        consumer: str,
        delivered: Delivered,
        *,
        keep: bool = False,
        response: bytes = b"",
        request_uuid: str = "",
        timeout: int = 0,
        events: Iterable[tuple[QueueKeys | None, Outgoing]] = (),
    ) -> Call[Completed]:
        """Complete a delivery with its response and further events in one step; a queue of None is one in another slot."""
        keys: list[bytes] = [self.keys.lane(0)]
        args: list[Arg] = [consumer, *delivered, int(keep), self.counting, self.window, response, request_uuid, timeout]
        for queue, event in events:
            if queue is None:
                args.append(0)
            else:
                lane = queue.lane(0)
                if lane not in keys:
                    keys.append(lane)
                args.append(keys.index(lane) + 1)
            args += event.arguments()
        verb = self._complete if len(keys) == 1 else LeaseVerbs._complete.on(tuple(keys))
        return verb(*args)

    _answer: Bound[frozenset[int]] = Bound(
        "complete", read.refused_completion, doing="complete the event", fate=_COMPLETED
    )

    def answer(
        self, consumer: str, delivered: Delivered, response: bytes, request_uuid: str, timeout: int, *, keep: bool
    ) -> Call[frozenset[int]]:
        """Complete a delivery with its response; the reply is read as `settle`'s."""
        form = self._answers.get(keep)
        if form is None:
            form = self._answers[keep] = Form(
                self._answer(HOLE, HOLE, HOLE, int(keep), self.counting, self.window, HOLE, HOLE, HOLE)
            )
        lane, id_ = delivered
        return form(consumer.encode(), lane, id_, response, request_uuid.encode(), b"%d" % timeout)

    _start: Bound[bool] = Bound("start", bool)

    def start(self, consumer: str, delivered: Delivered) -> Call[bool]:
        """Note that the handler of an entry that failed before is about to start; False: it is not ours any more."""
        return self._start(consumer, *delivered)

    _consume_alone: Bound[bool] = Bound("consume_alone", bool, doing="consume the queue exclusively")

    def consume_alone(self, consumer: str, *, on: bool) -> Call[bool]:
        """Be the only consumer; False: there are others."""
        return self._consume_alone(consumer, int(on))

    _tend: Bound[Tended] = Bound("tend", read.tended, doing="renew the lease", fate="what was handed out comes back")

    def tend(self, consumer: str, lease: int, *, chores: bool) -> Call[Tended]:
        """Renew the lease and do what is due. ``chores``: the rarer ones too."""
        return self._tend(consumer, lease, self.delivery_limit, int(chores))

    _recover: Bound[list[Entry]] = Bound(
        "recover", read.entries, doing="ask for what was handed out", fate="what was handed out comes back"
    )

    def recover(self, consumer: str, known: Iterable[Delivered], n: int) -> Call[list[Entry]]:
        """What this consumer was handed and never saw."""
        args: list[Arg] = [consumer, n]
        for lane, id_ in known:
            args += (lane, id_)
        return self._recover(*args)

    _leave: Bound[int] = Bound("leave", int, doing="hand back deliveries", fate="they come back when the lease is over")

    def leave(self, consumer: str, n: int = 500) -> Call[int]:
        """Hand back up to n deliveries and, once there are none, unregister; returns 1 where there may be more, else 0."""
        return self._leave(consumer, n)


def beat(consumers: Sequence[tuple[OfQueue, str, int]], watch: Sequence[bool] = ()) -> Call[list[int]]:
    """Renew the leases, in ms, of consumers at one server; for each -1 where it is lost, else the ms until another's ends.

    :param watch: for each, whether to look at those of others (if not, the reply is its own); default: all
    """
    keys = tuple(verbs.keys.lane(0) for verbs, _, _ in consumers)
    looks = watch or [True] * len(consumers)
    parts = (part for (_, name, lease), look in zip(consumers, looks, strict=True) for part in (name, lease, int(look)))
    return Prepared("beat", keys, list)(*parts)


_LEFT_OVER = ("delayed", "outbox", "newer_entries", "message_queue", "response_stream", "answered")


def left_over(queues: Sequence[OfQueue]) -> Call[int]:
    """How many keys there are that only chores are about, of these queues together (on a Cluster: of one)."""
    return command("EXISTS", *(queue.keys.of(ending) for queue in queues for ending in _LEFT_OVER), parse=int)


def settings_of(queues: Sequence[OfQueue]) -> Call[list[bytes | None]]:
    """The text of each one's settings."""
    return command("MGET", *(queue.keys.of("settings") for queue in queues), parse=list)


def all_heard() -> Call[bool]:
    """Ask for nothing; but when the answer is there, the server has seen each connection end that was hung up before.

    So a blocking read on one of those is not handed what is sent back from then on. (HELLO needs no permission of its own.)
    """
    return command("HELLO", "2", parse=bool, doing="hang up")


def wait_for_entries(
    queues: Sequence[tuple[OfQueue, Sequence[bytes]]], consumer: str, n: int, block: int
) -> Call[list[tuple[OfQueue, Entry]]]:
    """Block up to ``block`` ms (0: do not) on the lanes of several queues at once (on a Cluster: of one queue).

    Of each lane up to n are handed out.
    """
    return _wait(queues, consumer, n, block, of_queues=True)


def _wait(
    queues: Sequence[tuple[OfQueue, Sequence[bytes]]], consumer: str, n: int, block: int, *, of_queues: bool
) -> Call[Any]:
    """``of_queues``: with the queue of each entry."""
    lane_of: dict[bytes, tuple[OfQueue, bytes]] = {}
    for verbs, lanes in queues:
        lane_of[verbs.keys.wake] = (verbs, b"w")
        for lane in lanes:
            lane_of[verbs.keys.redelivered if lane == b"r" else verbs.keys.lane(int(lane))] = (verbs, lane)

    def found(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> list[Any]:
        entries: list[Any] = []
        for key, rows in raw or ():
            verbs, lane = lane_of[key]
            for id_, fields in rows:
                if fields is not None:
                    entry = Entry(lane, id_, read.fields(fields))
                    entries.append((verbs, entry) if of_queues else entry)
        return entries

    return command(
        "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", n, *(("BLOCK", block) if block else ()), "STREAMS", *lane_of, *([">"] * len(lane_of)),
        parse=found, retry=False, block=block / 1000,
    )  # fmt: skip
