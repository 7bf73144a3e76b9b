"""What a service says when a handler fails, and what a handler can say itself."""

from __future__ import annotations

import json
import traceback

from elkmq.options import Seconds, seconds

LONGEST_ERROR = 2000
"""Characters of an error's text that are kept with an event."""

FAILURE = "elkmq.error"
"""Action of a response that tells of a failure; its payload is JSON with ``type`` and ``message``."""


class Reject(Exception):
    """Raised by a handler: give the event up, into the dead letters, with this text."""


class Retry(Exception):
    """Raised by a handler: hand the event out again after ``delay`` seconds; ``failed`` counts it towards the limit."""

    def __init__(self, delay: Seconds = 0.0, *, failed: bool = True) -> None:
        self.delay = seconds("delay", delay)
        super().__init__(f"again in {self.delay:g} s")
        self.failed = failed


def as_text(error: object) -> str:
    """What went wrong, as text that can be sent: not too long, no half of a surrogate pair, whatever the error's class does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's class
        text = f"a {type(error).__name__} that cannot be shown"
    return text[:LONGEST_ERROR].encode(errors="replace").decode()


def told(error: BaseException) -> str:
    """An exception in one line: its class and its text."""
    return f"{type(error).__name__}: {as_text(error)}"


def failure(error: BaseException) -> str:
    """The payload of a response that tells of an error."""
    text = json.dumps({"type": type(error).__name__, "message": as_text(error)}, ensure_ascii=False)
    return text.encode(errors="replace").decode()


def failure_text(payload: str | None) -> str:
    """What `failure` said, for a person."""
    try:
        found = json.loads(payload or "")
        return f"{found['type']}: {found['message']}"
    except (ValueError, TypeError, KeyError):
        return str(payload)


def backoff(failed: int, first: float, most: float) -> float:
    """Seconds until an event that has failed ``failed`` times before is tried again: doubling."""
    return min(most, first * 2.0 ** min(failed, 30))


def trace(error: BaseException) -> str:
    """The traceback as text that any log can be written with: half a surrogate pair in it is spelled out."""
    return "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
