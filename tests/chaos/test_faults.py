"""Every fault of the chaos suite, in its short form: real processes, real servers, the same judge."""

from __future__ import annotations

import pytest

from elkmq.cli.chaos.catalogue import FAULTS
from elkmq.cli.chaos.run import Target, one
from elkmq.cli.chaos.stage import Settings
from elkmq.cli.demo.screen import Screen

SHORT = Settings(kinds=(), seed=1, lease=3.0, rounds=2, pause=0.5, rate=40.0)

KINDS = {
    "kill": ("sync", "asyncio", "kombu", "prefork"),
    "cut": ("sync", "asyncio", "kombu", "threads"),
}
"""Kinds of workers, spread so that each meets what is most likely to hurt it, and the run stays short."""


@pytest.mark.parametrize("name", [name for name in FAULTS if not FAULTS[name].long])
def test_promises_hold_under(name, tmp_path, capsys):
    from dataclasses import replace

    kinds = KINDS.get(name, ("sync", "asyncio", "kombu"))
    kinds = tuple(kind for kind in kinds if kind in FAULTS[name].kinds)
    with Screen(stderr=False) as screen:
        verdict = one(FAULTS[name], Target(None, "elkmq"), replace(SHORT, kinds=kinds), str(tmp_path), screen)
    assert [promise.text for promise in verdict.promises if not promise.kept] == []
