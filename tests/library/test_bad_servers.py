"""Servers and urls that are no good: a clear error, nothing lost, and no password anywhere."""

from __future__ import annotations

import asyncio
import logging

import pytest
import redis

from elkmq import (
    AuthenticationError,
    EmptyQueue,
    EventQueue,
    EventQueueError,
    InvalidOption,
    Options,
    Send,
    ServerConnectionError,
    ServerOutOfMemory,
    ServerReadOnly,
    ServerTooOld,
    ServiceEvent,
    aio,
)
from elkmq.errors import InvalidEvent
from tests.library.helpers import drain, event, fill, soon, until
from tests.servers import free_port
from tests.waiting import eventually

FAST = {"retry_for": 0.3, "socket_timeout": 0.5, "socket_connect_timeout": 0.5}


def everything(queue):
    """Every verb that talks to the server."""
    return {
        "enqueue": lambda: queue.enqueue(event()),
        "enqueue_many": lambda: queue.enqueue_many([Send(event(), delay=5)]),
        "dequeue": queue.dequeue,
        "dequeue_blocking": lambda: queue.dequeue_blocking(0.1),
        "receive": lambda: queue.receive(0.1),
        "request": lambda: queue.await_response(event(), timeout=1),
        "respond": lambda: queue.enqueue_response(ServiceEvent.create_response(event(), "a")),
        "stats": queue.stats,
        "configure": lambda: queue.configure(max_length=5),
        "purge": queue.purge,
        "dead": queue.dead.list,
        "once": lambda: queue.once("key").claim(),
    }


READING = {"stats", "dead"}


def server_ms(client):
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds / 1000


@pytest.fixture
def no_password(caplog):
    """Nothing that is logged shows a password."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        text = f"{record.getMessage()} {record.exc_info or ''}"
        assert "s3cr" not in text


def shows_no_password(error):
    while error is not None:
        assert "s3cr" not in str(error)
        assert "s3cr" not in repr(error)
        error = error.__cause__ or error.__context__


# -- who is let in


async def test_a_server_that_wants_a_password(library, make_server, name):
    server = make_server(password="s3cret")
    async with library() as lib:
        for call in everything(lib.queue(name, f"redis://127.0.0.1:{server.port}", retry_for=600)).values():
            with pytest.raises(
                AuthenticationError, match="wants a password; nothing was changed; put user and password"
            ) as caught:
                await soon(call(), 60)  # it is no use to try for longer
            shows_no_password(caught.value)


async def test_a_wrong_password(library, make_server, name, no_password):
    server = make_server(password="right")
    async with library() as lib:
        queue = lib.queue(name, f"redis://:s3cret-wrong@127.0.0.1:{server.port}")
        assert "s3cr" not in repr(queue)
        for call in everything(queue).values():
            with pytest.raises(AuthenticationError, match="refused the user or password") as caught:
                await call()
            shows_no_password(caught.value)


async def test_a_password_is_shown_nowhere_when_all_goes_wrong(library, make_server, make_proxy, name, no_password):
    server = make_server(acl=["user default off", f"user app on >{'s3cret/ö'} ~* &* +@all"], user=("app", "s3cret/ö"))
    proxy = make_proxy(server.url)
    async with library() as lib:
        queue = lib.queue(name, proxy.url, **FAST)
        await fill(queue, 3)
        consumer = await queue.consumer(lease=1)
        delivery = await consumer.get(5)
        assert "s3cr" not in repr(queue) + repr(delivery) + repr(consumer)
        await asyncio.to_thread(proxy.cut, refuse=True)
        for call in [*everything(queue).values(), delivery.ack, lambda: consumer.get(0.1)]:
            with pytest.raises(EventQueueError) as caught:
                await call()
            shows_no_password(caught.value)
        await asyncio.to_thread(proxy.heal)
        await delivery.ack()


async def test_a_permission_that_is_missing(library, make_server, name):
    server = make_server(
        acl=["user default on nopass ~* &* +@all", "user app on >s3cret ~allowed* &* +@all -zadd"],
        user=("app", "s3cret"),
    )
    async with library() as lib:
        with pytest.raises(AuthenticationError, match="does not permit it") as caught:
            await lib.queue(name, server.url).enqueue(event())
        shows_no_password(caught.value)
        queue = lib.queue("allowed-" + name, server.url)
        await fill(queue, 1)
        for call in (queue.receive, lambda: queue.enqueue(event(), delay=5)):
            with pytest.raises(AuthenticationError, match="does not permit it"):
                await call()
        assert await drain(queue) == ["0"]  # nothing was lost


async def test_a_server_that_lacks_a_command(library, make_server, name):
    server = make_server(options={"rename-command": 'HELLO ""'})  # which came with 6.0
    async with library() as lib:
        queue = lib.queue(name, server.url, **FAST)
        for call in everything(queue).values():
            with pytest.raises(ServerTooOld, match="lacks a command.*nothing was changed; use Redis 6.0"):
                await call()


# -- servers that take no writes


async def test_a_replica_that_stays_one(library, make_server, name):
    primary = make_server()
    replica = make_server(replica_of=primary)
    await asyncio.to_thread(replica.wait_until_in_sync)
    async with library() as lib:
        await fill(lib.queue(name, primary.url), 1)
        queue = lib.queue(name, replica.url, **FAST)
        for what, call in everything(queue).items():
            if what not in READING:
                with pytest.raises(
                    ServerReadOnly, match="is a read-only replica; nothing was changed; connect to the primary"
                ):
                    await call()


async def test_a_full_memory(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url)
        await fill(queue, 4)
        await queue.stats()
        consumer = await queue.consumer(prefetch=2, lease=1)
        held = await consumer.get(5)
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
        try:
            for call in (
                lambda: queue.enqueue(event()),
                lambda: queue.enqueue(event(), delay=5),
                lambda: queue.enqueue_many([event(), event()]),
                lambda: queue.await_response(event()),
            ):
                with pytest.raises(ServerOutOfMemory, match="maxmemory.*nothing was changed; raise maxmemory"):
                    await call()
            # Consumers go on, which is what makes room.
            await held.ack()
            await (await soon(consumer.get(5))).ack()
            await (await soon(consumer.get(5))).requeue()
            with server.client() as client:
                [(_, until_then)] = client.zrange(f"{name}(consumers)", 0, -1, withscores=True)
                # Past the end of the lease that it has now: only heartbeats can keep it.
                await asyncio.to_thread(eventually, lambda: server_ms(client) > until_then)
            await (await soon(consumer.get(5))).reject("no")
            assert (await queue.dequeue()).event.payload is not None
            await soon(consumer.close())
        finally:
            with server.client() as client:
                client.config_set("maxmemory", "0")
        await until(queue, completed=3, dead=1, ready=0, in_flight=0)


async def test_an_answer_for_which_the_memory_is_too_full_is_sent_later_and_its_request_not_handled_again(
    library, make_server, name, caplog
):
    server = make_server()
    async with library() as lib:
        asking, serving = lib.queue(name, server.url), lib.queue(name, server.url, options=Options(lease=1))
        service, handled = lib.service(serving), []

        @service.on("work")
        def work(payload):
            handled.append(payload)
            with server.client() as client:
                client.config_set("maxmemory", "1mb")
            return payload

        running = asyncio.ensure_future(service.run(signals=False))
        waiting = asyncio.ensure_future(asking.call("work", "x", timeout=30))
        try:
            # The response was refused, and refused once more with a heartbeat.
            await asyncio.to_thread(eventually, lambda: caplog.text.count("is sent again with the next heartbeat") >= 2)
        finally:
            with server.client() as client:
                client.config_set("maxmemory", "0")
        assert await waiting == "x"
        assert handled == ["x"]
        service.stop()
        await running
        assert (await asking.stats()).completed == 1


async def test_a_disk_that_is_full(library, make_server, name):
    server = make_server(options={"stop-writes-on-bgsave-error": "yes", "dbfilename": "taken", "save": "3600 1"})
    (server.folder / "taken").mkdir()  # where the dump should go
    async with library() as lib:
        queue = lib.queue(name, server.url, **FAST)
        await fill(queue, 1)
        with server.client() as client:
            client.bgsave()
            await asyncio.to_thread(eventually, lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(ServerReadOnly, match="cannot save to disk; nothing was changed"):
            await queue.enqueue(event())


# -- servers that do not answer


async def test_a_server_that_hangs(library, make_server, name):
    server = make_server()
    async with library() as lib:
        queue = lib.queue(name, server.url, **FAST)
        await fill(queue, 1)
        consumer = await queue.consumer()
        delivery = await consumer.get(5)
        server.pause()
        try:
            for call in (lambda: queue.enqueue(event()), queue.stats, delivery.ack, queue.dequeue):
                with pytest.raises(ServerConnectionError, match="did not answer in time"):
                    await soon(call())
        finally:
            server.resume()
        await delivery.ack()
        await until(queue, in_flight=0)


async def test_a_server_that_is_not_there(library, name):
    async with library() as lib:
        queue = lib.queue(name, f"redis://:s3cret@127.0.0.1:{free_port()}", **FAST)
        for call in everything(queue).values():
            with pytest.raises(ServerConnectionError, match="cannot be reached: .*nothing was") as caught:
                await soon(call())
            shows_no_password(caught.value)


async def test_something_else_answers(library, name):
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with library() as lib:
        with pytest.raises(EventQueueError):
            await soon(lib.queue(name, f"redis://127.0.0.1:{port}", **FAST).enqueue(event()))
    other.close()


# -- urls

URLS = {
    "": "url",
    "localhost": "url",
    "http://s3cret@localhost": "url",
    "redis://user:s3cret@host:port/0": "port",
    "redis://user:s3cret@host:0": "port",
    "redis://user:s3cret@host:70000": "port",
    "redis://user:s3cret@host/zero": "",
    "redis://user:s3cret@host/-1": "",
    "redis://user:s3cret@host/0?socket_timeout=soon": "socket_timeout",
    "redis://user:s3cret@host/0?no_such_option=1": "no option of that name",
    "redis://user:s3cret@host/0?socket_timeout=1&socket_timeout=2": "twice",
    "redis://[::1": "",
    "unix://": "",
    "redis+sentinel://:s3cret@host:26379": "",
    "\ud800": "",
}


@pytest.mark.parametrize(("url", "word"), URLS.items(), ids=[repr(url)[:40] for url in URLS])
@pytest.mark.parametrize("flavour", [EventQueue, aio.EventQueue], ids=["sync", "asyncio"])
def test_a_url_that_makes_no_sense(flavour, name, url, word):
    with pytest.raises(InvalidOption, match="nothing was sent") as caught:
        flavour(name, url)
    assert word in str(caught.value)
    shows_no_password(caught.value)


@pytest.mark.parametrize("flavour", [EventQueue, aio.EventQueue], ids=["sync", "asyncio"])
@pytest.mark.parametrize(
    "bad",
    [
        {"url": 7},
        {"url": b"redis://localhost"},
        {"url": "redis://localhost", "data": "/tmp/x"},
        {"url": "redis://localhost", "options": {"lease": 5}},
        {"url": "redis://localhost", "no_such": 1},
        {"url": "redis://localhost", "socket_timeout": 0},
        {"url": "redis://localhost", "retry_for": "x"},
        {"url": "redis://localhost", "ssl_ca_certs": "x"},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(flavour, name, bad):
    with pytest.raises(InvalidOption, match="nothing was sent"):
        flavour(name, **bad)


@pytest.mark.parametrize("timeout", [0, -1, 65_536, float("nan"), "10", None, 1.5, True])
def test_an_events_timeout_that_is_none(timeout):
    with pytest.raises(InvalidEvent, match="timeout is .*; nothing was sent; give whole seconds from 1 to 65535"):
        ServiceEvent(timeout, "a")


@pytest.mark.parametrize(
    "payload", [7, b"bytes", {"a": 1}, ["x"], "\ud800", object()], ids=lambda value: type(value).__name__
)
def test_a_payload_that_is_none(payload):
    with pytest.raises(InvalidEvent, match="payload .*; nothing was sent"):
        ServiceEvent(10, "a", payload)


def test_600_megabytes_are_refused_before_anything_is_sent():
    with pytest.raises(InvalidEvent, match="nothing was sent; keep the data elsewhere"):
        ServiceEvent(10, "a", "x" * 600_000_000)


async def test_text_with_zero_bytes_arrives(library, server_url, name):
    sent = ServiceEvent(10, "\0", "\0\n\r\0")
    async with library() as lib:
        queue = lib.queue(name, server_url, options=Options(global_keyprefix="pre:"))
        await queue.enqueue(sent)
        assert (await queue.dequeue()).event == sent
        with pytest.raises(EmptyQueue):
            await queue.dequeue()
        with redis.Redis.from_url(server_url) as client:
            assert [key for key in client.keys("*") if name.encode() in key and not key.startswith(b"pre:")] == []
