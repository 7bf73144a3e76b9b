"""What each verb costs the server, in commands; and that it does not grow with the queue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from elkmq._core.call import Call
from elkmq._core.verbs import beat
from tests.scripts.rig import LEASE, Rig, named, outgoing, request, uuid_of


@pytest.fixture
def own(server, make_server, name) -> Rig:
    """A queue at a server of this test's own: what the server counts is what the test did."""
    rig = Rig(make_server(server.binary), name)
    rig.open("c")
    rig.put(*(outgoing() for _ in range(5)))
    return rig


def source_of(name: str) -> str:
    return (resources.files("elkmq") / "lua" / f"{name}.lua").read_text("utf-8")


def parse_cost(source: str) -> Counter[str]:
    """The commands that a script's header names in its line on cost."""
    found = re.search(r"^-- Cost[^:\n]*: ([^.;]+)[.;]", source, re.MULTILINE)
    assert found, "no line on cost"
    counts: Counter[str] = Counter()
    for part in found[1].replace("\n--", " ").split(","):
        name, _, times = part.strip().partition(" x")
        counts[name.lower()] += int(times or 1)
    return counts


VERBS: dict[str, Callable[[Rig], Call[Any]]] = {
    "enqueue": lambda q: q.verbs.enqueue([outgoing()]),
    "take": lambda q: q.verbs.take("c", 3),
    "settle": lambda q: q.verbs.settle("c", named(q.take("c", 1))),
    "complete": lambda q: q.verbs.complete("c", named(q.take("c", 1))[0]),
    "requeue": lambda q: q.verbs.requeue("c", named(q.take("c", 1)), failed=True),
    "reject": lambda q: q.verbs.reject("c", named(q.take("c", 1)), "rejected"),
    "start": lambda q: q.verbs.start("c", named(q.take("c", 1))[0]),
    "recover": lambda q: q.verbs.recover("c", [], 10),
    "beat": lambda q: beat([(q.verbs, "c", 2 * LEASE)]),
    "tend": lambda q: q.verbs.tend("c", LEASE, chores=False),
    "dequeue": lambda q: q.verbs.dequeue(),
    "respond": lambda q: q.verbs.respond(asked(q), 10, b"{}"),
}


def asked(q: Rig) -> str:
    event = request()
    q.put(event)
    return uuid_of(event)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_costs_what_its_header_says(own: Rig, name: str):
    if own.old and name in ("settle", "complete", "dequeue"):
        own.verbs.counting = 0  # one HINCRBY more, before 7.0
    expected = parse_cost(source_of(name))
    if name == "take":
        own.run(own.verbs.purge())
        own.put(*(outgoing() for _ in range(3)))
    if name == "recover":
        own.run(own.verbs.recover("c", [], 1))
    call = VERBS[name](own)
    assert own.commands_now(call) == expected


def test_the_budget_of_an_event_s_way():
    assert parse_cost(source_of("enqueue")) == Counter(mget=1, xadd=1, set=1)
    assert parse_cost(source_of("settle")) == Counter(xpending=1, xack=1, xdel=1)


def test_before_7_0_a_completion_is_counted_and_nothing_else_is(own: Rig):
    counted = own.commands_now(own.verbs.settle("c", named(own.take("c", 2))))["hincrby"]
    assert counted == (1 if own.old else 0)
    assert own.commands_now(own.verbs.enqueue([outgoing()]))["hincrby"] == 0


@pytest.mark.parametrize("n", [2, 100])
def test_many_are_settled_like_one(own: Rig, n: int):
    own.verbs.counting = 0
    own.put(*(outgoing() for _ in range(n)))
    assert own.commands_now(own.verbs.settle("c", named(own.take("c", n)))) == Counter(xpending=1, xack=1, xdel=1)


def test_many_are_taken_like_one(own: Rig):
    own.put(*(outgoing() for _ in range(200)))
    assert own.commands_now(own.verbs.take("c", 200)) == parse_cost(source_of("take"))


def test_a_response_costs_what_the_header_says(own: Rig):
    own.verbs.counting = 0
    uuid_ = asked(own)
    entry = own.take("c")[-1]
    call = own.verbs.complete("c", named([entry])[0], response=b"{}", request_uuid=uuid_, timeout=10)
    line = re.search(r"^-- With a response to an inbox: ([^.]+)\.", source_of("complete"), re.MULTILINE)
    assert line
    assert own.commands_now(call) == Counter(part.strip().lower() for part in line[1].split(","))


def work(q: Rig) -> list[Counter[str]]:
    """What every verb on the way of an event costs now."""
    costs = [q.commands_now(q.verbs.enqueue([outgoing()]))]
    before = q.take("c", 4)
    calls = (
        q.verbs.settle("c", named(before[:1])),
        q.verbs.requeue("c", named(before[1:2]), failed=True),
        q.verbs.reject("c", named(before[2:3]), "rejected"),
        q.verbs.complete("c", named(before[3:4])[0], events=[(q.keys, outgoing())]),
        q.verbs.take("c", 1),
        q.verbs.tend("c", LEASE, chores=True),
        beat([(q.verbs, "c", 2 * LEASE)]),  # an end that it has not already
        q.verbs.enqueue([outgoing(delay=90_000)]),
        q.verbs.dequeue(),
        q.verbs.stats(),
    )
    return [*costs, *map(q.commands_now, calls)]


def test_cost_does_not_grow_with_what_is_there(own: Rig):
    """Twenty times the depth, the deliveries in flight (ours and another's), the delayed, the dead, the marks."""
    q = own

    def grow(n: int) -> None:
        q.put(*(outgoing() for _ in range(3 * n)), *(outgoing(delay=60_000) for _ in range(n)))
        q.take("c", n)
        q.take("other", n)
        q.run(q.verbs.reject("other", named(q.take("other", n // 2)), "rejected"))

    q.open("other")
    grow(40)
    work(q)
    few = work(q)
    grow(800)
    many = work(q)
    for before, after in zip(few, many, strict=True):
        assert after == before


def test_acknowledgements_with_a_few_others_in_between_are_found_at_one_look(own: Rig):
    q = own
    q.verbs.counting = 0  # counting, before 7.0, takes the long way
    q.put(*(outgoing() for _ in range(7)))
    held = q.take("c")
    assert q.commands_now(q.verbs.settle("c", named(held[0:12:4]))) == Counter(xpending=1, xack=1, xdel=1)
    assert q.settle("c", [held[1], held[4], held[5]]) == frozenset()  # one of them was acknowledged before
    assert q.settle("other", held[6:9]) == {0, 1, 2}
    left = q.client.xpending_range(q.keys.lane(0), "elkmq", "-", "+", 100)
    assert [each["message_id"] for each in left] == [held[n].id for n in (2, 3, 6, 7, 9, 10, 11)]


def test_the_looks_at_what_is_pending_are_bounded_by_what_is_asked_for(own: Rig):
    """Not by commands alone: an XPENDING of everything would be one command as well."""
    q = own
    q.verbs.counting = 0  # counting, before 7.0, takes the long way
    q.put(*(outgoing() for _ in range(300)))
    held = q.take("c")
    asked_for = []
    with q.client.monitor() as monitor:
        q.settle("c", held[:10])
        q.run(q.verbs.requeue("c", named(held[10:15]), failed=True))
        q.run(q.verbs.start("c", named(held[15:16])[0]))
        q.run(q.verbs.leave("c", 20))
        q.client.echo("the end")
        for line in monitor.listen():
            words = line["command"].split()
            if words[0].upper() == "XPENDING":
                asked_for.append(int(words[5]))
            if words[0].upper() == "ECHO":
                break
    assert asked_for[:3] == [2 * 10 + 8, 5, 1]
    assert max(asked_for[3:]) <= 1000
    assert sum(asked_for[3:5]) <= 40
