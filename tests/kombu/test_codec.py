"""A Kombu message comes out of an entry as it went in, and takes little room there."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import loads, registry
from kombu.utils import json as kombu_json
from redis import Redis

from elkmq.event import ServiceEvent
from kombu_elkmq.codec import Decoded, Entry, Outgoing, decode, encode, quick_loads
from kombu_elkmq.headers import ETA_WAITED, TASK_HEADERS
from kombu_elkmq.message import Message

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def there_and_back(message: Outgoing, exchange: str = "", key: str = "q", **more: Any) -> tuple[Entry, Decoded]:
    entry = encode(message, exchange, key, "q", **more)
    assert entry.kombu is not None
    return entry, decode(entry.event, entry.kombu, entry.body, "q")


def task_headers(**changes: Any) -> dict[str, Any]:
    task_id = changes.pop("id", None) or str(uuid.uuid4())
    headers = {
        "lang": "py", "task": "app.add", "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": task_id, "parent_id": None,
        "argsrepr": "(1, 2)", "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": False,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    return {**headers, **changes}


def plain(body: str | bytes, **more: Any) -> Outgoing:
    return Outgoing(body, 0, "application/json", "utf-8", {}, {"delivery_mode": 2}, **more)


@given(st.binary(max_size=300))
def test_a_body_of_any_bytes_comes_back_the_same(body: bytes) -> None:
    _, found = there_and_back(Outgoing(body, 0, "application/data", "binary", {}, {}))
    assert found.body == body
    assert (found.content_type, found.content_encoding) == ("application/data", "binary")


@given(st.text(st.characters(), max_size=100))
def test_a_body_of_any_text_comes_back_as_its_utf8(body: str) -> None:
    _, found = there_and_back(plain(body))
    assert found.body == body.encode("utf-8", "surrogatepass")


def test_text_is_readable_for_clients_without_kombu_and_bytes_are_not_inflated() -> None:
    entry, _ = there_and_back(plain('{"größe": 1}'))
    assert ServiceEvent.from_json(entry.event).payload == '{"größe": 1}'
    noise = bytes(range(256)) * 4
    entry, _ = there_and_back(plain(noise))
    assert entry.body == noise
    assert ServiceEvent.from_json(entry.event).payload is None


@pytest.mark.parametrize("body", [b"", "", b"\0" * 50, '"' * 50, "\N{OWL}" * 30, "x" * 100_000])
def test_an_entry_is_never_much_larger_than_its_body(body: str | bytes) -> None:
    entry, found = there_and_back(plain(body))
    size = len(body if isinstance(body, bytes) else body.encode())
    assert sum(map(len, entry.fields())) <= size * 1.3 + 150
    assert len(found.body) == size


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_headers_of_a_message_that_is_no_task_come_back(headers: dict[str, Any]) -> None:
    _, found = there_and_back(Outgoing(b"{}", 3, "application/json", "utf-8", headers, {}))
    assert found.headers == headers
    assert found.properties["priority"] == 3


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*TASK_HEADERS, "x-own", "trace"], JSON_VALUES)))
def test_task_headers_come_back_whatever_they_hold_and_whichever_there_are(headers: dict[str, Any]) -> None:
    headers.update(task="t", id=str(uuid.uuid4()))
    _, found = there_and_back(Outgoing(b"[]", 0, "application/json", "utf-8", dict(headers), {}))
    assert found.headers == headers
    assert {name: type(value) for name, value in found.headers.items()} == {
        name: type(value) for name, value in headers.items()
    }


@pytest.mark.parametrize(
    "task_id",
    ["nightly-report", "A" * 36, "F0CED8D6-0E7F-4B91-BCC1-C527CED80C48", "f0ced8d60e7f4b91bcc1c527ced80c48", ""],
)
def test_a_task_id_that_is_no_uuid_comes_back(task_id: str) -> None:
    headers = {**task_headers(), "id": task_id, "root_id": task_id}
    _, found = there_and_back(Outgoing(b"[]", 0, "application/json", "utf-8", headers, {"correlation_id": task_id}))
    assert found.headers == headers
    assert found.properties["correlation_id"] == task_id


def test_a_task_is_an_event_of_its_name_and_id() -> None:
    headers = task_headers()
    entry, _ = there_and_back(Outgoing("[[1, 2], {}, {}]", 0, "application/json", "utf-8", headers, {}))
    event = ServiceEvent.from_json(entry.event)
    assert (event.action, str(event.uuid), event.payload) == ("app.add", headers["id"], "[[1, 2], {}, {}]")


@pytest.mark.parametrize(
    ("expiration", "timeout"),
    [(None, 65535), ("1500", 2), ("0", 1), (0, 1), ("1000", 1), ("99999999999", 65535), ("soon", 65535)],
)
def test_the_expiration_is_the_events_timeout(expiration: object, timeout: int) -> None:
    entry, found = there_and_back(Outgoing(b"[]", properties={"expiration": expiration}))
    assert ServiceEvent.from_json(entry.event).timeout == timeout
    assert found.properties.get("expiration") == expiration


def test_properties_come_back_and_those_of_another_delivery_do_not() -> None:
    properties = {
        "delivery_mode": 1, "correlation_id": "c", "reply_to": "r", "message_id": "m", "type": "news", "app_id": "a",
        "timestamp": 5, "user_id": "u", "own": [1], "delivery_tag": "old", "delivery_info": {"exchange": "old"},
    }  # fmt: skip
    entry, found = there_and_back(Outgoing(b"{}", 0, "text/plain", "utf-8", {}, properties), "logs", "a.b")
    assert ServiceEvent.from_json(entry.event).action == "news"
    expected = {name: value for name, value in properties.items() if not name.startswith("delivery_")}
    assert found.properties == {**expected, "delivery_mode": 1, "priority": 0}
    assert (found.exchange, found.routing_key) == ("logs", "a.b")


def test_an_eta_that_the_broker_waits_for_is_not_waited_for_again() -> None:
    eta = "2030-01-01T00:00:00+00:00"
    headers = task_headers(eta=eta)
    _, found = there_and_back(Outgoing(b"[]", 0, "application/json", "utf-8", headers, {}), eta=eta)
    assert found.headers["eta"] is None
    assert found.headers[ETA_WAITED] == eta
    assert headers["eta"] == eta
    _, found = there_and_back(Outgoing(b"[]", 0, "application/json", "utf-8", headers, {}))
    assert found.headers == headers


def test_headers_that_json_does_not_know_come_back_as_kombu_writes_them() -> None:
    headers = {"when": datetime(2030, 1, 1, tzinfo=timezone.utc), "price": Decimal("1.50"), "id": uuid.uuid4()}
    _, found = there_and_back(Outgoing(b"{}", 0, "application/json", "utf-8", dict(headers), {}))
    assert found.headers == headers


@given(JSON_VALUES.map(json.dumps) | st.text(st.sampled_from('[]{}":, 1aN\\\x00é'), max_size=8))
@example("[] 1")
@example("{}x")
@example("[] ")
@example("[x]")
@example("[1,")
def test_the_quick_way_reads_what_the_standard_one_reads(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            quick_loads(text)
    else:
        assert repr(quick_loads(text)) == repr(expected)


@pytest.mark.parametrize("payload", ["[]", '["a \\"quoted\\" word"]', '["\\\\ é"]', "", "[[[", "\n"])
def test_an_event_written_in_another_way_is_the_same_message(payload: str) -> None:
    entry = encode(plain(payload), "", "q", "q")
    assert entry.kombu is not None
    other = json.dumps(json.loads(entry.event), indent=1).encode()
    assert decode(other, entry.kombu, None, "q") == decode(entry.event, entry.kombu, None, "q")


@pytest.mark.parametrize("field", [b"", b"[]", b"{", b"\xff", b"1", b'{"h":1}', b'{"t":[]}'])
def test_a_kombu_field_that_nobody_wrote_is_refused(field: bytes) -> None:
    with pytest.raises(ValueError):
        decode(ServiceEvent(1, "t", "{}").to_json(), field, None, "q")


def test_a_queued_message_with_100_bytes_of_body_takes_at_most_300_bytes(fast_url: str, name: str) -> None:
    redis = Redis.from_url(fast_url)
    message = plain(json.dumps({"a": "x" * 91}))
    assert len(message.body) == 100
    pipeline = redis.pipeline(transaction=False)
    for _ in range(5000):
        fields = encode(message, "", name, name).fields()
        pipeline.xadd(name, dict(zip(fields[::2], fields[1::2], strict=True)))  # type: ignore[arg-type]
    try:
        pipeline.execute()
        used = redis.memory_usage(name, samples=0)
        assert isinstance(used, int)
        assert used / 5000 <= 300
    finally:
        redis.delete(name)
        redis.close()


def message(
    body: bytes, accept: tuple[str, ...] = ("application/json",), content_type: str = "application/json"
) -> Message:
    """As a consumer gets it that accepts these."""
    made = Message(
        body=body, channel=None, delivery_tag=1, content_type=content_type, content_encoding="utf-8", delivery_info={}, headers={},
        properties={},
    )  # fmt: skip
    made.accept = set(accept)
    return made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.datetimes() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("__type__"), inner),
    max_leaves=8,
)


@given(JSON)
def test_a_payload_is_what_kombu_reads(value: Any) -> None:
    body = kombu_json.dumps(value).encode()
    try:
        expected = loads(body, "application/json", "utf-8")
    except DecodeError:
        with pytest.raises(DecodeError):
            _ = message(body).payload
    else:
        assert message(body).payload == expected


@pytest.mark.parametrize("key", ["__type__", "\\u005f_type__"])
def test_a_payload_with_types_of_kombu_is_read_by_kombu(key: str) -> None:
    body = f'[{{"{key}": "decimal", "__value__": "1.5"}}]'.encode()
    assert message(body).payload == [Decimal("1.5")]


def test_a_payload_that_is_no_json_or_not_accepted_is_refused_as_by_kombu() -> None:
    for body in (b"[1", b"\xff", b"[" * 100_000):
        with pytest.raises(DecodeError):
            _ = message(body).payload
    with pytest.raises(ContentDisallowed):
        _ = message(b"[1]", accept=("application/x-yaml",)).payload


def test_a_json_serializer_of_the_application_is_used() -> None:
    before = registry._decoders["application/json"]
    registry._decoders["application/json"] = lambda data: ["mine", data]
    try:
        assert message(b"[1]").payload == ["mine", b"[1]"]
    finally:
        registry._decoders["application/json"] = before
