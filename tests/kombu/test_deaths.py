"""How a message died, in RabbitMQ's headers."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_elkmq.deaths import Reason, goes_in_circles, record_death


def die(headers: dict[str, Any], queue: str, reason: Reason = "rejected", **more: Any) -> dict[str, Any]:
    return record_death(
        headers, queue=queue, reason=reason, exchange="x", routing_keys=["k"], died=1700000000.9, **more
    )


def test_the_first_death() -> None:
    before = {"own": 1}
    after = die(before, "work", "expired", expiration="1000")
    assert before == {"own": 1}
    assert after == {
        "own": 1,
        "x-death": [
            {
                "reason": "expired", "count": 1, "queue": "work", "time": 1700000000, "exchange": "x",
                "routing-keys": ["k"], "original-expiration": "1000",
            }
        ],
        "x-first-death-reason": "expired",
        "x-first-death-queue": "work",
        "x-first-death-exchange": "x",
        "x-last-death-reason": "expired",
        "x-last-death-queue": "work",
        "x-last-death-exchange": "x",
    }  # fmt: skip


def test_another_death_of_the_same_kind_is_counted_and_comes_first() -> None:
    headers = die(die(die({}, "work"), "retry", "expired"), "work")
    assert [(death["queue"], death["reason"], death["count"]) for death in headers["x-death"]] == [
        ("work", "rejected", 2),
        ("retry", "expired", 1),
    ]
    assert headers["x-first-death-queue"] == "work"
    assert headers["x-last-death-reason"] == "rejected"


def test_the_same_queue_for_another_reason_is_another_record() -> None:
    headers = die(die({}, "work"), "work", "maxlen")
    assert [death["reason"] for death in headers["x-death"]] == ["maxlen", "rejected"]
    assert headers["x-first-death-reason"] == "rejected"


@pytest.mark.parametrize(
    ("deaths", "queue", "circles"),
    [
        ([], "a", False),
        ([("a", "expired")], "a", True),
        ([("a", "expired")], "b", False),
        ([("a", "expired"), ("b", "expired")], "a", True),
        ([("a", "expired"), ("b", "rejected")], "a", False),
        ([("a", "rejected"), ("b", "expired")], "b", True),
        ([("a", "rejected"), ("b", "expired")], "a", False),
    ],
)
def test_circles(deaths: list[tuple[str, Reason]], queue: str, circles: bool) -> None:
    headers: dict[str, Any] = {}
    for where, why in deaths:
        headers = die(headers, where, why)
    assert goes_in_circles(headers, queue) is circles


@pytest.mark.parametrize(
    "junk", [None, "text", [1], [{"queue": 1}], [{"queue": "work", "reason": "rejected", "count": "x"}]]
)
def test_headers_that_somebody_else_made_up_do_no_harm(junk: object) -> None:
    headers = die({"x-death": junk}, "work")
    assert headers["x-death"][0]["count"] == 1
    assert not goes_in_circles({"x-death": junk}, "other")
