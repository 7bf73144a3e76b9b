"""Every fault of the chaos suite, in its short form: real processes, real servers, the same judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elkmq.cli.chaos.catalogue import FAULTS
from elkmq.cli.chaos.run import obstacle, one
from elkmq.cli.chaos.stage import Settings
from elkmq.cli.chaos.target import Target
from elkmq.cli.demo.screen import Screen

SHORT = Settings(kinds=(), seed=1, lease=3.0, rounds=2, pause=0.5, rate=40.0, socket_timeout=1.0)

KINDS = {
    "kill": ("sync", "asyncio", "prefork"),
    "pool": ("prefork",),
    "stop": ("sync", "kombu", "prefork"),
    "cut": ("sync", "asyncio", "threads"),
    "half-open": ("asyncio", "kombu", "solo"),
    "answers": ("sync", "kombu", "prefork"),
    "crash": ("sync", "kombu", "threads"),
    "memory": ("sync", "kombu", "early"),
    "long-tasks": ("asyncio", "kombu", "solo"),
    "server-clock": ("sync", "kombu"),
    "failover": ("sync", "kombu"),
    "failover-wait": ("asyncio", "kombu"),
}
"""Kinds of workers, spread so that each meets what is most likely to hurt it, and the run stays short."""

LEASES = {"half-open": 6.0}
"""Seconds, where the usual ones are too few: that a connection is mute takes a heartbeat a second to notice, and the outage comes on top."""

BY_HAND = ("held-lock", "script-flush-kill")
"""Those that promise nothing, and are there to be looked at."""


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if not fault.long and name not in BY_HAND])
def test_promises_hold_under(name, tmp_path):
    fault = FAULTS[name]
    wanted = KINDS.get(name, ("sync", "kombu"))
    settings = replace(
        SHORT, kinds=tuple(kind for kind in wanted if kind in fault.kinds), lease=LEASES.get(name, SHORT.lease)
    )
    target = Target(None, "elkmq")
    if why := obstacle(fault, target, settings.kinds):
        pytest.skip(why)
    with Screen(stderr=False) as screen:
        verdict = one(fault, target, settings, str(tmp_path), screen)
    assert [promise.text for promise in verdict.promises if not promise.kept] == []


def test_promises_hold_under_everything_at_random(tmp_path):
    settings = replace(SHORT, kinds=("sync", "asyncio", "kombu"), duration=10.0, rate=25.0)
    with Screen(stderr=False) as screen:
        verdict = one(FAULTS["random"], Target(None, "elkmq"), settings, str(tmp_path), screen)
    assert [promise.text for promise in verdict.promises if not promise.kept] == []


def test_a_broken_promise_is_seen(tmp_path):
    # Kombu's own transport for Redis: a killed worker's messages come back after an hour by default, here within a lease,
    # and what was running when the connections were cut runs again.
    settings = replace(SHORT, kinds=("kombu",), rounds=3, lease=2.0)
    with Screen(stderr=False) as screen:
        verdict = one(FAULTS["cut"], Target(None, "redis"), settings, str(tmp_path), screen)
    assert not verdict.kept
