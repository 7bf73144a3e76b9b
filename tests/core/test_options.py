"""Names, spans of time and settings: what is refused, with a sentence that helps and stays short."""

from __future__ import annotations

from datetime import timedelta

import pytest

from elkmq._aio.session import server_version
from elkmq.errors import InvalidOption, QueueNameError
from elkmq.keys import _OWN_ENDINGS, _OWN_FAMILIES
from elkmq.options import Options, QueueSettings, check_name, milliseconds, seconds, whole

HUGE = 10**5000


def shown(value):
    return "huge" if isinstance(value, int) and abs(value) > 1e9 else repr(value)


@pytest.mark.parametrize("name", ["a", "foo.bar-baz_1", "ä€😀", "a(b)", "x" * 255, "a:b", "(settings", "a/b|c*?[]"])
def test_a_name_that_can_be_one(name):
    assert check_name(name) == name


BAD_NAMES = {
    "": "is empty",
    "x" * 256: "takes 256 bytes, more than 255",
    "ä" * 128: "takes 256 bytes",
    "a{b": "has braces",
    "a}b": "has braces",
    "{a}": "has braces",
    "a b": "white space",
    " a": "white space",
    "a\n": "white space or control",
    "a\tb": "white space or control",
    "a\0b": "control characters",
    "a\x7f": "control characters",
    "a\u2028b": "white space or control",
    "a\u202eb": "control characters",
    "a\ud800": "half a surrogate pair",
    "foo(event_stream)": "ends like one of ElkMQ's own keys",
    "foo(enqueued:1)": "ends like one of ElkMQ's own keys",
    7: "is int, not text",
    None: "is NoneType, not text",
    b"foo": "is bytes, not text",
}


@pytest.mark.parametrize(("name", "why"), BAD_NAMES.items(), ids=[repr(name)[:20] for name in BAD_NAMES])
def test_a_name_that_can_be_none(name, why):
    with pytest.raises(QueueNameError) as caught:
        check_name(name)
    assert why in str(caught.value)
    assert "nothing was sent; choose another name" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("ending", [*_OWN_ENDINGS, *(family + "x" for family in _OWN_FAMILIES)])
def test_no_name_ends_like_a_key(ending):
    with pytest.raises(QueueNameError):
        check_name(f"foo({ending})")


@pytest.mark.parametrize(("value", "expected"), [(0, 0.0), (1.5, 1.5), (timedelta(milliseconds=2), 0.002), (10, 10.0)])
def test_seconds(value, expected):
    assert seconds("timeout", value) == expected


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, float("nan"), float("inf"), True, "1", None, HUGE, -HUGE, timedelta(seconds=-1), [1], 1j],
    ids=shown,
)
def test_what_are_no_seconds(value):
    with pytest.raises(InvalidOption, match="^timeout is .*nothing was sent") as caught:
        seconds("timeout", value)
    assert len(str(caught.value)) < 200


def test_a_range_of_seconds_is_said():
    with pytest.raises(InvalidOption, match="lease is 0.5 s, not from 1 to 3600"):
        seconds("lease", 0.5, least=1, most=3600)
    with pytest.raises(InvalidOption, match="hold is 0 s, below 0.001"):
        seconds("hold", 0, least=0.001)


def test_milliseconds_never_round_down_to_nothing():
    assert [milliseconds("delay", value) for value in (0, 1e-9, 0.0004, 0.0016, 1)] == [0, 1, 1, 2, 1000]


@pytest.mark.parametrize("value", [-1, 256, 1.0, True, "1", None, HUGE, float("nan")], ids=shown)
def test_what_is_no_whole_number_in_the_range(value):
    with pytest.raises(InvalidOption, match="not a whole number from 0 to 255") as caught:
        whole("priority", value, 0, 255)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "bad",
    [
        {"lease": 0.5},
        {"lease": 3601},
        {"lease": "30"},
        {"dedupe_window": -1},
        {"dedupe_window": 90_000},
        {"delivery_limit": -1},
        {"delivery_limit": 2.5},
        {"global_keyprefix": None},
        {"global_keyprefix": "a{b"},
        {"global_keyprefix": "\ud800"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(bad):
    with pytest.raises(InvalidOption, match=next(iter(bad))):
        Options(**bad)


def test_settings_survive_their_way_to_the_server_and_back():
    settings = QueueSettings(
        max_length=5, overflow="reject", ttl=1.5, delivery_limit=0, retention_count=7, retention=timedelta(hours=1),
        dead_letter_max=9, dead_letter_expired=True, single_active=True, paused=True,
    )  # fmt: skip
    text = {name: value for name, value in settings.changes().items() if value}
    again = QueueSettings.read(text)
    assert again.retention == 3600.0
    assert again.changes() == settings.changes()


def test_settings_of_a_newer_release_are_left_out():
    assert QueueSettings.read({"max_length": "5", "of_tomorrow": "x"}) == QueueSettings(max_length=5)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ([b"server", b"redis", b"version", b"6.0.16", b"proto", 2], (6, 0)),
        ({b"server": b"valkey", b"version": b"9.1.2"}, (9, 1)),
        ([b"version", b"255.255.255"], (255, 255)),
        ([b"version", b"8"], (8, 0)),
        ([b"version", b"7.4-rc1"], (7, 4)),
        ([b"version", b"unstable"], (6, 0)),
        ([b"server", b"other"], (6, 0)),
        ([], (6, 0)),
        ([b"odd"], (6, 0)),
    ],
)
def test_the_servers_version(reply, expected):
    assert server_version(reply) == expected
