"""Both drivers on a server that behaves: replies find their calls, whatever the order, number and errors of these."""

from __future__ import annotations

import asyncio
import inspect
import random
import sys
import threading
import time

import pytest

from elkmq._core.call import Call, Script, command
from elkmq._core.sending import raise_first
from elkmq._endpoint import Endpoint
from elkmq._sync.line import Line
from elkmq._sync.link import Channel
from elkmq.errors import (
    EventQueueError,
    JSONParseError,
    QueueClosed,
    ServerConnectionError,
    ServerError,
    WrongKeyType,
)
from elkmq.event import ServiceEvent
from tests.library.drivers import echo, evalsha, incr, ping, pop
from tests.waiting import eventually_async

COUNT = "return redis.call('INCR', KEYS[1])"


async def test_a_call_returns_what_it_makes_of_the_reply(driver, server_url, name):
    async with driver() as d:
        channel = d.channel(server_url)
        assert await channel.run(ping()) == "PONG"
        assert [await channel.run(incr(name)) for _ in range(3)] == [1, 2, 3]


async def test_a_url_of_a_unix_socket_works_the_same(driver, fast_server):
    async with driver() as d:
        assert await d.channel(fast_server.unix_url).run(ping()) == "PONG"


async def test_many_calls_keep_their_order_and_errors_their_place(driver, server_url, name):
    async with driver() as d:
        channel = d.channel(server_url)
        outcomes = await channel.run_many([incr(name), command("HGET", name, "x", parse=str), incr(name)])
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], WrongKeyType)
    assert outcomes[2] == 2
    with pytest.raises(WrongKeyType):
        raise_first(outcomes)
    assert raise_first(outcomes[::2]) == [1, 2]


async def test_no_calls_are_no_trouble(driver, fast_url):
    async with driver() as d:
        assert await d.channel(fast_url).run_many([]) == []


async def test_more_calls_than_may_be_outstanding_in_one_go(driver, fast_url, name):
    async with driver() as d:
        assert await d.channel(fast_url, max_outstanding=7).run_many([incr(name)] * 100) == list(range(1, 101))


async def test_an_error_reply_says_what_was_tried_and_what_became_of_it(driver, fast_url, name):
    async with driver() as d:
        with pytest.raises(
            ServerError, match="could not count the hits: .*; the server did not carry it out"
        ) as caught:
            await d.channel(fast_url).run(command("INCR", name, "too", "many", parse=int, doing="count the hits"))
    assert caught.value.__cause__ is not None


async def test_an_error_while_reading_a_reply_hits_that_call_only(driver, fast_url, name):
    unreadable = command("ECHO", "x", parse=ServiceEvent.from_json)
    async with driver() as d:
        channel = d.channel(fast_url)
        with pytest.raises(JSONParseError):
            await channel.run(unreadable)
        outcomes = await channel.run_many([echo("a"), unreadable, echo("b")])
    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], JSONParseError)
    assert outcomes[2] == "b"


async def test_an_argument_that_cannot_be_written_hits_its_own_caller_only(driver, fast_url):
    async with driver() as d:
        channel = d.channel(fast_url)
        await channel.run(ping())
        good = [asyncio.ensure_future(channel.run(echo(str(i)))) for i in range(5)]
        with pytest.raises(UnicodeEncodeError):
            await channel.run(echo("\ud800"))
        assert await asyncio.gather(*good) == list("01234")
        assert channel.connected


async def test_calls_of_many_tasks_get_their_own_replies(driver, server_url):
    async with driver() as d:
        channel = d.channel(server_url)
        texts = [str(random.random()) for _ in range(500)]
        assert await asyncio.gather(*[channel.run(echo(text)) for text in texts]) == texts


async def test_large_calls_and_replies(driver, fast_url):
    async with driver() as d:
        channel = d.channel(fast_url)
        texts = [letter * 3_000_000 for letter in "abcd"]
        assert await channel.run_many([echo(text) for text in texts]) == texts
        assert await asyncio.gather(*[channel.run(echo(text)) for text in texts]) == texts


# -- scripts


async def test_a_script_the_server_does_not_know_is_loaded(driver, server_url, name):
    async with driver() as d:
        assert await d.channel(server_url).run(evalsha(COUNT + f" -- {name}", name)) == 1


async def test_a_script_lost_between_two_calls_of_a_pipeline(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        channel = d.channel(server.url)
        call = evalsha(COUNT, name)
        assert await channel.run(call) == 1
        flush = command("SCRIPT", "FLUSH", parse=lambda reply: reply)
        assert await channel.run_many([call, flush, call, echo("x"), call]) == [2, b"OK", 3, "x", 4]
        # One load for both, and nothing lost or doubled.
        with server.client() as client:
            assert client.info("commandstats")["cmdstat_script|load"]["calls"] == 2
            assert client.get(name) == b"4"


async def test_posted_calls_survive_a_script_flush_in_order(driver, make_server, name):
    server = make_server()
    got = []
    async with driver() as d:
        channel = d.channel(server.url)
        await channel.run(evalsha(COUNT, name))
        with server.client() as client:
            client.script_flush()
        for _ in range(20):
            await channel.post(evalsha(COUNT, name), got.append)
        await channel.flush()
    assert got == list(range(2, 22))


async def test_a_server_that_lets_no_script_be_loaded_is_named_as_such(driver, make_server):
    server = make_server(
        acl=["user app on >secret ~* +@all -script", "user default on nopass ~* +@all"], user=("app", "secret")
    )
    async with driver() as d:
        channel = d.channel(server.url)
        with pytest.raises(EventQueueError, match="ACL") as caught:
            await channel.run(evalsha(COUNT, "key"))
        assert "secret" not in str(caught.value)
        assert await channel.run(ping()) == "PONG"


async def test_a_script_that_stays_unknown_ends_in_an_error(driver, fast_url, name):
    call = Call(int, ("EVALSHA", "0" * 40, 1, name), Script("other", "return 1", "0" * 40))
    async with driver() as d:
        channel = d.channel(fast_url)
        with pytest.raises(ServerError, match="(?i)no matching script"):
            await asyncio.wait_for(asyncio.ensure_future(channel.run(call)), 5)
        assert await channel.run(ping()) == "PONG"


# -- posted calls


async def test_posted_calls_are_carried_out_before_later_ones(driver, server_url, name):
    got = []
    async with driver() as d:
        channel = d.channel(server_url)
        for _ in range(10):
            await channel.post(incr(name), got.append)
        assert await channel.run(incr(name)) == 11
        assert got == list(range(1, 11))
        assert channel.outstanding == 0


async def test_a_posted_call_is_on_the_wire_when_post_returns(driver, fast_server, name):
    async with driver() as d:
        channel = d.channel(fast_server.url)
        await channel.run(ping())
        await channel.post(incr(name))
        with fast_server.client() as client:
            await eventually_async(lambda: _soon(client.get(name) == b"1"), why="the posted call to be carried out")


async def _soon(value):
    return value


async def test_more_posts_than_may_be_outstanding(driver, fast_url, name):
    got = []
    async with driver() as d:
        channel = d.channel(fast_url, max_outstanding=16)
        for _ in range(1000):
            await channel.post(incr(name), got.append)
            assert channel.outstanding <= 17
        await channel.flush()
        assert channel.outstanding == 0
    assert got == list(range(1, 1001))


async def test_drain_reads_what_is_there_and_waits_for_nothing(driver, fast_url, name):
    got = []
    async with driver() as d:
        channel = d.channel(fast_url)
        assert await channel.drain() == 0
        await channel.post(incr(name), got.append)
        await eventually_async(lambda: _is_zero(channel.drain()), why="the reply to be read")
        assert got == [1]


async def _is_zero(count):
    return await count == 0


async def test_the_error_of_a_posted_call_is_reported_or_logged(driver, fast_url, name, caplog):
    got = []
    async with driver() as d:
        channel = d.channel(fast_url)
        await channel.run(incr(name))
        await channel.post(command("HGET", name, "x", parse=str), got.append)
        await channel.post(command("HGET", name, "x", parse=str, doing="look"))
        await channel.flush()
    assert isinstance(got[0], WrongKeyType)
    assert [record.name for record in caplog.records] == ["elkmq.link"]
    assert "could not look" in caplog.text


async def test_a_callback_that_fails_keeps_the_others_from_nothing(driver, fast_url, name, caplog):
    got, explode = [], ["callback"].index  # raised in C, not in code that is none of the library's: see `from_outside`
    async with driver() as d:
        channel = d.channel(fast_url)
        for done in (explode, got.append, explode, got.append):
            await channel.post(incr(name), done)
        await channel.flush()
        assert await channel.run(incr(name)) == 5
    assert got == [2, 4]
    assert caplog.text.count("is not in list") == 2


# -- waiting


async def test_a_waiter_returns_what_comes_and_what_the_server_says_at_its_timeout(driver, server_url, name):
    async with driver() as d:
        waiter, channel = d.waiter(server_url), d.channel(server_url)
        assert await waiter.wait(pop(name, 0.1)) is None
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 10)))
        await channel.run(command("RPUSH", name, "x", parse=int))
        assert await waiting == b"x"


async def test_a_pending_wait_can_be_cancelled_and_the_waiter_used_again(driver, fast_server, name):
    async with driver() as d:
        waiter = d.waiter(fast_server.url)
        for _ in range(3):
            waiting = asyncio.ensure_future(waiter.wait(pop(name, 30)))
            await _blocked(fast_server, name)
            waiter.cancel()
            assert await asyncio.wait_for(waiting, 2) is None
        await d.channel(fast_server.url).run(command("RPUSH", name, "x", parse=int))
        assert await waiter.wait(pop(name, 5)) == b"x"


async def _blocked(server, name):
    with server.client() as client:
        await eventually_async(
            lambda: _soon(any(c["cmd"] == "blpop" and "b" in c["flags"] for c in client.client_list())),
            why="somebody to wait for the key",
        )


async def test_a_cancel_that_meets_no_wait_ends_the_next_one(driver, fast_url, name):
    async with driver() as d:
        waiter = d.waiter(fast_url)
        waiter.cancel()
        assert await asyncio.wait_for(waiter.wait(pop(name, 30)), 2) is None
        assert await waiter.wait(pop(name, 0.1)) is None  # waits, and is answered by the server
        assert waiter.connected


async def test_closing_ends_a_pending_wait(driver, fast_server, name):
    async with driver() as d:
        waiter = d.waiter(fast_server.url)
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 30)))
        await _blocked(fast_server, name)
        await waiter.close()
        with pytest.raises(QueueClosed):
            await asyncio.wait_for(waiting, 2)


# -- the end


async def test_a_closed_channel_takes_nothing_and_says_so(driver, fast_url, name):
    got = []
    async with driver() as d:
        channel = d.channel(fast_url)
        await channel.run(ping())
        await channel.close()
        with pytest.raises(QueueClosed):
            await channel.run(incr(name))
        assert all(isinstance(outcome, QueueClosed) for outcome in await channel.run_many([incr(name)] * 2))
        await channel.post(incr(name), got.append)
        assert isinstance(got[0], QueueClosed)
        assert await d.channel(fast_url).run(incr(name)) == 1


async def test_a_channel_is_closed_under_way(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        channel = d.channel(server.url)
        await channel.run(ping())
        server.pause()
        running = asyncio.ensure_future(channel.run(incr(name)))
        await eventually_async(lambda: _soon(not running.done()), why="the call to be under way")
        await channel.close()
        with pytest.raises(QueueClosed):
            await asyncio.wait_for(running, 2)


async def test_dropping_the_connection_costs_a_reconnect_only(driver, fast_url, name):
    seen = []
    async with driver() as d:
        channel = d.channel(fast_url, on_reconnect=d.hook(seen, ping()))
        await channel.run(incr(name))
        channel.drop()
        assert not channel.connected
        assert await channel.run(incr(name)) == 2
        assert seen == ["PONG"]


# -- pools


async def test_a_pool_serves_more_callers_than_it_has_connections(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        pool = d.pool(server.url, max_connections=3)
        assert sorted(await asyncio.gather(*[pool.run(incr(name)) for _ in range(60)])) == list(range(1, 61))
        assert await pool.run_many([echo("a"), echo("b")]) == ["a", "b"]
        with server.client() as client:
            assert client.info("clients")["connected_clients"] <= 4
        await pool.close()
        with pytest.raises(QueueClosed):
            await pool.run(ping())


def test_a_thread_that_finds_all_connections_in_use_waits_its_turn(fast_url):
    from elkmq._endpoint import Endpoint
    from elkmq._sync.link import Pool

    pool = Pool(Endpoint.from_url(fast_url, socket_timeout=0.2, retry_for=0.2), max_connections=1)
    with pool.channel():
        with pytest.raises(ServerConnectionError, match="all 1 connections .* raise max_connections"):
            pool.run(ping())
        waiting = threading.Thread(target=lambda: got.append(pool.run(ping())))
        got: list[str] = []
        waiting.start()
    waiting.join(5)
    assert got == ["PONG"]
    pool.close()


async def test_a_call_of_a_channel_may_block_the_server_longer_than_the_socket_timeout(driver, make_server, name):
    server = make_server()
    async with driver() as d:
        channel = d.channel(server.url, socket_timeout=0.2, retry_for=0.2)
        assert await channel.run(pop(name, 3)) is None
        assert await channel.run(ping()) == "PONG"
        server.pause()  # and the next call has the usual time
        begun = time.monotonic()
        with pytest.raises(ServerConnectionError):
            await channel.run(ping())
        assert time.monotonic() - begun < 3
        server.resume()


def test_threads_that_report_outcomes_at_the_same_time_report_each_once(fast_url):
    """One sees that there is an outcome to report, and before it takes it another one has."""
    told, sees, taken = [], threading.Event(), threading.Event()
    source, first = inspect.getsourcelines(Line._work)
    takes = first + next(n for n, line in enumerate(source) if "popleft" in line)
    channel = Channel(Endpoint.from_url(fast_url))

    def trace(frame, happened, argument):
        if frame.f_code is not Line._work.__code__:
            return None
        if happened == "line" and frame.f_lineno == takes:
            sees.set()
            taken.wait(10)
        return trace

    def report():
        sys.settrace(trace)
        channel.flush()

    channel.post(command("ECHO", "x", parse=bytes), told.append)
    one = threading.Thread(target=report)
    one.start()
    assert sees.wait(10)
    channel.run_many([ping()])
    assert told == [b"x"]
    taken.set()
    one.join()  # with no error, which pytest would tell
    assert told == [b"x"]
    channel.close()


def test_calls_are_small():
    call = Call(int, ("a", 1, b"\xff"))
    assert call.packed() == b"*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n\xff\r\n"
