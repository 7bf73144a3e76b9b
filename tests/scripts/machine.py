"""The machine that drives a real queue and its model side by side: what its rules share, and what must always hold."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from elkmq._core.entry import Entry, Outgoing
from tests.scripts.model import Event, Key, Model
from tests.scripts.rig import Rig, outgoing

LIMIT = 2
"""Delivery limit."""


class Queue(RuleBasedStateMachine):
    """One queue at ``server``."""

    server: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.q = Rig(self.server, f"model-{uuid.uuid4().hex}")
        self.q.verbs.delivery_limit = LIMIT
        self.q.run(self.q.verbs.join())
        self.model = Model(LIMIT)
        self.sent: list[tuple[Outgoing, tuple[str, int, bool]]] = []
        self.past: list[tuple[str, Key]] = []
        """Every delivery there ever was."""
        self.flushed: set[Key] = set()
        self.lives = itertools.count()
        self.names: dict[str, str] = {}

    def teardown(self) -> None:
        keys = [self.q.key(name.decode()) for name in self.q.names()]
        if keys:
            self.q.client.delete(*keys)
        self.q.close()

    def twice(self, call: Any) -> tuple[Any, Any]:
        return self.q.run(call), self.q.run(call)

    def make(self, spec: tuple[str, int, bool]) -> Outgoing:
        kind, priority, delay = spec
        options: dict[str, Any] = {"priority": priority, "delay": 3_600_000 if delay else 0}
        if kind == "mortal":
            options["fields"] = ("ttl", 0)
        if kind == "request":
            options |= {"inbox": "box", "fields": ("reply_to", "box", "ttl", 7_200_000)}
        return outgoing(**options)

    def batch(self, specs: list[tuple[str, int, bool]], again: list[int]) -> list[tuple[Outgoing, Event]]:
        """New events and some that were sent before."""
        made = [(self.make(spec), spec) for spec in specs]
        repeated = [self.sent[i % len(self.sent)] for i in again if self.sent]
        self.sent += made
        return [(out, Event(out.json, out.unique, *spec)) for out, spec in made + repeated]

    def consumer(self, pick: int) -> str:
        return sorted(self.model.consumers)[pick % len(self.model.consumers)]

    def got(self, consumer: str, entries: list[Entry], expected: list[tuple[bytes, Event]]) -> None:
        assert [(entry.lane, entry.fields[b"event"]) for entry in entries] == [(lane, e.body) for lane, e in expected]
        for entry, (_, event) in zip(entries, expected, strict=True):
            assert int(entry.fields.get(b"failed", 0)) == event.failed
            assert int(entry.fields.get(b"handed_out", 0)) == event.handed_out
            self.model.hold(consumer, (entry.lane, entry.id), event)
            self.past.append((consumer, (entry.lane, entry.id)))

    def chosen(self, picks: list[int]) -> tuple[str, list[Key]]:
        consumer = self.past[picks[0] % len(self.past)][0]
        mine = [key for owner, key in self.past[-30:] if owner == consumer] + [self.past[picks[0] % len(self.past)][1]]
        return consumer, list(dict.fromkeys(mine[pick % len(mine)] for pick in picks))

    def foreign(self, consumer: str, keys: list[Key]) -> list[str]:
        return [self.model.outcome(consumer, key) for key in keys]

    # -- what must always hold

    @invariant()
    def the_counts_are_right_and_add_up(self) -> None:
        model, stats = self.model, self.q.stats()
        assert model.adds_up()
        assert (stats.ready, stats.in_flight, stats.delayed, stats.dead) == (
            model.ready(), len(model.flight), len(model.delayed), len(model.dead),
        )  # fmt: skip
        for name in ("enqueued", "completed", "expired", "dead_lettered", "dropped", "purged", "requeued", "revived"):
            assert getattr(stats, name) == model.counts[name], name
        assert {consumer.name: consumer.in_flight for consumer in stats.consumers} == {
            consumer: len(model.of(consumer)) for consumer in model.consumers
        }
        answered = [unique for unique in model.answered if model.marks.get(unique) == "request"]
        assert self.q.client.xlen(self.q.keys.replies("box")) == len(answered)

    @invariant()
    def every_event_is_in_one_place_and_has_one_owner(self) -> None:
        model, client = self.model, self.q.client
        for lane in model.order():
            name = self.q.keys.redelivered if lane == b"r" else self.q.keys.lane(int(lane))
            entries = [(id_, fields[b"event"]) for id_, fields in client.xrange(name) if b"event" in fields]
            groups: Any = client.xinfo_groups(name) if client.exists(name) else []
            pending = client.xpending_range(name, "elkmq", "-", "+", 1000) if groups else []
            owners = {item["message_id"]: item["consumer"].decode() for item in pending}
            held = {key[1]: held for key, held in model.flight.items() if key[0] == lane}
            assert owners == {id_: held.owner for id_, held in held.items()}
            assert dict(entries).items() >= {id_: h.event.body for id_, h in held.items()}.items()
            assert [body for id_, body in entries if id_ not in held] == [event.body for event in model.lanes[lane]]
        delayed = client.zrange(self.q.key("delayed"), 0, -1)
        assert len(delayed) == len(model.delayed)
        assert all(any(event.body in member for member in delayed) for event in model.delayed)
        dead = [fields[b"event"] for _, fields in client.xrange(self.q.key("dead_letters"))]
        assert dead == [event.body for event in model.dead]
