"""Both drivers while connections break, servers hang, restart, refuse and change places."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from elkmq._core.call import command
from elkmq.errors import (
    AuthenticationError,
    EventQueueError,
    InvalidOption,
    ServerConnectionError,
    ServerReadOnly,
)
from tests.library.drivers import echo, evalsha, incr, ping, pop
from tests.servers import free_port
from tests.waiting import eventually_async

FAST = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}


async def reached(proxy, method, *args):
    """Wait for something at the proxy without stopping the loop."""
    await asyncio.to_thread(getattr(proxy, method), *args)


# -- cut connections


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_call_whose_connection_is_cut_is_sent_again(driver, fast_url, make_proxy, name, side):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.swallow(side, name.encode())
        # INCR is not safe to repeat, which shows what happened: carried out twice if only the reply was lost.
        assert await channel.run(incr(name)) == (2 if side == "reply" else 1)
        assert proxy.swallowed == 1


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_call_that_must_not_be_repeated_has_an_unknown_outcome(driver, fast_url, make_proxy, name, side):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.swallow(side, name.encode())
        with pytest.raises(ServerConnectionError, match="could not count: .*it is not known whether it was counted"):
            await channel.run(incr(name, retry=False))
        assert await channel.run(incr(name, retry=False)) == (2 if side == "reply" else 1)


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_pipeline_cut_in_the_middle_is_repeated_from_there_on(driver, fast_url, make_proxy, name, side):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.swallow(side, name.encode())
        calls = [echo("a"), incr(name), echo("b"), incr(name, retry=False), echo("c")]
        outcomes = await channel.run_many(calls)
    assert [outcomes[0], outcomes[2], outcomes[4]] == ["a", "b", "c"]
    assert outcomes[1] == (3 if side == "reply" else 1)
    assert isinstance(outcomes[3], ServerConnectionError)
    assert "not known" in str(outcomes[3])


async def test_posted_calls_are_sent_again_and_keep_their_order(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    got = []
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.swallow("request", name.encode())
        for _ in range(50):
            await channel.post(incr(name), got.append)
        await channel.flush()
        assert await channel.run(incr(name)) == got[-1] + 1
    assert len(got) == 50
    assert got == sorted(got)


async def test_a_connection_that_was_cut_while_idle_is_not_noticed(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        for count in range(1, 6):
            # Not even by a call that must not be repeated: the driver looks before it writes.
            assert await channel.run(incr(name, retry=False)) == count
            proxy.cut()
            # On loopback the reset is there when the proxy's call returns; a loop has to be told by its selector.
            if d.name == "asyncio":
                await eventually_async(lambda: _is_false(channel.connected), why="the loop to hear of it")


async def _is_false(value):
    return not value


async def test_connections_cut_all_the_time(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        stop = threading.Event()

        def cut():
            while not stop.wait(0.03):
                proxy.cut()

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            while proxy.accepted < 10:
                texts = [str(random.random()) for _ in range(50)]
                assert await asyncio.gather(*[channel.run(echo(text)) for text in texts]) == texts
        finally:
            stop.set()
            await asyncio.to_thread(cutter.join)


async def test_client_kill(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        channel = d.channel(server.url)
        with server.client() as client:
            for count in range(1, 10):
                assert await channel.run(incr(name)) == count
                client.client_kill_filter(_type="normal", skipme=True)


async def test_drain_brings_posted_calls_home_after_a_cut(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    got = []
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.swallow("reply", name.encode())
        await channel.post(incr(name), got.append)
        await reached(proxy, "wait_until_swallowed")
        await eventually_async(lambda: _is_zero(channel.drain()), why="the posted call to be answered")
    assert got == [2]


async def _is_zero(count):
    return await count == 0


# -- mute connections


async def test_a_half_open_connection_is_left_after_the_socket_timeout(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url, **FAST)
        await channel.run(ping())
        proxy.blackhole()
        running = asyncio.ensure_future(channel.run(incr(name)))
        await reached(proxy, "wait_for_accepted", proxy.accepted)  # it gave the mute one up and tries another
        assert not running.done()
        proxy.heal()
        assert await asyncio.wait_for(running, 5) == 1


async def test_a_half_open_connection_that_stays_so_ends_in_an_error_in_time(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url, **FAST, retry_for=0.5)
        await channel.run(ping())
        proxy.blackhole()
        begun = time.monotonic()
        with pytest.raises(ServerConnectionError, match="not known whether it was counted"):
            await asyncio.wait_for(channel.run(incr(name)), 30)
        assert time.monotonic() - begun > 0.5
        proxy.heal()
        assert await channel.run(incr(name)) == 1


async def test_posted_calls_on_a_half_open_connection_arrive_in_the_end(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    got = []
    async with driver() as d:
        channel = d.channel(proxy.url, **FAST)
        await channel.run(ping())
        proxy.blackhole()
        await channel.post(incr(name), got.append)
        proxy.heal()
        await eventually_async(lambda: _is_zero(channel.drain()), why="the posted call to be answered")
    assert got == [1]


async def test_a_stall_shorter_than_the_socket_timeout_is_waited_out(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url, socket_timeout=5)
        await channel.run(ping())
        proxy.stall(0.4)
        assert await channel.run(incr(name, retry=False)) == 1
        assert proxy.accepted == 1


async def test_latency_costs_a_pipeline_once(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url)
        await channel.run(ping())
        proxy.latency(100)
        begun = time.monotonic()
        await channel.run_many([incr(name)] * 50)
        assert 0.2 <= time.monotonic() - begun < 5  # and not 50 times 0.2


async def test_a_waiter_on_a_half_open_connection_comes_back(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        waiter, channel = d.waiter(proxy.url, **FAST), d.channel(fast_url)
        assert await waiter.wait(pop(name, 0.05)) is None
        proxy.blackhole()
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 0.3)))
        await reached(proxy, "wait_for_accepted", proxy.accepted)
        await channel.run(command("RPUSH", name, "x", parse=int))
        proxy.heal()
        assert await asyncio.wait_for(waiting, 10) == b"x"


async def test_a_wait_can_be_cancelled_while_there_is_no_connection(driver, make_proxy, fast_url, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        waiter = d.waiter(proxy.url, **FAST)
        await waiter.wait(pop(name, 0.05))
        proxy.cut(refuse=True)
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 0.3)))
        await reached(proxy, "wait_for_accepted", proxy.accepted + 3)
        waiter.cancel()
        assert await asyncio.wait_for(waiting, 2) is None
        proxy.heal()
        assert await waiter.wait(pop(name, 0.05)) is None


async def test_a_wait_can_be_cancelled_while_nobody_listens(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        waiter = d.waiter(server.url)
        await waiter.wait(pop(name, 0.05))
        server.stop()
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 30)))
        await eventually_async(lambda: _soon(not waiter.connected), why="the end of the server to be noticed")
        waiter.cancel()
        assert await asyncio.wait_for(waiting, 2) is None
        server.start()
        assert await waiter.wait(pop(name, 0.05)) is None


# -- servers


async def test_a_restart_of_the_server_is_not_noticed(driver, make_server, name):
    server = make_server(appendonly=True, appendfsync="always")
    async with driver() as d:
        channel = d.channel(server.url)
        assert await channel.run(evalsha("return redis.call('INCR', KEYS[1])", name)) == 1
        server.stop()
        running = [asyncio.ensure_future(channel.run(evalsha("return redis.call('INCR', KEYS[1])", name)))
                   for _ in range(5)]  # fmt: skip
        await asyncio.to_thread(server.start)
        assert sorted(await asyncio.wait_for(asyncio.gather(*running), 10)) == [2, 3, 4, 5, 6]


async def test_a_server_that_is_not_there(driver, name):
    async with driver() as d:
        channel = d.channel(f"redis://127.0.0.1:{free_port()}", retry_for=0.3)
        begun = time.monotonic()
        with pytest.raises(ServerConnectionError, match="cannot be reached"):
            await asyncio.wait_for(channel.run(incr(name)), 30)
        assert time.monotonic() - begun >= 0.3
        got = []
        await channel.post(incr(name), got.append)
        assert isinstance(got[0], ServerConnectionError)


async def test_a_server_that_comes_up_late(driver, make_server, name):
    server = make_server()
    server.stop()
    async with driver() as d:
        running = asyncio.ensure_future(d.channel(server.url).run(incr(name)))
        await asyncio.to_thread(server.start)
        assert await asyncio.wait_for(running, 10) == 1


async def test_a_hung_server_ends_in_an_error_and_works_again_afterwards(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        channel = d.channel(server.url, **FAST, retry_for=0.3)
        await channel.run(ping())
        server.pause()
        with pytest.raises(ServerConnectionError, match="did not answer in time"):
            await channel.run(echo("x"))
        server.resume()
        assert await channel.run(echo("x")) == "x"


async def test_a_hung_server_that_goes_on_in_time(driver, make_server, make_proxy, name):
    server = make_server()
    proxy = make_proxy(server.url)
    async with driver() as d:
        channel = d.channel(proxy.url, **FAST)
        await channel.run(ping())
        server.pause()
        running = asyncio.ensure_future(channel.run(echo("x")))
        await reached(proxy, "wait_for_accepted", 1)  # it gave up the first connection and is at its second attempt
        server.resume()
        assert await asyncio.wait_for(running, 10) == "x"


@pytest.mark.parametrize(
    ("given", "words"),
    [("redis://127.0.0.1:{}/0", "wants a password"), ("redis://:wr0ngone@127.0.0.1:{}/0", "refused")],
)
async def test_a_missing_or_wrong_password_is_said_at_once_and_not_shown(driver, make_server, given, words):
    server = make_server(password="s3cretpass")
    async with driver() as d:
        channel = d.channel(given.format(server.port), retry_for=600)
        with pytest.raises(AuthenticationError, match=words) as caught:
            await asyncio.wait_for(channel.run(ping()), 60)
        assert "wr0ngone" not in repr(caught.value) + repr(caught.value.__cause__)


async def test_a_database_that_does_not_exist_is_said_at_once(driver, fast_server):
    async with driver() as d:
        with pytest.raises(InvalidOption, match="no such database"):
            await d.channel(f"redis://127.0.0.1:{fast_server.port}/9999").run(ping())


async def test_a_server_with_no_room_for_another_client(driver, make_server):
    server = make_server(options={"maxclients": "2"})
    async with driver() as d:
        others = [server.client() for _ in range(2)]
        for other in others:
            other.ping()
        running = asyncio.ensure_future(d.channel(server.url).run(ping()))
        with server.client(socket_timeout=1) as probe, pytest.raises(Exception, match="max number of clients"):
            probe.ping()
        assert not running.done()
        for other in others:
            other.close()
        assert await asyncio.wait_for(running, 10) == "PONG"


async def test_a_replica_is_written_to_once_it_is_the_primary(driver, make_server, name):
    primary = make_server()
    replica = make_server(replica_of=primary)
    await asyncio.to_thread(replica.wait_until_in_sync)
    seen = []
    async with driver() as d:
        channel = d.channel(replica.url, on_reconnect=d.hook(seen, ping()))
        assert await channel.run(ping()) == "PONG"
        running = [asyncio.ensure_future(channel.run(incr(name, retry=False))) for _ in range(3)]
        await eventually_async(lambda: _soon(len(seen) >= 2), why="the driver to connect anew")
        assert not any(task.done() for task in running)
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        # Not even calls that must not be repeated fail: a refused call was not carried out.
        assert sorted(await asyncio.wait_for(asyncio.gather(*running), 10)) == [1, 2, 3]


async def _soon(value):
    return value


@pytest.mark.parametrize("scripted", [False, True])
async def test_a_replica_that_stays_one(driver, make_server, server, name, scripted):
    replica = make_server(server.binary, replica_of=server)
    await asyncio.to_thread(replica.wait_until_in_sync)
    call = evalsha("return redis.call('INCR', KEYS[1])", name) if scripted else incr(name)
    async with driver() as d:
        channel = d.channel(replica.url, retry_for=0.3)
        begun = time.monotonic()
        with pytest.raises(ServerReadOnly, match="nothing was changed"):
            await channel.run(call)
        assert time.monotonic() - begun >= 0.3  # it could have become the primary
        # What it can answer, it answers, and on the same connection.
        outcomes = await channel.run_many([echo("a"), incr(name), echo("b")])
    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], ServerReadOnly)
    assert outcomes[2] == "b"


async def test_a_primary_that_becomes_a_replica_under_a_waiter(driver, make_server, name):
    primary, other = make_server(), make_server()
    async with driver() as d:
        waiter = d.waiter(primary.url)
        await waiter.wait(pop(name, 0.05))
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 30)))
        with primary.client() as client:
            await eventually_async(lambda: _soon(client.info("clients")["blocked_clients"] == 1), why="the wait")
            client.replicaof("127.0.0.1", other.port)  # UNBLOCKED, then READONLY
            await eventually_async(lambda: _soon(client.info("clients")["blocked_clients"] == 0), why="its end")
            assert not waiting.done()
            client.replicaof("NO", "ONE")
            client.rpush(name, "x")
        assert await asyncio.wait_for(waiting, 10) == b"x"


async def test_another_programs_script_that_runs_for_long(driver, make_server, name):
    server = make_server(options={"lua-time-limit": "20"})
    async with driver() as d:
        channel = d.channel(server.url)
        await channel.run(ping())
        with server.client(socket_timeout=30) as busy, server.client() as client:
            thread = threading.Thread(target=_swallow_errors, args=(busy.eval, "while true do end", 0))
            thread.start()
            await eventually_async(lambda: _says(client, "BUSY"), why="the script to be in the way")
            running = asyncio.ensure_future(channel.run(incr(name, retry=False)))
            await eventually_async(lambda: _says(client, "BUSY"), why="the script to be in the way")
            assert not running.done()
            client.script_kill()
            assert await asyncio.wait_for(running, 10) == 1
            thread.join()


def _swallow_errors(function, *args):
    try:
        function(*args)
    except Exception:
        return


async def _says(client, words):
    try:
        client.get("x")
    except Exception as error:
        return words in str(error)
    return False


# -- coming back


async def test_the_hook_runs_before_what_is_sent_again(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    seen = []
    async with driver() as d:
        channel = d.channel(
            proxy.url, on_reconnect=d.hook(seen, incr(name), evalsha("return redis.call('INCR', KEYS[1])", name))
        )
        assert await channel.run(ping()) == "PONG"
        assert seen == []  # not at the first connect
        proxy.swallow("request", b"after")
        outcomes = await channel.run_many([echo("after"), incr(name)])
        assert seen == [1, 2]
        assert outcomes == ["after", 3]


async def test_a_hook_whose_connection_breaks_is_run_again(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    seen = []
    async with driver() as d:
        channel = d.channel(proxy.url, on_reconnect=d.hook(seen, echo("hook"), incr(name)))
        await channel.run(ping())
        proxy.cut()
        proxy.swallow("request", b"hook")
        assert await asyncio.wait_for(asyncio.ensure_future(channel.run(incr(name))), 5) == 2
        assert seen == ["hook", 1]


async def test_a_hook_that_fails_is_logged_and_keeps_nobody(driver, fast_url, make_proxy, name, caplog):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url, on_reconnect=d.hook([], command("HGET", name, "x", parse=str)))
        await channel.run(incr(name))
        proxy.cut()
        assert await channel.run(incr(name)) == 2
    assert "on_reconnect failed" in caplog.text


async def test_others_wait_until_the_hook_is_done(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    seen = []
    async with driver() as d:
        channel = d.channel(proxy.url, on_reconnect=d.hook(seen, *[incr(name)] * 5))
        await channel.run(ping())
        proxy.cut()
        results = await asyncio.gather(*[channel.run(incr(name)) for _ in range(20)])
    assert seen == [1, 2, 3, 4, 5]
    assert sorted(results) == list(range(6, 26))


async def test_an_error_of_one_outage_does_not_shorten_the_next(driver, fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    async with driver() as d:
        channel = d.channel(proxy.url, retry_for=0.4)
        await channel.run(ping())
        proxy.cut(refuse=True)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(EventQueueError):
                await channel.run(incr(name))
            assert time.monotonic() - begun > 0.3
        proxy.heal()
        assert await channel.run(incr(name)) == 1
