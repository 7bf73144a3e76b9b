"""The real scripts against the model of a queue, by any sequence of verbs, each sent twice as after a lost reply.

No step sleeps: leases end and delays are over because their times are changed behind the scripts' back.
More, and different ones each time: ``pytest tests/scripts/test_model.py --hypothesis-profile=thorough``.
"""

from __future__ import annotations

import uuid

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.scripts.machine import LIMIT, Queue
from tests.scripts.model import Event, Full, Model
from tests.scripts.rig import outgoing

NAMES = ("a", "b", "c")
SPEC = st.tuples(
    st.sampled_from(["plain"] * 3 + ["mortal", "request"]), st.sampled_from([0, 0, 0, 1, 2]), st.booleans()
)
picks = st.lists(st.integers(0, 50), min_size=1, max_size=6)


class AnyVerb(Queue):
    """Every verb as a rule."""

    # -- events in

    @rule(specs=st.lists(SPEC, max_size=5), again=st.lists(st.integers(0, 50), max_size=2))
    def enqueue(self, specs: list[tuple[str, int, bool]], again: list[int]) -> None:
        batch = self.batch(specs, again)
        if not batch:
            return
        call = self.q.verbs.enqueue([out for out, _ in batch])
        try:
            answers = self.model.accept(event for _, event in batch)
        except Full:
            with pytest.raises(redis.ResponseError, match="QUEUE_FULL"):
                self.q.run(call)
            return
        first, second = self.twice(call)
        assert [receipt.duplicate for receipt in first] == answers
        assert [receipt.id for receipt in first] == [receipt.id for receipt in second]

    @rule()
    def original_enqueues(self) -> None:
        out = outgoing()
        id_ = self.q.client.xadd(self.q.keys.lane(0), {"event": out.json})
        self.q.client.lpush(self.q.key("message_queue"), id_)
        self.model.original(Event(out.json, out.unique, "original"))

    @rule()
    def delays_are_over(self) -> None:
        members = self.q.client.zrange(self.q.key("delayed"), 0, -1)
        for at, event in enumerate(self.model.delayed, 1):
            (member,) = [member for member in members if event.body in member]
            self.q.client.zadd(self.q.key("delayed"), {member: at})
        self.model.make_due()

    # -- consumers

    @rule(name=st.sampled_from(NAMES))
    def open(self, name: str) -> None:
        if self.names.get(name) not in self.model.consumers:
            self.names[name] = f"{name}{next(self.lives)}"
            self.model.consumers.add(self.names[name])
        self.twice(self.q.verbs.open(self.names[name], 3_600_000, {}))

    @precondition(lambda self: self.model.consumers)
    @rule(pick=st.integers(0, 9), n=st.integers(1, 6))
    def take(self, pick: int, n: int, token: bytes = b"") -> None:
        consumer = self.consumer(pick)
        taken = self.q.taken(consumer, n, token)
        assert taken.state == ("paused" if self.model.paused else "")
        self.got(consumer, taken.entries, [] if self.model.paused else self.model.read(n))

    @precondition(lambda self: self.model.consumers)
    @rule(pick=st.integers(0, 9), n=st.integers(1, 3))
    def read_without_a_script(self, pick: int, n: int) -> None:
        consumer, lanes = self.consumer(pick), self.model.order()
        found = self.q.run(self.q.verbs.read_entries(consumer, n, lanes))
        tokens = [entry for entry in found if entry.lane == b"w"]
        responses = [entry for entry in found if b"response" in entry.fields]
        for entry in responses:
            for call in self.q.verbs.keep_response(entry):
                self.twice(call)
        events = [entry for entry in found if b"event" in entry.fields]
        if responses:  # which took the place of events
            bodies = {entry.fields[b"event"] for entry in events}
            expected = [(lane, e) for lane in lanes for e in list(self.model.lanes[lane]) if e.body in bodies]
            for lane, event in expected:
                self.model.lanes[lane].remove(event)
        else:
            expected = self.model.read_lanes(n)
        events.sort(key=lambda entry: lanes.index(entry.lane))
        self.got(consumer, events, expected)
        if tokens:
            self.take(pick, 1, tokens[-1].id)

    @rule()
    def dequeue(self) -> None:
        reply = self.q.run(self.q.verbs.dequeue())
        if self.model.paused:
            assert reply.state == "paused"
            return
        expected = self.model.read(1)
        assert [entry.fields[b"event"] for entry in reply.entries] == [event.body for _, event in expected]
        self.model.counts["completed"] += len(expected)

    # -- settling, also what was settled before or by others, also by the dead

    @precondition(lambda self: self.past)
    @rule(picks=picks, stranger=st.booleans())
    def settle(self, picks: list[int], stranger: bool) -> None:
        consumer, keys = self.chosen(picks)
        if stranger and self.model.consumers and self.flushed.isdisjoint(keys):
            consumer = self.consumer(picks[-1])
        outcomes = self.foreign(consumer, keys)
        refused = {i for i, outcome in enumerate(outcomes) if outcome == "lost"}
        assert self.twice(self.q.verbs.settle(consumer, keys)) == (refused, refused)
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome == "mine":
                self.model.complete(key)

    @precondition(lambda self: self.past)
    @rule(picks=picks, failed=st.booleans(), delay=st.booleans(), seen=st.booleans())
    def requeue(self, picks: list[int], failed: bool, delay: bool, seen: bool) -> None:
        consumer, keys = self.chosen(picks)
        outcomes = self.foreign(consumer, keys)
        call = self.q.verbs.requeue(consumer, keys, failed=failed, seen=seen, delay=3_600_000 if delay else 0)
        first, second = self.twice(call)
        for i, (key, outcome) in enumerate(zip(keys, outcomes, strict=True)):
            if outcome == "mine":
                outcomes[i] = self.model.send_back(key, failed=int(failed), seen=int(seen), delay=delay)
        assert first == outcomes
        assert second == ["lost" if outcome == "lost" else "done" for outcome in outcomes]

    @precondition(lambda self: self.past)
    @rule(picks=picks, expired=st.booleans())
    def reject(self, picks: list[int], expired: bool) -> None:
        consumer, keys = self.chosen(picks)
        outcomes = self.foreign(consumer, keys)
        first, second = self.twice(self.q.verbs.reject(consumer, keys, "expired" if expired else "rejected"))
        for i, (key, outcome) in enumerate(zip(keys, outcomes, strict=True)):
            if outcome == "mine":
                self.model.reject(key, expired=expired)
                outcomes[i] = "dead"
        assert first == outcomes
        assert second == ["lost" if outcome == "lost" else "done" for outcome in outcomes]

    @precondition(lambda self: self.past)
    @rule(pick=st.integers(0, 99), specs=st.lists(SPEC, max_size=2), again=st.lists(st.integers(0, 50), max_size=1))
    def complete(self, pick: int, specs: list[tuple[str, int, bool]], again: list[int]) -> None:
        consumer, key = self.past[pick % len(self.past)]
        follow = self.batch(specs, again)
        outcome = self.model.outcome(consumer, key)
        held = self.model.flight.get(key)
        call = self.q.verbs.complete(
            consumer, key, response=b"{}", timeout=7200, events=[(self.q.keys, out) for out, _ in follow],
            request_uuid=str(uuid.UUID(held.event.unique if held else uuid.uuid4().hex)),
        )  # fmt: skip
        if outcome != "mine" or held is None:
            assert self.twice(call) == ((outcome, "", []), (outcome, "", []))
            return
        try:
            answers = self.model.accept(event for _, event in follow)
        except Full:
            with pytest.raises(redis.ResponseError, match="QUEUE_FULL"):
                self.q.run(call)
            return
        first, second = self.twice(call)
        assert (first.outcome, first.response) == ("mine", self.model.answer(held.event))
        assert [receipt.duplicate for receipt in first.receipts] == answers
        assert second == ("done", "", [])
        self.model.complete(key)

    @precondition(lambda self: self.sent)
    @rule(pick=st.integers(0, 50))
    def respond(self, pick: int) -> None:
        out, _ = self.sent[pick % len(self.sent)]
        kind = self.model.marks.get(out.unique)
        if kind is None:  # never accepted, or forgotten: it could be an original's
            return
        first, second = self.twice(self.q.verbs.respond(str(uuid.UUID(out.unique)), 7200, b"{}"))
        assert first[0] == second[0] == ("sent" if kind == "request" else "nobody")
        if kind == "request":
            self.model.answered.add(out.unique)

    @precondition(lambda self: self.model.flight)
    @rule(pick=st.integers(0, 50))
    def start(self, pick: int) -> None:
        key = list(self.model.flight)[pick % len(self.model.flight)]
        held = self.model.flight[key]
        assert self.twice(self.q.verbs.start(held.owner, key)) == (True, True)
        held.started = True

    # -- death, and what comes after

    @precondition(lambda self: len(self.model.consumers) > 1)
    @rule(pick=st.integers(0, 9), chores=st.booleans())
    def a_consumer_dies(self, pick: int, chores: bool) -> None:
        victim, other = self.consumer(pick), self.consumer(pick + 1)
        self.q.let_lease_end(victim)
        tended = self.q.tend(other, 3_600_000, chores=chores)
        assert tended.taken_over == self.model.take_over(victim)
        self.model.move_due()
        with pytest.raises(redis.ResponseError, match="CONSUMER_GONE"):
            self.q.taken(victim)

    @precondition(lambda self: self.model.consumers)
    @rule(pick=st.integers(0, 9), n=st.integers(1, 3))
    def leave(self, pick: int, n: int) -> None:
        consumer = self.consumer(pick)
        while self.q.run(self.q.verbs.leave(consumer, n)):
            pass
        assert self.q.run(self.q.verbs.leave(consumer, n)) == 0
        self.model.leave(consumer)

    @precondition(lambda self: self.model.consumers)
    @rule(pick=st.integers(0, 9), knows=st.integers(0, 3))
    def recover(self, pick: int, knows: int) -> None:
        consumer = self.consumer(pick)
        keys = self.model.of(consumer)
        found = self.q.run(self.q.verbs.recover(consumer, keys[:knows], 100))
        assert [(entry.lane, entry.id) for entry in found] == keys[knows:]

    # -- upkeep

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.twice(self.q.verbs.configure({"paused": "1" if paused else ""}))
        self.model.paused = paused

    @rule(max_length=st.sampled_from([0, 0, 3, 6]), drops=st.booleans())
    def limit(self, max_length: int, drops: bool) -> None:
        overflow = ("drop_oldest" if drops else "reject") if max_length else ""
        self.q.run(self.q.verbs.configure({"max_length": str(max_length or ""), "overflow": overflow}))
        self.model.max_length, self.model.drops = max_length, drops

    @rule(delayed=st.booleans(), n=st.integers(1, 5))
    def purge(self, delayed: bool, n: int) -> None:
        removed, more = 0, True
        while more:
            step, more = self.q.run(self.q.verbs.purge(n, delayed=delayed))
            removed += step
        assert removed == self.model.purge(delayed=delayed)

    @precondition(lambda self: self.model.dead)
    @rule(picks=picks)
    def revive(self, picks: list[int]) -> None:
        letters = self.q.run(self.q.verbs.dead_letters())
        chosen = sorted({pick % len(letters) for pick in picks})
        events = [self.model.dead[i] for i in chosen]
        first, second = self.twice(self.q.verbs.revive([letters[i].id.decode() for i in chosen]))
        assert all(first)
        assert not any(second)
        for event in events:
            self.model.revive(event)

    @rule()
    def flush(self) -> None:
        """All of it is gone, consumers included; they learn it."""
        self.q.client.delete(self.q.keys.lane(0), *(self.q.key(name.decode()) for name in self.q.names()))
        self.model = Model(LIMIT)
        self.past = self.past[-10:]
        self.flushed |= {key for _, key in self.past}


@pytest.mark.timeout(3600)
def test_the_scripts_are_the_model(server, fast_server):
    machine = type("AnyVerbAt", (AnyVerb,), {"server": server})
    chosen = settings()
    if server is not fast_server:
        chosen = settings(max_examples=max(1, chosen.max_examples // 5))
    run_state_machine_as_test(machine, settings=chosen)
