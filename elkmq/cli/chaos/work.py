"""What handlers do with a message, whatever brought it."""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import Any

from elkmq.cli.chaos.plan import Part
from elkmq.cli.chaos.records import BEGUN, Recorder

EXIT = "exit"
"""A message that ends its process, as the out-of-memory killer does."""
HOLD = "hold"
"""A message that takes the seconds that follow."""
LATER = "later"
"""A message that is published with a delay of the seconds that follow, where the client can do that."""
GIL = "gil"
"""A message that holds Python's global lock, in C, for the seconds that follow."""


def number_of(body: str) -> int:
    """The number of a message."""
    return int(body.split(maxsplit=1)[0])


def with_kombu() -> Any:
    """Kombu, knowing ``elkmq://``; it is typed in part only, which helps nobody."""
    importlib.import_module("kombu_elkmq").register()
    return importlib.import_module("kombu")


def begin(part: Part, record: Recorder, body: str, slot: int | None = None) -> float:
    """Note that it begins; what is to be done at once is done. Returns the seconds that it takes."""
    number, *special = body.split()
    record.write(BEGUN, int(number), slot)
    what = special[0] if special else ""
    if what == EXIT:
        os._exit(13)
    if what == GIL:
        hold_the_lock(float(special[1]))
    return float(special[1]) if what == HOLD else part.work


def hold_the_lock(seconds: float) -> None:
    """Hold Python's global lock: one call into C that lets no other thread run until it returns."""
    if not sys.platform.startswith("linux"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sum(range(10**7))
        return
    import ctypes

    # PyDLL, unlike CDLL, keeps the lock during a call.
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))
