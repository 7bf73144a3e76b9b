"""Waiting for things to happen: never for a time to pass, and a failure says what was awaited."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two looks, at first and at most."""


class NotInTime(AssertionError):
    """What a test waited for did not happen."""


def not_in_time(timeout: float, why: str, last: object) -> NotInTime:
    """The error that says what was awaited and what was seen instead."""
    return NotInTime(f"waited {timeout:g} s for {why}; last seen: {last!r}")


def eventually(
    predicate: Callable[[], T],
    timeout: float = 10.0,
    why: str = "the predicate to hold",
    *,
    ignoring: tuple[type[Exception], ...] = (AssertionError,),
) -> T:
    """Return the predicate's first true value; fail after ``timeout`` seconds.

    An exception in ``ignoring`` counts as "not yet" and is shown by the failure.
    """
    deadline, pause = time.monotonic() + timeout, FIRST_PAUSE
    last: object
    while True:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except ignoring as error:
            last = error
        if time.monotonic() > deadline:
            raise not_in_time(timeout, why, last)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
