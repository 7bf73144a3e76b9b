"""Which slot a call is for."""

from __future__ import annotations

import pytest

from elkmq._core.call import Call, command, slot_key
from elkmq._core.discovery import SlotMap
from elkmq._core.entry import Outgoing
from elkmq._core.routing import ClusterRouting
from elkmq._core.verbs import Verbs, wait_for_entries

ROUTING = ClusterRouting("p:")
VERBS = Verbs(ROUTING.queue("one\r\ntwo"))
LANE = b"p:{one\r\ntwo}(event_stream)"


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (VERBS.take("me", 3), LANE),
        (VERBS.settle("me", [(b"0", b"1-0")], keep=0), LANE),
        (ROUTING.enqueue("one\r\ntwo", [Outgoing("{}", "u", 0, 0, "", ())]), LANE),
        (VERBS.outbox(), b"p:{one\r\ntwo}(outbox)"),
        (wait_for_entries([(VERBS, (b"r", b"0"))], "me", 1, 100), b"p:{one\r\ntwo}(wake)"),
        (ROUTING.exchange_version("x"), b"p:{elkmq}(exchange:x)"),
        (ROUTING.sweep_due(), b"p:{elkmq}(expiring)"),
        (command("INFO", "server", parse=str), None),
        (command("PING", parse=str), None),
    ],
)
def test_the_key_of_a_call(call: Call[object], key: bytes | None) -> None:
    assert slot_key(call) == key


def test_the_owner_of_a_slot() -> None:
    reply = [
        [8192, 16383, [b"10.0.0.2", 7001, b"id"], [b"10.0.0.9", 7009, b"replica"]],
        [0, 5460, [b"", 7000, b"id"]],  # no host: the one that was asked
        [5462, 8191, [b"10.0.0.3", 7002, b"id"]],
    ]
    slots = SlotMap(reply, ("asked", 1))
    assert slots.owner(b"bar") == ("asked", 7000)  # slot 5061
    assert slots.owner(b"x{foo}y") == ("10.0.0.2", 7001)  # slot 12182
    missing = next(key for n in range(100_000) if SlotMap([[5461, 5461, [b"h", 1]]], ("", 0)).owner(key := b"%d" % n))
    assert slots.owner(missing) is None
    assert SlotMap([], ("asked", 1)).owner(b"bar") is None
