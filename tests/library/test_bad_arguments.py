"""Arguments that make no sense, by what an argument is: each is refused with an error of ours, and nothing is lost or changed."""

from __future__ import annotations

import math
import sqlite3
from datetime import datetime, timedelta, timezone

import pytest

import elkmq
from elkmq import EventQueueError, InvalidOption, Options, QueueSettings, Retry, Send, ServiceEvent, aio, sql
from tests.library.helpers import event


class Stubborn:
    """What will not even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def deep(levels: int) -> list[object]:
    """A list in a list in a list ..."""
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


NUMBERS = (-1, 10**400, -(2**63) - 1, math.nan, math.inf, -math.inf, 1j)
TEXTS = ("text", "\ud800", "a\0b", "a\nb", "x" * 5000, "", "1", b"x", bytearray(b"x"))
OTHERS = (True, [1], {"a": 1}, {1}, object(), int, Stubborn(), deep(100_000), datetime(2026, 1, 1))  # noqa: DTZ001


def shows(value: object) -> str:
    return type(value).__name__


async def refused(call, values, doing: str) -> None:
    for value in values:
        with pytest.raises(EventQueueError) as caught:
            found = call(value)
            if hasattr(found, "__aiter__"):
                found = [item async for item in found]
            elif hasattr(found, "__await__"):
                found = await found
            pytest.fail(f"{doing} took a {shows(value)}: {found!r:.60}")
        words = str(caught.value)
        assert words.endswith((".", "?")), (doing, words)
        assert len(words) < 400, (doing, words)


@pytest.fixture
def calls(library, fast_url, name):
    """Runs calls against a queue with one event in it and one in hand; looks afterwards whether all is as it was."""

    async def run(values, make) -> None:
        async with library() as lib:
            queue = lib.queue(name, fast_url)
            await queue.enqueue_many([event("first"), event("second")])
            delivery = await queue.receive()
            consumer = await queue.consumer()
            for doing, call in make(lib, queue, delivery, consumer).items():
                await refused(call, values, doing)
            settings, stats = await queue.settings(), await queue.stats()
            assert settings == QueueSettings()
            assert (stats.ready, stats.in_flight, stats.delayed, stats.dead) == (1, 1, 0, 0)
            assert await queue.enqueue(event("third")) > 0
            got = await consumer.get_many(5, 1.0)
            assert [d.event.action for d in got] == ["second", "third"]
            await queue.ack_many([delivery, *got])

    return run


async def test_spans_of_time(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "enqueue(delay)": lambda v: queue.enqueue(event(), delay=v),
            "enqueue(ttl)": lambda v: queue.enqueue(event(), ttl=v),
            "enqueue_many(delay)": lambda v: queue.enqueue_many([event(), Send(event(), delay=v)]),
            "complete(ttl)": lambda v: delivery.complete(events=[Send(event(), ttl=v)]),
            "dequeue_blocking": queue.dequeue_blocking,
            "receive": queue.receive,
            "receive_many": lambda v: queue.receive_many(1, v),
            "get": consumer.get,
            "get_many": lambda v: consumer.get_many(1, v),
            "consumer(lease)": lambda v: queue.consumer(lease=v),
            "await_response": lambda v: queue.await_response(event(), timeout=v),
            "call": lambda v: queue.call("a", timeout=v),
            "once(hold)": lambda v: queue.once("key", hold=v),
            "once(keep)": lambda v: queue.once("key", keep=v),
            "requeue": lambda v: delivery.requeue(delay=v),
            "Retry": Retry,
            "Service(retry_delay)": lambda v: lib.service(queue, retry_delay=v),
            "Service(grace)": lambda v: lib.service(queue, grace=v),
            "configure(ttl)": lambda v: queue.configure(ttl=v),
            "configure(retention)": lambda v: queue.configure(retention=v),
            "Options(lease)": lambda v: Options(lease=v),
            "Options(dedupe_window)": lambda v: Options(dedupe_window=v),
        }

    await calls((*NUMBERS, *TEXTS, *OTHERS, False, timedelta.min, timedelta.max, 1e10), make)


async def test_whole_numbers(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "enqueue(priority)": lambda v: queue.enqueue(event(), priority=v),
            "await_response(priority)": lambda v: queue.await_response(event(), priority=v),
            "receive_many": queue.receive_many,
            "get_many": consumer.get_many,
            "consumer(prefetch)": lambda v: queue.consumer(prefetch=v),
            "Service(concurrency)": lambda v: lib.service(queue, concurrency=v),
            "Service(prefetch)": lambda v: lib.service(queue, prefetch=v),
            "dead.list": queue.dead.list,
            "Options(delivery_limit)": lambda v: Options(delivery_limit=v),
            "configure(max_length)": lambda v: queue.configure(max_length=v),
            "configure(dead_letter_max)": lambda v: queue.configure(dead_letter_max=v),
            "ServiceEvent(timeout)": lambda v: ServiceEvent(v, "a"),
            "create_response(timeout)": lambda v: ServiceEvent.create_response(event(), "a", timeout=v),
        }

    await calls((*NUMBERS, *TEXTS, *OTHERS, False, -0.0, 1.5, timedelta(1)), make)


async def test_flags(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "purge": lambda v: queue.purge(delayed=v),
            "delete(if_unused)": lambda v: queue.delete(if_unused=v),
            "delete(if_empty)": lambda v: queue.delete(if_empty=v),
            "requeue(failed)": lambda v: delivery.requeue(failed=v),
            "configure(paused)": lambda v: queue.configure(paused=v),
            "configure(single_active)": lambda v: queue.configure(single_active=v),
            "Options": lambda v: Options(compete_with_originals=v),
        }

    await calls((*NUMBERS, 0, 1, *TEXTS, *OTHERS[1:]), make)


async def test_events_and_lists_of_them(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "enqueue": queue.enqueue,
            "enqueue_many": queue.enqueue_many,
            "enqueue_many([...])": lambda v: queue.enqueue_many([v]),
            "enqueue_many([Send])": lambda v: queue.enqueue_many([Send(v)]),
            "enqueue_response": queue.enqueue_response,
            "await_response": lambda v: queue.await_response(v, timeout=5),
            "create_response": lambda v: ServiceEvent.create_response(v, "a"),
            "complete(response)": lambda v: delivery.complete(response=v if v is not None else 0),
            "complete(events)": lambda v: delivery.complete(events=v),
            "complete([...])": lambda v: delivery.complete(events=[v]),
            "ack_many": queue.ack_many,
            "ack_many([...])": lambda v: queue.ack_many([delivery, v]),
            "dead.requeue": queue.dead.requeue,
            "dead.drop": queue.dead.drop,
        }

    values = [v for v in (*NUMBERS, None, *TEXTS, *OTHERS, timedelta(1)) if v not in ("", {1}, {"a": 1}, [1])]
    await calls(values, make)


async def test_text(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "ServiceEvent(action)": lambda v: ServiceEvent(1, v),
            "ServiceEvent(payload)": lambda v: ServiceEvent(1, "a", v),
            "respond(action)": delivery.respond,
            "respond(payload)": lambda v: delivery.respond("a", v),
            "respond without waiting": lambda v: delivery.respond("a", v, wait=False),
            "reject(reason)": lambda v: delivery.reject(reason=v),
            "call(action)": lambda v: queue.call(v, timeout=5),
            "call(payload)": lambda v: queue.call("a", v, timeout=5),
            "enqueue(dedupe_id)": lambda v: queue.enqueue(event(), dedupe_id=v),
            "once": queue.once,
            "on": lambda v: lib.service(queue).on(v)(print),
            "Options(global_keyprefix)": lambda v: Options(global_keyprefix=v),
            "EventQueue(name)": lambda v: lib.queue(v, "redis://localhost"),
            "EventQueue(url)": lambda v: lib.queue("a", v),
            "EventQueue(data)": lambda v: lib.queue("a", None, data=v),
            "complete(queue)": lambda v: delivery.complete(events=[Send(event(), queue=v)]),
            "configure(overflow)": lambda v: queue.configure(max_length=5, overflow=v),
            "dead.get": queue.dead.get,
            "sql.table": lambda v: sql.create_table(sqlite3.connect(":memory:"), table=v),
            "sql.first_time": lambda v: sql.first_time(sqlite3.connect(":memory:"), v),
        }

    await calls((*NUMBERS, "\ud800", b"x", bytearray(b"x"), *OTHERS, timedelta(1)), make)


async def test_text_that_is_too_long_or_says_something_else(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "reject(reason)": lambda v: delivery.reject(reason=v),
            "enqueue(dedupe_id)": lambda v: queue.enqueue(event(), dedupe_id=v),
            "once": queue.once,
            "EventQueue(name)": lambda v: lib.queue(v, "redis://localhost"),
            "Options(global_keyprefix)": lambda v: Options(global_keyprefix=v),
            "complete(queue)": lambda v: delivery.complete(events=[Send(event(), queue=v)]),
            "sql.first_time": lambda v: sql.first_time(sqlite3.connect(":memory:"), v),
        }

    await calls(("x" * 5000,), make)
    # This one would be brought back by the next chores.
    await calls(("format",), lambda lib, queue, delivery, consumer: {"reject": lambda v: delivery.reject(reason=v)})


async def test_an_event_for_another_queue_is_not_put_into_this_one(calls):
    def make(lib, queue, delivery, consumer):
        return {"enqueue_many": lambda v: queue.enqueue_many([event(), Send(event(), queue=v)])}

    await calls(("other", "", 0, b"x", *OTHERS), make)


async def test_ids_and_places_in_the_log(calls):
    def make(lib, queue, delivery, consumer):
        return {
            "dead.get": queue.dead.get,
            "dead.list": lambda v: queue.dead.list(after=v),
            "dead.requeue": lambda v: queue.dead.requeue(["1-1", v]),
            "dead.drop": lambda v: queue.dead.drop(["1-1", v]),
            "log": queue.log,
            "log(end)": lambda v: queue.log(None, v),
        }

    wrong = [v for v in (*NUMBERS, *TEXTS, *OTHERS) if v not in (10**400, "1")]
    strange = (
        "1-2-3",
        "-1",
        "1-",
        "-",
        "+",
        "$",
        "1e3-0",
        f"{2**64}-0",
        f"0-{2**64}",
        "9" * 500 + "-1",
        "\u0661-\u0662",
        1.5,
    )
    await calls((*wrong, *strange, timedelta(1)), make)


async def test_ids_that_can_be_one_and_are_none(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url, options=Options(delivery_limit=1))
        await queue.enqueue(event())
        await (await queue.receive()).reject()
        most = f"{2**64 - 1}-{2**64 - 1}"
        assert await queue.dead.get(most) is None
        assert await queue.dead.list(after=most) == []
        assert await queue.dead.requeue(iter(["0-1", most])) == await queue.dead.drop(iter([most])) == 0
        for year in (1, 9999):
            assert [e async for e in queue.log(datetime(year, 1, 1, tzinfo=timezone.utc))] == []


async def test_functions_and_objects(calls):
    def make(lib, queue, delivery, consumer):
        kind = aio.Service if lib.name == "asyncio" else elkmq.Service
        return {
            "consumer(on_lost)": lambda v: queue.consumer(on_lost=v),
            "on": lib.service(queue).on("a"),
            "Service": kind,
            "enqueue(headers)": lambda v: queue.enqueue(event(), headers=v),
            "await_response(headers)": lambda v: queue.await_response(event(), headers=v),
            "EventQueue(options)": lambda v: lib.queue("a", "redis://localhost", options=v),
            "sql.first_time": lambda v: sql.first_time(v, "a"),
            "sql.create_table": sql.create_table,
            "sql.paramstyle": lambda v: sql.first_time(sqlite3.connect(":memory:"), "a", paramstyle=v),
        }

    await calls([v for v in (*NUMBERS, *TEXTS, *OTHERS) if v is not int and v != {"a": 1}], make)


@pytest.mark.parametrize(
    "headers", [{"\ud800": 1}, {"a": math.nan}, {"a": object()}, {"a": deep(100_000)}, {b"a": 1}], ids=shows
)
async def test_headers_that_are_no_json(calls, headers):
    def make(lib, queue, delivery, consumer):
        return {
            "enqueue": lambda v: queue.enqueue(event(), headers=v),
            "complete": lambda v: delivery.complete(events=[Send(event(), headers=v)]),
        }

    await calls([headers], make)


async def test_an_error_that_will_not_be_shown_is_told_of_all_the_same(library, fast_url, name):
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    async with library() as lib:
        queue = lib.queue(name, fast_url)
        await queue.enqueue(event())
        with pytest.raises(Mute):
            async with await queue.receive():
                raise Mute
        again = await queue.receive(5)
        assert again.failed == 1
        await again.reject(Mute())
        (letter,) = await queue.dead.list()
        assert letter.error == "a Mute that cannot be shown"


CONNECTION = {
    "socket_timeout": (*NUMBERS, 0, "", "soon", None, [1], True, 1e10),
    "retry_for": (*NUMBERS, "", "soon", None, [1], True),
    "max_connections": (*NUMBERS, 0, "", "9" * 5000, "many", 1.5, None, True, 2**31),
    "client_name": ("", "a b", "\ud800", "a\0b", 7, b"x"),
    "credential_provider": (7, "x", object()),
    "ssl_ca_certs": ("", "\ud800", "a\0b", 7, b"x"),
    "ssl_ca_data": ("", "\ud800", "ä", 7, b"x"),
    "ssl_keyfile": ("key.pem", "\ud800", 7),  # without a certificate
    "ssl_check_hostname": ("perhaps", 7, None),
    "ssl_cert_reqs": ("perhaps", 7, True),
    "ssl_min_version": ("TLSv9", 7, b"x"),
}


@pytest.mark.parametrize("option", CONNECTION)
@pytest.mark.parametrize("url", ["rediss://localhost", None], ids=["url", "embedded"])
async def test_options_of_the_connection(library, name, option, url):
    async with library() as lib:
        for value in CONNECTION[option]:
            with pytest.raises(InvalidOption, match="nothing was sent"):
                lib.queue(name, url, **{option: value})


@pytest.mark.parametrize(
    "url",
    [
        "redis://" + "a" * 64 + ".example", "redis://a..b", "redis://.a", "redis://%00", "redis://%20", "redis://\ud800",
        "redis://:\ud800@localhost", "redis://" + "%C3%A4" * 80, "redis://localhost:" + "9" * 5000, "unix:///%00",
        "redis://localhost?max_connections=" + "9" * 5000, "redis+sentinel://localhost/0?service=\ud800",
        "redis+sentinel://a..b/0?service=x", "redis+cluster://localhost," + "a" * 64,
    ],
    ids=lambda url: ascii(url)[:40],
)  # fmt: skip
async def test_a_url_that_cannot_be_looked_up_is_refused_at_once(library, name, url):
    async with library() as lib:
        with pytest.raises(InvalidOption, match="nothing was sent"):
            lib.queue(name, url)
