"""From an ISO time in the headers to a delay."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from kombu_elkmq.eta import delay_ms, parse_eta

NOW = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("eta", "delay"),
    [
        ("2030-01-01T12:00:10+00:00", 10_000),
        ("2030-01-01T12:00:10Z", 10_000),
        ("2030-01-01T12:00:10", 10_000),
        ("2030-01-01 12:00:10", 10_000),
        ("20300101T120010Z", 10_000),
        ("2030-01-01T14:00:10+02:00", 10_000),
        ("2030-01-01T12:00:00.0001+00:00", 1),
        ("2030-01-01T11:00:00+00:00", 0),
        ("1970-01-01T00:00:00+00:00", 0),
        (NOW + timedelta(days=400), 400 * 86_400_000),
        ("tomorrow", None),
        ("", None),
        (None, None),
        (17, None),
        ("0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_delay(eta: object, delay: int | None) -> None:
    assert delay_ms({"eta": eta}, NOW.timestamp()) == delay


def test_a_countdown_does_not_depend_on_the_producers_clock() -> None:
    wrong = NOW - timedelta(hours=1)
    eta = (wrong + timedelta(seconds=5)).isoformat()
    assert delay_ms({"eta": eta}, wrong.timestamp()) == 5000


def test_a_time_without_zone_is_in_the_zone_given() -> None:
    berlin = timezone(timedelta(hours=1))
    assert parse_eta("2030-01-01T13:00:00", berlin) == NOW
    assert parse_eta("2030-01-01T12:00:00Z", berlin) == NOW
