"""When a Celery task is due: the ISO time in a message's headers as a delay for the broker.

Celery turns a countdown into an absolute time by the producer's clock. Subtracting the same clock again gives the
countdown back whatever that clock says, so only an ``eta`` that the caller gave as a time of day depends on it. From
there on the server's clock counts.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

__all__ = ["delay_ms", "parse_eta"]


def parse_eta(text: object, naive: tzinfo = timezone.utc) -> datetime | None:
    """Read an ISO 8601 time, with or without zone; ``naive`` is the zone of one without. None where it is not a time."""
    if isinstance(text, datetime):
        eta = text
    elif isinstance(text, str):
        try:
            eta = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
        except ValueError:
            found = _rarer_form(text)
            if found is None:
                return None
            eta = found
    else:
        return None
    return eta if eta.tzinfo is not None else eta.replace(tzinfo=naive)


def _rarer_form(text: str) -> datetime | None:
    """ISO 8601 allows more than CPython 3.10 reads; Celery brings dateutil, which reads it."""
    try:
        from dateutil.parser import isoparse  # type: ignore[import-untyped]

        found = isoparse(text)
    except (ImportError, ValueError, OverflowError):
        return None
    return found if isinstance(found, datetime) else None


def delay_ms(headers: Mapping[str, Any], now: float) -> int | None:
    """Milliseconds until the task of these headers is due, 0 where that is past.

    :param now: the clock that made the eta, in seconds since 1970
    :return: None where there is no eta, or one that nobody can read (the worker says so, as it would without a broker
        that delays)
    """
    text = headers.get("eta")
    if not text:
        return None
    eta = parse_eta(text, app_timezone())
    if eta is None:
        return None
    try:
        return max(0, math.ceil((eta.timestamp() - now) * 1000))
    except (OverflowError, ValueError):
        return None


def app_timezone() -> tzinfo:
    """The zone in which a Celery worker would read a time without one: the app's, and UTC without Celery."""
    state = sys.modules.get("celery._state")
    if state is None:
        return timezone.utc
    try:
        zone = state.get_current_app().timezone
    except Exception:  # noqa: BLE001 (an app that is not set up yet; its worker will not know better)
        return timezone.utc
    return zone if isinstance(zone, tzinfo) else timezone.utc
