"""Every verb of one queue as a `Call`: its arguments on one side, its reply on the other, and no I/O.

What a script does, returns and costs stands in its header (``elkmq/lua``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from elkmq._core import entry as read
from elkmq._core.call import Arg, Call, Prepared, command, encoded
from elkmq._core.entry import Completed, Entry, Joined, Outgoing, Receipt, Taken, Tended
from elkmq.keys import GROUP, QueueKeys

T = TypeVar("T")

Delivered = tuple[bytes, bytes]
"""(lane, id): what names a delivery."""


_COMPLETED = "it is not known whether it was completed; if not, nothing was sent and it is handed out again"


class Claim(NamedTuple):
    """The reply of claim.lua: claimed | done | busy, with the result or the milliseconds that the other claim holds."""

    state: str
    value: bytes


class Verbs:
    """The verbs of one queue. ``counting`` is for servers before 7.0, which do not count a stream's entries themselves."""

    def __init__(
        self, keys: QueueKeys, *, counting: bool = False, window: int = 120_000, delivery_limit: int = 20
    ) -> None:
        self.keys = keys
        self.window = window
        self.delivery_limit = delivery_limit
        self.counting = int(counting)
        main = (keys.lane(0),)
        self._enqueue: Prepared[list[Receipt]] = Prepared(
            "enqueue",
            main,
            read.receipts,
            doing="enqueue",
            fate="it is not known whether the event is in the queue; enqueued again, the same event is added once",
        )
        self._join: Prepared[Joined] = Prepared("join", main, read.joined, doing="look at the queue")
        self._enqueue_plain: Prepared[list[Receipt]] = Prepared(
            "enqueue_plain",
            main,
            read.receipts,
            doing="enqueue",
            fate="it is not known whether the event is in the queue; enqueued again, the same event is added once",
        )
        self._open: Prepared[tuple[int, bytes | None]] = Prepared("open", main, tuple, doing="register the consumer")
        self._take: Prepared[Taken] = Prepared(
            "take", main, read.taken, doing="take events", fate="what was handed out comes back"
        )
        self._settle: Prepared[frozenset[int]] = Prepared(
            "settle",
            main,
            read.refused,
            doing="acknowledge",
            fate="it is not known whether the event was completed; if not, it is handed out again",
        )
        self._requeue: Prepared[list[str]] = Prepared(
            "requeue",
            main,
            read.outcomes,
            doing="send the event back",
            fate="it is not known whether it was sent back; if not, it is handed out again",
        )
        self._reject: Prepared[list[str]] = Prepared(
            "reject",
            main,
            read.outcomes,
            doing="reject the event",
            fate="it is not known whether it is a dead letter; if not, it is handed out again",
        )
        self._complete = _completing(main, read.completed)
        self._answer = _completing(main, read.refused_completion)
        self._waits: dict[tuple[object, ...], Call[list[Entry]]] = {}
        self._start: Prepared[bool] = Prepared("start", main, bool)
        self._tend: Prepared[Tended] = Prepared(
            "tend", main, read.tended, doing="renew the lease", fate="what was handed out comes back"
        )
        self._recover: Prepared[list[Entry]] = Prepared(
            "recover", main, read.entries, doing="ask for what was handed out", fate="what was handed out comes back"
        )
        self._leave: Prepared[int] = Prepared(
            "leave", main, int, doing="hand back deliveries", fate="they come back when the lease is over"
        )
        self._dequeue: Prepared[Taken] = Prepared(
            "dequeue",
            main,
            read.dequeued,
            doing="dequeue",
            fate="if an event was handed out just then, this client's next dequeue gets it",
        )
        self._undo_dequeue: Prepared[bool] = Prepared(
            "undo_dequeue",
            main,
            bool,
            doing="put a dequeued event back",
            fate="it is not known whether it was put back; if not, it is gone",
        )
        self._bury: Prepared[int] = Prepared("bury", main, int, retry=False)
        self._respond: Prepared[tuple[str, int]] = Prepared(
            "respond",
            main,
            _responded,
            doing="send the response",
            fate="it is not known whether it was sent; sent again, it is sent once",
        )
        self._forward: Prepared[str] = Prepared(
            "forward", main, bytes.decode, doing="read the response", fate="it may be lost to its requester"
        )
        self._keep_response: Prepared[int] = Prepared("keep_response", main, int)
        self._purge: Prepared[tuple[int, bool]] = Prepared(
            "purge",
            main,
            lambda r: (r[0], r[1] == 1),
            doing="purge the queue",
            fate="some events may have been removed",
        )
        self._configure: Prepared[dict[str, str]] = Prepared(
            "configure",
            main,
            read.settings,
            doing="look at the settings",
            fate="it is not known whether they were changed",
        )
        self._stats: Prepared[list[Any]] = Prepared("stats", main, list, doing="look at the queue")
        self._revive: Prepared[list[bytes]] = Prepared(
            "revive", main, list, doing="send dead letters back to work", fate="some may have been sent back"
        )
        self._drop: Prepared[int] = Prepared(
            "drop", main, int, doing="delete the queue", fate="it is not known whether it was deleted"
        )
        self._claim: Prepared[Claim] = Prepared(
            "claim", main, _claim, doing="claim the effect", fate="it may be claimed until its time is over"
        )
        self._finish: Prepared[bool] = Prepared(
            "finish", main, bool, doing="record the effect", fate="it is not known whether it was recorded"
        )

    def join(self, *, look: bool = False) -> Call[Joined]:
        """The first contact with the queue: whether it is new, and serves consumers of elk-mq 0.1. ``look``: make nothing."""
        return self._join(int(look))

    # -- events in

    def enqueue(self, events: Iterable[Outgoing]) -> Call[list[Receipt]]:
        """Accept events, each once, all or none. One round trip, however many.

        Where an event has no unique id, or none is remembered, the call is not repeated after a lost reply.
        """
        args: list[Arg] = [self.window]
        retry = self.window > 0
        for event in events:
            args += event.arguments()
            retry = retry and event.unique != ""
        return self._enqueue(*args, retry=retry)

    def enqueue_plain(self, events: Iterable[tuple[str, bytes]]) -> Call[list[Receipt]]:
        """Accept events (unique id, JSON) of which nothing else is to be said, as `enqueue` does."""
        return self._enqueue_plain(self.window, *(part for event in events for part in event), retry=self.window > 0)

    # -- a consumer's life

    def open(
        self, consumer: str, lease: int, info: Mapping[str, object], *, beside_originals: bool = False
    ) -> Call[tuple[int, bytes | None]]:
        """Register a consumer with a lease in ms; returns (server ms, settings' text)."""
        known = {
            **info,
            "lease": lease,
            **({"beside_originals": True} if beside_originals else {}),
        }  # take.lua looks at it
        return self._open(consumer, lease, json.dumps(known), int(beside_originals))

    def take(self, consumer: str, n: int, token: bytes = b"") -> Call[Taken]:
        """Hand out up to n entries to a consumer; ``token`` is the wake token that led here."""
        return self._take(consumer, n, token)

    def wait_for_entries(self, consumer: str, n: int, lanes: Sequence[bytes], block: int) -> Call[list[Entry]]:
        """Block up to ``block`` ms until somebody enqueues; entries of lane ``w`` are wake tokens."""
        how = (consumer, n, tuple(lanes), block)
        call = self._waits.get(how)
        if call is None:
            wait = wait_for_entries([(self, lanes)], consumer, n, block, parse=lambda found: [e for _, e in found])
            # Most waits are like the last one.
            call = encoded(wait)
            self._waits = {how: call}
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

    def settle(self, consumer: str, delivered: Iterable[Delivered], *, keep: bool = False) -> Call[frozenset[int]]:
        """Acknowledge; returns the positions that were refused because their lease is lost."""
        args: list[Arg] = [consumer, int(keep), self.counting]
        for lane, id_ in delivered:
            args += (lane, id_)
        return self._settle(*args)

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

    def reject(self, consumer: str, delivered: Iterable[Delivered], reason: str, error: str = "") -> Call[list[str]]:
        """Give deliveries up; outcomes dead | done | lost."""
        args: list[Arg] = [consumer, reason, error]
        for lane, id_ in delivered:
            args += (lane, id_)
        return self._reject(*args)

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
        verb = self._complete if len(keys) == 1 else _completing(tuple(keys), read.completed)
        return verb(*args)

    def answer(
        self, consumer: str, delivered: Delivered, response: bytes, request_uuid: str, timeout: int, *, keep: bool
    ) -> Call[frozenset[int]]:
        """Complete a delivery with its response; the reply is read as `settle`'s."""
        return self._answer(
            consumer, *delivered, int(keep), self.counting, self.window, response, request_uuid, timeout
        )

    def start(self, consumer: str, delivered: Delivered) -> Call[bool]:
        """Note that the handler of an entry that failed before is about to start; False: it is not ours any more."""
        return self._start(consumer, *delivered)

    def tend(self, consumer: str, lease: int, *, chores: bool) -> Call[Tended]:
        """Renew the lease and do what is due. ``chores``: the rarer ones too."""
        return self._tend(consumer, lease, self.delivery_limit, int(chores))

    def recover(self, consumer: str, known: Iterable[Delivered], n: int) -> Call[list[Entry]]:
        """What this consumer was handed and never saw."""
        args: list[Arg] = [consumer, n]
        for lane, id_ in known:
            args += (lane, id_)
        return self._recover(*args)

    def leave(self, consumer: str, n: int = 500) -> Call[int]:
        """Hand back up to n deliveries and, once there are none, unregister; returns 1 where there may be more, else 0."""
        return self._leave(consumer, n)

    def keep_response(self, entry: Entry) -> list[Call[int]]:
        """Leave a response between clients of elk-mq 0.1 where it is, until nobody can be waiting for it any more."""
        return [self._keep_response(entry.id, entry.fields[b"response"])]

    # -- the simple form

    def dequeue(
        self,
        consumer: str = "",
        lease: int = 0,
        *,
        client: str = "",
        turn: int = 0,
        keep: int = 0,
        beside_originals: bool = False,
    ) -> Call[Taken]:
        """Hand out one event for good; where there is none, register ``consumer`` for a blocking read.

        ``client`` and ``turn``: who asks, for the how many-eth time; asked again within ``keep`` ms it gets the same answer.
        The state ``more`` means: ask again at once.
        """
        args = (self.counting, consumer, lease, self.delivery_limit, client, turn, keep, int(beside_originals))
        return self._dequeue(*args, retry=client != "")

    def undo_dequeue(self, client: str, turn: int, keep: int) -> Call[bool]:
        """Put back what the client's dequeue of that turn handed out; whether it was anything."""
        return self._undo_dequeue(client, turn, self.counting, keep)

    def bury(self, entry: Entry, reason: str, error: str = "") -> Call[int]:
        """Put a dequeued entry that cannot be read among the dead letters."""
        fields = [part for item in entry.fields.items() for part in item]
        return self._bury(entry.lane, entry.id, reason, error, self.counting, *fields)

    # -- requests

    def respond(
        self, request_uuid: str, timeout: int, response: bytes, asked: int | None = None
    ) -> Call[tuple[str, int]]:
        """Answer a request known by its event only; returns (sent | late | nobody, server ms).

        A request is answered once: a second response is not sent and reported as the first was.
        """
        return self._respond(request_uuid, timeout, response, "" if asked is None else asked)

    def wait_for_responses(self, inbox: str, last: bytes, block: int) -> Call[list[tuple[bytes, bytes, bytes]]]:
        """Block up to ``block`` ms for responses after id ``last``: (id, request's uuid, response JSON), ..."""
        return command(
            "XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self.keys.replies(inbox), last,
            parse=_responses, block=block / 1000,
        )  # fmt: skip

    def wait_for_originals(self, last: bytes, block: int) -> Call[list[tuple[bytes, bytes, bytes]]]:
        """Block up to ``block`` ms for what responders of elk-mq 0.1 write after ``last``: (id, request's uuid, response's id)."""
        return command(
            "XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self.keys.of("response_stream"), last,
            parse=_originals, block=block / 1000,
        )  # fmt: skip

    def forward(self, uuid: bytes, pointer: bytes, response: bytes) -> Call[str]:
        """Move the response of such a responder to its requester's inbox; returns sent | late | nobody."""
        return self._forward(uuid, pointer, response, self.counting)

    def forget_responses(self, inbox: str, ids: Sequence[bytes]) -> Call[int]:
        """Remove responses that were read."""
        return command("XDEL", self.keys.replies(inbox), *ids, parse=int)

    # -- looking after a queue

    def purge(self, n: int = 10_000, *, delayed: bool = False) -> Call[tuple[int, bool]]:
        """Remove up to n ready events; returns (removed, whether there may be more)."""
        return self._purge(n, int(delayed))

    def configure(self, changes: Mapping[str, str]) -> Call[dict[str, str]]:
        """Change settings; '' takes one back to its default. Returns all settings as text."""
        return self._configure("merge", *(part for item in changes.items() for part in item))

    def check_settings(self, expected: Mapping[str, str]) -> Call[dict[str, str]]:
        """Check that the settings named have these values (ELKMQ_SETTINGS_DIFFER)."""
        return self._configure("same", *(part for item in expected.items() for part in item))

    def stats(self) -> Call[list[Any]]:
        """Everything to be seen of the queue; read by elkmq.stats."""
        return self._stats()

    def dead_letters(self, start: str = "-", n: int = 100) -> Call[list[Entry]]:
        """Up to n dead letters from an id on, oldest first."""
        return command("XRANGE", self.keys.of("dead_letters"), start, "+", "COUNT", n, parse=_stream)

    def event_log(self, start: str, end: str, n: int) -> Call[list[Entry]]:
        """Up to n completed events between two ids or times in ms."""
        return command("XRANGE", self.keys.of("event_log"), start, end, "COUNT", n, parse=_stream)

    def outbox(self, n: int = 100) -> Call[list[Entry]]:
        """Entries on their way to another slot or an exchange, oldest first."""
        return command("XRANGE", self.keys.of("outbox"), "-", "+", "COUNT", n, parse=_stream)

    def relayed(self, ids: Sequence[bytes]) -> Call[int]:
        """Remove outbox entries that arrived."""
        return command("XDEL", self.keys.of("outbox"), *ids, parse=int)

    def revive(self, ids: Sequence[str]) -> Call[list[bytes]]:
        """Send dead letters back to work; their new ids, empty where there was none."""
        return self._revive(*ids)

    def drop_dead(self, ids: Sequence[str]) -> Call[int]:
        """Drop dead letters for good; returns how many there were."""
        return command("XDEL", self.keys.of("dead_letters"), *ids, parse=int)

    def drop(self, *, if_unused: bool = False, if_empty: bool = False) -> Call[int]:
        """Delete the queue; returns the ready events it held, -1 where used, -2 where not empty."""
        return self._drop(int(if_unused), int(if_empty))

    # -- the effect store

    def claim(self, key: str, owner: str, hold: int) -> Call[Claim]:
        """Claim an effect for ``hold`` ms."""
        return self._claim(key, owner, hold)

    def finish(self, key: str, owner: str, result: bytes, keep: int) -> Call[bool]:
        """Record an effect's result for ``keep`` ms; False: the claim is not the owner's any more."""
        return self._finish(key, owner, "done", result, keep)

    def release(self, key: str, owner: str) -> Call[bool]:
        """Give a claim back."""
        return self._finish(key, owner, "release", "", 0)


def beat(consumers: Sequence[tuple[Verbs, str, int]]) -> Call[list[int]]:
    """Renew the leases, in ms, of consumers at one server; for each -1 where it is lost, else the ms until a lease ends."""
    keys = tuple(verbs.keys.lane(0) for verbs, _, _ in consumers)
    return Prepared("beat", keys, list)(*(part for _, name, lease in consumers for part in (name, lease)))


def wait_for_entries(
    queues: Sequence[tuple[Verbs, Sequence[bytes]]], consumer: str, n: int, block: int, *, parse: Any
) -> Call[Any]:
    """Block up to ``block`` ms (0: do not) on the lanes of several queues at once (on a Cluster: of one queue).

    ``parse`` gets [(verbs, entry), ...]. Of each lane up to n are handed out.
    """
    lane_of: dict[bytes, tuple[Verbs, bytes]] = {}
    for verbs, lanes in queues:
        lane_of[verbs.keys.wake] = (verbs, b"w")
        for lane in lanes:
            lane_of[verbs.keys.redelivered if lane == b"r" else verbs.keys.lane(int(lane))] = (verbs, lane)

    def found(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> Any:
        return parse([
            (lane_of[key][0], Entry(lane_of[key][1], id_, read.fields(fields)))
            for key, rows in raw or ()
            for id_, fields in rows
            if fields is not None
        ])  # fmt: skip

    return command(
        "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", n, *(("BLOCK", block) if block else ()), "STREAMS", *lane_of, *([">"] * len(lane_of)),
        parse=found, retry=False, block=block / 1000,
    )  # fmt: skip


def _completing(keys: tuple[bytes, ...], parse: Callable[[Any], T]) -> Prepared[T]:
    return Prepared("complete", keys, parse, doing="complete the event", fate=_COMPLETED)


def _responded(raw: Sequence[bytes]) -> tuple[str, int]:
    return raw[0].decode(), int(raw[1].partition(b"-")[0])


def _claim(raw: Sequence[bytes]) -> Claim:
    return Claim(raw[0].decode(), raw[1] if len(raw) > 1 else b"")


def _stream(raw: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Entry]:
    return [Entry(b"", id_, dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in raw]


def _responses(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> list[tuple[bytes, bytes, bytes]]:
    if not raw:
        return []
    return [
        (id_, fields[fields.index(b"uuid") + 1], fields[fields.index(b"response") + 1]) for id_, fields in raw[0][1]
    ]


def _originals(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> list[tuple[bytes, bytes, bytes]]:
    return [(id_, fields[0], fields[1]) for id_, fields in raw[0][1]] if raw else []
