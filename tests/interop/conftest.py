"""The original, whichever way it can be had, behind one face."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.celery.conftest import make_site  # noqa: F401 - a fixture
from tests.library.conftest import library  # noqa: F401 - a fixture
from tests.waiting import Program, eventually

CRATE = Path(__file__).parent / "rust" / "target" / "release" / "original"


class Raised(Exception):
    """What the original raised, as text."""


class Original:
    """A process that speaks the original's part, told what to do as `rust/src/main.rs` says."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._answered = 0

    def tell(self, call: str, **order: Any) -> None:
        """Have it make a call, and go on."""
        self.program.send(json.dumps({"call": call, **order}))

    def answer(self, timeout: float = 20.0) -> Any:
        """What the call returned; raises `Raised`."""
        line = self.program.wait_for("", timeout, since=self._answered)
        self._answered += 1
        found = json.loads(line)
        if "raised" in found:
            raise Raised(found["raised"])
        return found["returned"]

    def enqueue(self, action: str = "a", payload: str | None = None, timeout: int = 30, **more: Any) -> Any:
        self.tell("enqueue", action=action, payload=payload, timeout=timeout, **more)
        return self.answer()

    def dequeue(self) -> Any:
        self.tell("dequeue")
        return self.answer()


def command_of(kind: str) -> list[str]:
    """How to start it; skips the test where it cannot be had."""
    if kind == "crate":
        binary = os.environ.get("ELKMQ_ORIGINAL")
        if binary is None and not CRATE.exists():
            pytest.skip("the program on the crate is not built: see tests/interop/README.md")
        return [binary or str(CRATE)]
    if kind == "elk_mq" and importlib.util.find_spec("elk_mq") is None:
        if "ELKMQ_ORIGINAL" in os.environ:
            pytest.fail("the original's Python module is not installed")
        pytest.skip("the original's Python module is not installed: see tests/interop/README.md")
    return [sys.executable, "-m", "tests.interop.speaker", kind]


@pytest.fixture(params=["tests.interop.replay", "elk_mq", "crate"], ids=["recorded", "module", "crate"])
def originals(request: pytest.FixtureRequest, make_program: Callable[..., Program]) -> Callable[[str, str], Original]:
    """``originals(queue, url)``: a client of the original; from its recordings everywhere, the real ones where they are."""
    command = command_of(request.param)
    return lambda queue, url: Original(make_program(command=[*command, queue, url]))


def leftovers(url: str, name: str) -> dict[str, int]:
    """Every key of the queue that holds any entries, but for what goes by itself and what only counts or configures."""
    found: dict[str, int] = {}
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for key in client.scan_iter(match=f"{name}(*", count=1000):
            ending, kind = key[len(name) + 1 : -1], client.type(key)
            if client.pttl(key) > 0 or ending in ("counters", "rates", "settings", "signals") or kind == "none":
                continue
            size = {"stream": client.xlen, "list": client.llen, "zset": client.zcard, "hash": client.hlen}
            found[ending] = size[kind](key) if kind in size else 1
    return {ending: n for ending, n in found.items() if n}


def nothing_left(url: str, name: str, timeout: float = 15.0) -> None:
    """Wait until the queue holds nothing at all."""

    def holds() -> bool:
        assert leftovers(url, name) == {}
        return True

    eventually(holds, timeout, "nothing to be left behind")
