"""Where messages go: the rules of AMQP's four exchange types."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_elkmq.exchanges import Binding, Exchange, RoutingTable, headers_match, topic_matches

WORDS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=5)
PATTERN = st.lists(st.sampled_from(["a", "b", "ab", "*", "#"]), max_size=6)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("stock.usd", "stock.usd", True),
        ("stock.*", "stock.usd", True),
        ("stock.*", "stock", False),
        ("stock.*", "stock.usd.nyse", False),
        ("stock.#", "stock", True),
        ("stock.#", "stock.usd.nyse", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("*", "", False),
        ("", "", True),
        ("", "a", False),
        ("#.error", "error", True),
        ("#.error", "a.b.error", True),
        ("*.error.#", "a.error", True),
        ("a.#.b.#.c", "a.b.x.b.c", True),
        ("a.#.b.#.c", "a.x.c", False),
        ("a+.b", "aa.b", False),
        ("grün.*", "grün.rot", True),
    ],
)
def test_topic(pattern: str, key: str, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


@given(PATTERN, WORDS)
def test_topic_agrees_with_a_regular_expression(pattern: list[str], words: list[str]) -> None:
    parts = {"*": r"\w+ ", "#": r"(?:\w+ )*"}
    expression = "".join(parts.get(word, f"{word} ") for word in pattern)
    expected = re.fullmatch(expression, "".join(f"{word} " for word in words)) is not None
    assert topic_matches(".".join(pattern), ".".join(words)) is expected


def test_a_pattern_of_many_hashes_takes_no_longer_than_its_length() -> None:
    assert not topic_matches(".".join(["#", "a"] * 200) + ".b", ".".join(["a"] * 2000))


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1}, {"a": 2}, False),
        ({"x-match": "any"}, {"a": 1}, False),
        ({}, {}, True),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"a": True}, {"a": 1}, False),
        ({"x-own": 1}, {}, True),
        ({"x-match": "all-with-x", "x-own": 1}, {}, False),
        ({"x-match": "any-with-x", "x-own": 1}, {"x-own": 1}, True),
    ],
)
def test_headers(arguments: dict[str, object], headers: dict[str, object], matches: bool) -> None:
    assert headers_match(arguments, headers) is matches


def table() -> RoutingTable:
    return RoutingTable(
        [
            Exchange("d"),
            Exchange("t", "topic"),
            Exchange("f", "fanout"),
            Exchange("h", "headers"),
            Exchange("chain"),
            Exchange("loop", "fanout"),
            Exchange("strict", arguments={"alternate-exchange": "f"}),
        ],
        [
            Binding("d", "q1", "k"),
            Binding("d", "q2", "k"),
            Binding("d", "q1", "other"),
            Binding("t", "q1", "#"),
            Binding("t", "q1", "a.*"),
            Binding("t", "q2", "a.*"),
            Binding("f", "q1"),
            Binding("f", "q3", "ignored"),
            Binding("h", "q1", arguments={"a": 1}),
            Binding("chain", "t", "a.b", to_exchange=True),
            Binding("chain", "h", "a.h", to_exchange=True),
            Binding("loop", "loop", to_exchange=True),
            Binding("loop", "q4"),
            Binding("strict", "q5", "known"),
        ],
        version=7,
    )


@pytest.mark.parametrize(
    ("exchange", "key", "queues"),
    [
        ("", "anything", ("anything",)),
        ("d", "k", ("q1", "q2")),
        ("d", "nobody", ()),
        ("t", "a.b", ("q1", "q2")),
        ("t", "b", ("q1",)),
        ("f", "whatever", ("q1", "q3")),
        ("chain", "a.b", ("q1", "q2")),
        ("loop", "", ("q4",)),
        ("strict", "known", ("q5",)),
        ("strict", "unknown", ("q1", "q3")),
        ("missing", "k", ()),
    ],
)
def test_route(exchange: str, key: str, queues: tuple[str, ...]) -> None:
    routes = table()
    assert routes.route(exchange, key) == queues
    assert routes.route(exchange, key) == queues, "the remembered answer"


def test_an_answer_that_depends_on_headers_is_not_remembered() -> None:
    routes = table()
    assert routes.route("h", "", {"a": 1}) == ("q1",)
    assert routes.route("h", "", {"a": 2}) == ()
    assert routes.route("chain", "a.h", {"a": 1}) == ("q1",)
    assert routes.route("chain", "a.h", {}) == ()


def test_bindings_of_one_exchange_and_of_all() -> None:
    assert [binding.destination for binding in table().bindings("f")] == ["q1", "q3"]
    assert len(list(table().bindings())) == 14
