"""The harness itself: a fault that does nothing would make every test above it pass for nothing."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from elkmq import embedded
from tests.servers import ServerDied, binaries
from tests.waiting import NotInTime, eventually, eventually_async


def once(url: str, **options: object) -> redis.Redis:
    """A client that does not try again."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=0.3, **options)


def test_every_server_answers(server, name):
    with server.client() as client:
        client.set(name, "1")
        info = client.info("server")
    version = info.get("valkey_version", info["redis_version"])
    assert version == ".".join(map(str, server.binary.version))


@pytest.mark.parametrize("hard", [False, True])
def test_a_restart_keeps_port_and_data(make_server, hard):
    server = make_server(appendonly=True, appendfsync="always")
    with server.client() as client:
        client.set("key", "value")
    before = server.url
    server.restart(hard=hard)
    with server.client() as client:
        assert client.get("key") == b"value"
    assert server.url == before


def test_a_paused_server_hangs_and_a_resumed_one_goes_on(make_server):
    server = make_server()
    with once(server.url) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
    with server.client() as client:
        assert client.ping()


def test_a_server_that_cannot_start_shows_its_log(make_server):
    with pytest.raises(ServerDied, match="(?s)did not start.*nonsense"):
        make_server(options={"nonsense": "yes"})


def test_a_server_stops_when_the_run_is_killed(make_program):
    run = make_program(
        "import time; from tests.servers import Server; s = Server().start(); print('pid', s.pid, s.folder); time.sleep(60)"
    )
    _, pid, folder = run.wait_for("pid").split()
    run.kill()
    eventually(lambda: not _lives(int(pid)), why="the server to be gone")
    eventually(lambda: not os.path.exists(folder), why="its folder to be gone")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_password_user_and_memory_limit(make_server):
    users = ["user default on >other ~* +@all", "user app on >secret ~* +@all"]
    server = make_server(acl=users, user=("app", "secret"), maxmemory="3mb")
    with server.client() as client:
        assert client.acl_whoami() in ("app", b"app")
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "x" * 4_000_000)
            client.set("more", "x")
    plain = make_server(password="p@ss/word")
    with plain.client() as client:
        assert client.ping()
    with redis.Redis.from_url(plain.unix_url) as client:
        assert client.ping()
    with pytest.raises(redis.AuthenticationError), once(f"redis://127.0.0.1:{plain.port}") as client:
        client.ping()


def test_tls(make_server, tls_binary, certificates):
    server = make_server(tls_binary, tls=certificates)
    with server.client() as client:
        assert client.ping()
    with pytest.raises(redis.ConnectionError, match="(?i)certificate"), once(server.url) as client:
        client.ping()


def test_replica_sentinel_and_failover(make_server, make_sentinel):
    primary = make_server()
    replica = make_server(replica_of=primary)
    replica.wait_until_in_sync()
    sentinel = make_sentinel(primary)
    sentinel.wait_for_replicas(1)
    assert sentinel.primary_port() == primary.port
    primary.kill()
    assert sentinel.wait_for_failover(primary.port) == replica.port


def test_cluster(make_cluster, name):
    with make_cluster().client() as client:
        for number in range(20):
            client.set(f"{name}{number}", number)
        assert client.get(f"{name}7") == b"7"


def test_the_proxy_passes_everything_on(fast_url, make_proxy, name):
    proxy = make_proxy(fast_url)
    with redis.Redis.from_url(proxy.url) as client:
        client.set(name, b"x" * 1_000_000)
        assert client.get(name) == b"x" * 1_000_000
    assert proxy.accepted == 1
    eventually(lambda: proxy.connections == 0, why="the proxy to notice that the client left")


def test_cut(fast_url, make_proxy):
    proxy = make_proxy(fast_url)
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as caught:
        caught.sendall(b"PING\r\n")
        assert caught.recv(100) == b"+PONG\r\n"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            caught.recv(100)
    with once(proxy.url) as client:
        assert client.ping()
        assert proxy.cut(refuse=True) == 1
        with pytest.raises(redis.ConnectionError):
            client.ping()
        seen = proxy.accepted
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.wait_for_accepted(more_than=seen)
        proxy.heal()
        assert client.ping()


def test_blackhole_is_silent_and_caught_connections_stay_mute(fast_url, make_proxy):
    proxy = make_proxy(fast_url)
    host = ("127.0.0.1", proxy.port)
    with socket.create_connection(host) as caught:
        caught.sendall(b"PING\r\n")
        assert caught.recv(100) == b"+PONG\r\n"
        proxy.blackhole()
        caught.settimeout(0.2)
        caught.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            caught.recv(100)
        with socket.create_connection(host) as late:
            late.settimeout(0.2)
            late.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                late.recv(100)
        proxy.heal()
        caught.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            caught.recv(100)
    with once(proxy.url) as client:
        assert client.ping()
    eventually(lambda: proxy.connections == 0, why="the mute connections to go when their clients do")


def test_stall_delivers_late_and_latency_delays(fast_url, make_proxy):
    proxy = make_proxy(fast_url)
    with redis.Redis.from_url(proxy.url) as client:
        client.ping()
        proxy.stall(0.3)
        start = time.monotonic()
        assert client.echo("late") == b"late"
        assert time.monotonic() - start >= 0.25
        proxy.latency(100)
        start = time.monotonic()
        assert client.ping()
        assert time.monotonic() - start >= 0.2
        proxy.latency(0)


@pytest.mark.parametrize(("side", "done"), [("request", 0), ("reply", 1)])
def test_swallow(fast_url, make_proxy, name, side, done):
    proxy = make_proxy(fast_url)
    with once(proxy.url) as client:
        proxy.swallow(side, b"INCR")
        client.set(name, 0)
        with pytest.raises(redis.ConnectionError):
            client.incr(name)
        proxy.wait_until_swallowed()
        assert client.get(name) == b"%d" % done
        assert client.incr(name) == done + 1


def test_a_program_that_ends_early_shows_its_errors(make_program):
    program = make_program("raise SystemExit('no luck today')")
    with pytest.raises(NotInTime, match="(?s)ended before it printed 'ready'.*no luck today"):
        program.wait_for("ready")


def test_a_program_talks_both_ways_and_takes_signals(make_program):
    program = make_program("import sys\nfor line in sys.stdin: print('heard', line.strip(), sys.argv[1])", "you")
    program.send("hello")
    assert program.wait_for("heard hello") == "heard hello you"
    program.signal(signal.SIGTERM)
    assert program.wait(status=-signal.SIGTERM) == -signal.SIGTERM


def test_what_was_awaited_is_in_the_failure():
    with pytest.raises(NotInTime, match=r"waited 0.01 s for rain; last seen: \[\]"):
        eventually(list, 0.01, "rain")


@pytest.mark.xfail(raises=NotInTime, strict=True, reason="a test that is not awaited cannot fail")
async def test_async_tests_run(name):
    async def no() -> bool:
        return not name

    await eventually_async(no, 0.01, "snow")


def test_the_default_server_comes_first_and_each_version_once():
    found = binaries()
    assert found[0].path == embedded.find_binary()
    assert len({binary.label for binary in found}) == len(found)
