"""The headers with which RabbitMQ records how a message died, and by which it stops one from going round for ever.

``x-death`` is a list of tables, the latest death first, one for each pair of queue and reason; a second death of the
same kind raises ``count`` and moves the table to the front. The first and the last death stand in headers of their own.
Source: RabbitMQ, "Dead Letter Exchanges", "Dead-Lettering Effects on Messages" and "Dead-Lettered Messages in Cycles".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["Reason", "goes_in_circles", "record_death"]

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]


def record_death(
    headers: Mapping[str, Any],
    *,
    queue: str,
    reason: Reason,
    exchange: str,
    routing_keys: Sequence[str],
    died: float,
    count: int = 1,
    expiration: str | None = None,
) -> dict[str, Any]:
    """Return a copy of a message's headers that records its death.

    :param exchange: where the message had been published, ``""`` for the default exchange
    :param routing_keys: what it was published with
    :param died: seconds since 1970
    :param expiration: the message's own time to live, taken off so that it does not expire again; in milliseconds as text
    """
    old = _deaths(headers)
    record: dict[str, Any] | None = None
    others = []
    for death in old:
        if record is None and death.get("queue") == queue and death.get("reason") == reason:
            record = {**death, "count": _number(death.get("count")) + count}
        else:
            others.append(death)
    if record is None:
        record = {
            "reason": reason,
            "count": count,
            "queue": queue,
            "time": int(died),
            "exchange": exchange,
            "routing-keys": list(routing_keys),
        }
        if expiration is not None:
            record["original-expiration"] = expiration
    result = dict(headers)
    result["x-death"] = [record, *others]
    if not old:
        result.setdefault("x-first-death-reason", reason)
        result.setdefault("x-first-death-queue", queue)
        result.setdefault("x-first-death-exchange", exchange)
    result["x-last-death-reason"] = reason
    result["x-last-death-queue"] = queue
    result["x-last-death-exchange"] = exchange
    return result


def goes_in_circles(headers: Mapping[str, Any], queue: str) -> bool:
    """Whether a dead message that is about to enter ``queue`` has been there before and nobody rejected it on the way.

    RabbitMQ drops such a message: nothing but time would keep it going round. Call it with the death recorded.
    """
    deaths = _deaths(headers)
    for position, death in enumerate(deaths):
        if death.get("queue") == queue:
            return all(death.get("reason") != "rejected" for death in deaths[: position + 1])
    return False


def _deaths(headers: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = headers.get("x-death")
    return [death for death in found if isinstance(death, dict)] if isinstance(found, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
