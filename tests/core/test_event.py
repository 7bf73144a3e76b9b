"""Events: what they accept, what they promise, and their bytes against what the original wrote."""

from __future__ import annotations

import copy
import json
import pickle
import uuid
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from elkmq.errors import EventQueueError, InvalidEvent, JSONParseError
from elkmq.event import MAX_EVENT_BYTES, ServiceEvent, TimestampedEvent, from_plain, plainly_an_event

RECORDINGS = Path(__file__).parent.parent / "interop" / "recordings"


def recorded(name: str, rows: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RECORDINGS / name).read_text("utf-8"))[rows]
    return found


def wire_of(row: dict[str, Any]) -> bytes:
    wire = row["wire"]
    return wire["text"].encode() if "text" in wire else bytes.fromhex(wire["hex"])


EVENTS = recorded("events.json", "events")
PARSED = [row for row in recorded("parsing.json", "entries") if "wire" in row]
STRICTER = {"timeout 0", "array"}  # documented at from_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
events = st.builds(
    ServiceEvent,
    st.integers(1, 65535),
    texts,
    st.none() | texts,
    uuid=st.integers(0, 2**128 - 1).map(lambda n: uuid.UUID(int=n)),
)


# -- the bytes of the original


@pytest.mark.parametrize("row", EVENTS, ids=lambda row: ascii(row["action"][:20]))
def test_writes_the_bytes_that_the_original_wrote(row):
    event = ServiceEvent(row["timeout"], row["action"], row["payload"], uuid=uuid.UUID(row["uuid"]))
    assert event.to_json() == wire_of(row)
    assert event.to_dict() == row["to_dict"]


@pytest.mark.parametrize("row", EVENTS, ids=lambda row: ascii(row["action"][:20]))
def test_reads_the_bytes_that_the_original_wrote(row):
    assert ServiceEvent.from_json(wire_of(row)).to_dict() == row["to_dict"]


@pytest.mark.parametrize("row", PARSED, ids=lambda row: ascii(row["title"]))
def test_reads_what_the_original_reads_and_refuses_what_it_refuses(row):
    returned = row["outcome"].get("returned")
    if returned is None or row["title"] in STRICTER:
        with pytest.raises(JSONParseError, match="is not an event in elk-mq's JSON form: .+; correct its producer"):
            ServiceEvent.from_json(wire_of(row))
    else:
        assert ServiceEvent.from_json(wire_of(row)).to_dict() == returned["tuple"][1]["ServiceEvent"]


# -- the codec


@given(events)
@example(ServiceEvent(1, "\u2028\x7f\0", "\U0010ffff"))
def test_reading_gives_back_what_was_written(event):
    assert ServiceEvent.from_json(event.to_json()) == event


@pytest.mark.parametrize("payload", ['{"a": "b"}', '""', '"', "", None])
@pytest.mark.parametrize("number", [0, 2**127, 2**128 - 1])
def test_an_event_with_json_for_its_payload_is_read_in_the_short_way_too(payload, number):
    event = ServiceEvent(65535, "shop.add", payload, uuid=uuid.UUID(int=number))
    found = plainly_an_event(event.to_json())
    assert (found is None and number > 34 * 10**37) or from_plain(found) == event
    assert ServiceEvent.from_json(event.to_json()) == event


@given(events)
def test_writes_what_the_json_module_writes(event):
    fields = {
        "request_uuid": event.uuid.int, "timeout": event.timeout, "action": event.action, "payload": event.payload,
    }  # fmt: skip
    assert event.to_json() == json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


@given(events, st.permutations(range(4)), st.sampled_from([None, 1, "\t"]), st.booleans(), st.booleans())
def test_reads_other_writers_forms(event, order, indent, escaped, more):
    fields = list(json.loads(event.to_json()).items())
    other = dict([fields[i] for i in order] + ([("more", {"timeout": [1]})] if more else []))
    assert ServiceEvent.from_json(json.dumps(other, indent=indent, ensure_ascii=escaped).encode()) == event


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["request_uuid", "timeout", "action", "payload", "more"]), inner), max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_else_is_a_parse_error_and_nothing_worse(data):
    with suppress(JSONParseError):
        event = ServiceEvent.from_json(data)
        assert ServiceEvent.from_json(event.to_json()) == event


def test_a_field_of_another_name_is_not_the_payload():
    assert ServiceEvent.from_json(b'{"request_uuid":5,"timeout":10,"action":"a","more":"x"}').payload is None


@pytest.mark.parametrize("space", ["\xa0", "\x0b", "\u2028", "\ufeff"], ids=ascii)
def test_only_json_s_own_spaces_may_stand_around_it(space):
    good = ServiceEvent(10, "a").to_json()
    assert ServiceEvent.from_json(b"\t\n\r " + good + b" \r\n\t").timeout == 10
    for wire in (good + space.encode(), space.encode() + good):
        with pytest.raises(JSONParseError):
            ServiceEvent.from_json(wire)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b'{"timeout":10,"action":"a"}', "field request_uuid is missing"),
        (b'{"request_uuid":5,"request_uuid":5,"timeout":10,"action":"a"}', "field request_uuid is there twice"),
        (b'{"request_uuid":%b,"timeout":10,"action":"a"}' % (b"9" * 200), "request_uuid is a number of 665 bits, not"),
        (b'{"request_uuid":5,"timeout":"10","action":"a"}', "timeout is '10', not whole seconds from 1 to 65535"),
        (b'{"request_uuid":5,"timeout":true,"action":"a"}', "timeout is True, not whole seconds"),
        (b'{"request_uuid":5,"timeout":10,"action":null}', "action is None, not text"),
        (b'{"request_uuid":5,"timeout":10,"action":"a","payload":{}}', "payload is an object, neither text nor null"),
        (b'{"request_uuid":5,"timeout":10,"action":"\\ud800"}', "half a surrogate pair"),
        (b"[5]", r"it is \[5\], not an object"),
        (b"nope", "it is not JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"{} {}", "something follows the object"),
        (b"[" * 200_000, "nested too deeply|it is not JSON"),
    ],
)
def test_a_parse_error_says_what_is_wrong(wire, why):
    with pytest.raises(JSONParseError, match=why):
        ServiceEvent.from_json(wire)


# -- what an event accepts


@pytest.mark.parametrize("timeout", [0, -1, 65_536, 10**400, 1.5, float("nan"), True, "5", None, b"5", [5]], ids=ascii)
def test_refuses_a_timeout_that_is_not_whole_seconds_from_1_to_65535(timeout):
    with pytest.raises(InvalidEvent, match="timeout is .+; nothing was sent; give whole seconds from 1 to 65535"):
        ServiceEvent(timeout, "a")


@pytest.mark.parametrize("timeout", [1, 65_535])
def test_accepts_the_shortest_and_the_longest_timeout(timeout):
    assert ServiceEvent(timeout, "a").timeout == timeout


def test_accepts_a_number_that_counts_as_an_int():
    class Seconds:
        def __index__(self):
            return 7

    assert type(ServiceEvent(Seconds(), "a").timeout) is int


@pytest.mark.parametrize("value", [5, b"x", ["x"], "\ud800", "x\udfff"], ids=ascii)
def test_refuses_text_that_is_none(value):
    with pytest.raises(InvalidEvent, match="action (is|has) .+; nothing was sent"):
        ServiceEvent(1, value)
    with pytest.raises(InvalidEvent, match="payload (is|has) .+; nothing was sent"):
        ServiceEvent(1, "a", value)


def test_refuses_an_action_that_is_none():
    with pytest.raises(InvalidEvent, match="action is NoneType, not text"):
        ServiceEvent(1, None)


def test_refuses_a_uuid_that_is_text():
    with pytest.raises(InvalidEvent, match="uuid is str; nothing was sent"):
        ServiceEvent(1, "a", uuid=str(uuid.uuid4()))


def test_keeps_text_with_zero_bytes_and_empty_text():
    assert ServiceEvent.from_json(ServiceEvent(1, "", "a\0b").to_json()).payload == "a\0b"
    assert ServiceEvent.from_json(ServiceEvent(1, "", "").to_json()).payload == ""


def test_a_subclass_of_str_becomes_plain_text():
    class Action(str, Enum):
        GO = "go"

    assert type(ServiceEvent(1, Action.GO).action) is str
    assert ServiceEvent(1, Action.GO).action == "go"


def test_refuses_600_megabytes_before_anything_is_sent():
    payload = "x" * 600_000_000
    with pytest.raises(InvalidEvent, match="600,000,000 bytes and Redis takes at most 536,870,912; nothing was sent"):
        ServiceEvent(1, "a", payload)


def test_refuses_what_is_too_large_only_once_it_is_escaped(monkeypatch):
    monkeypatch.setattr("elkmq.event.MAX_EVENT_BYTES", 1000)
    event = ServiceEvent(1, "a", "\x01" * 900)
    with pytest.raises(InvalidEvent, match=r"takes 5,\d+ bytes"):
        event.to_json()
    assert MAX_EVENT_BYTES == 512 * 1024 * 1024


def test_what_is_wrong_with_an_event_is_a_value_error_and_one_of_ours():
    assert issubclass(InvalidEvent, ValueError)
    assert issubclass(InvalidEvent, EventQueueError)


# -- what an event promises


def test_each_event_has_a_random_uuid_of_version_4():
    found = {ServiceEvent(1, "a").uuid for _ in range(1000)}
    assert len(found) == 1000
    assert {(one.version, one.variant) for one in found} == {(4, uuid.RFC_4122)}
    ones, bits = 0, 0  # every bit but those of version and variant takes both values
    for one in found:
        ones |= one.int
        bits |= ~one.int & (2**128 - 1)
    assert ones ^ (2**128 - 1) == 0xB000_4000_0000_0000_0000
    assert bits ^ (2**128 - 1) == 0x4000_8000_0000_0000_0000


def test_the_attributes():
    wanted = uuid.uuid4()
    event = ServiceEvent(10, "a", "p", uuid=wanted)
    assert (event.uuid, event.request_uuid, event.timeout, event.action, event.payload) == (
        wanted,
        wanted.int,
        10,
        "a",
        "p",
    )
    assert ServiceEvent(10, "a").payload is None


@pytest.mark.parametrize("name", ["timeout", "action", "payload", "uuid", "_id", "other"])
def test_cannot_be_changed(name):
    event = ServiceEvent(10, "a")
    before = event.to_json()
    with pytest.raises(AttributeError):
        setattr(event, name, 5)
    with pytest.raises(AttributeError):
        delattr(event, name)
    assert event.to_json() == before


@given(events, events)
def test_equality_and_hash_go_by_value(one, other):
    twin = ServiceEvent(one.timeout, one.action, one.payload, uuid=one.uuid)
    assert one == twin
    assert hash(one) == hash(twin)
    assume(one.uuid != other.uuid)
    assert one != other


@pytest.mark.parametrize(
    "change", [{"timeout": 11}, {"action": "b"}, {"payload": None}, {"uuid": uuid.UUID(int=6)}], ids=str
)
def test_a_difference_in_any_field_counts(change):
    fields = {"timeout": 10, "action": "a", "payload": "p", "uuid": uuid.UUID(int=5)}
    assert ServiceEvent(**fields) != ServiceEvent(**{**fields, **change})
    assert ServiceEvent(**fields) != fields


@given(events)
def test_the_repr_makes_the_event_again(event):
    assert eval(repr(event), {"ServiceEvent": ServiceEvent, "UUID": uuid.UUID}) == event


@given(events)
def test_can_be_copied_and_pickled(event):
    assert copy.deepcopy(event) == copy.copy(event) == pickle.loads(pickle.dumps(event)) == event


def test_can_be_matched():
    match ServiceEvent(10, "a", "p"):
        case ServiceEvent(timeout, "a", payload):
            assert (timeout, payload) == (10, "p")
        case _:
            pytest.fail("did not match")


def test_a_response_has_the_uuid_and_the_timeout_of_its_request():
    event = ServiceEvent(10, "a", "p")
    response = ServiceEvent.create_response(event, "b")
    assert response == ServiceEvent(10, "b", None, uuid=event.uuid)
    assert ServiceEvent.create_response(event, "b", "q", 20) == ServiceEvent(20, "b", "q", uuid=event.uuid)
    assert event.create_response(event, "b") == response  # as the original allows


def test_a_response_is_checked_like_any_event():
    event = ServiceEvent(10, "a")
    with pytest.raises(InvalidEvent, match="timeout"):
        ServiceEvent.create_response(event, "b", None, 0)
    with pytest.raises(InvalidEvent, match="cannot answer a dict"):
        ServiceEvent.create_response({"uuid": 5}, "b")


def test_a_timestamped_event_is_a_named_tuple():
    event = ServiceEvent(10, "a")
    stamped = TimestampedEvent(1669887505996, event)
    timestamp, inner = stamped
    assert (timestamp, inner) == (stamped.timestamp, stamped.event) == (1669887505996, event)
