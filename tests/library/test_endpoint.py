"""Connections to what is not one plain server: TLS, ACL users, Sentinel, Cluster; by both drivers."""

from __future__ import annotations

import asyncio

import pytest
import redis

from elkmq._core.call import command
from elkmq._endpoint import Endpoint
from elkmq.errors import AuthenticationError, InvalidOption, ServerConnectionError, ServerError
from tests.library.drivers import echo, evalsha, incr, ping, pop
from tests.waiting import eventually_async


async def _value(value):
    return value


# -- what is sent at a connect


async def test_connecting_sends_nothing_that_was_not_asked_for(driver, make_server):
    server = make_server()
    async with driver() as d:
        with server.client() as client:
            client.config_resetstat()
            await d.channel(server.url).run(ping())
            sent = set(client.info("commandstats"))
        assert sent == {"cmdstat_config|resetstat", "cmdstat_ping"}


async def test_a_client_name_and_a_database_are_set(driver, make_server):
    server = make_server()
    async with driver() as d:
        channel = d.channel(f"redis://127.0.0.1:{server.port}/3?client_name=elk.test")
        await channel.run(incr("key"))
    with redis.Redis(port=server.port, db=3) as client:
        assert client.get("key") == b"1"
    async with driver() as d:
        await d.channel(server.url, client_name="elk.other").run(ping())
        with server.client() as client:
            assert [c["name"] for c in client.client_list() if c["name"]] == ["elk.other"]


async def test_a_user_with_the_shortest_acl(driver, make_server):
    server = make_server(
        acl=["user app on >secret ~app:* -@all +evalsha +script|load +incr", "user default off"], user=("app", "secret")
    )
    async with driver() as d:
        channel = d.channel(server.url)
        assert await channel.run(evalsha("return redis.call('INCR', KEYS[1])", "app:x")) == 1
        with pytest.raises(AuthenticationError, match="ACL"):
            await channel.run(incr("other"))


class Credentials(redis.CredentialProvider):
    """Like one for IAM tokens: what it gives out changes."""

    def __init__(self, *passwords):
        self.passwords = list(passwords)

    def get_credentials(self):
        return "app", self.passwords.pop(0) if len(self.passwords) > 1 else self.passwords[0]


async def test_a_credential_provider_is_asked_at_each_connect(driver, make_server):
    server = make_server(acl=["user app on >first >second ~* +@all", "user default on nopass ~* +@all"])
    async with driver() as d:
        provider = Credentials("first", "second")
        channel = d.channel(f"redis://127.0.0.1:{server.port}", credential_provider=provider)
        assert await channel.run(command("ACL", "WHOAMI", parse=bytes.decode)) == "app"
        channel.drop()
        assert await channel.run(command("ACL", "WHOAMI", parse=bytes.decode)) == "app"
        assert provider.passwords == ["second"]
        with pytest.raises(InvalidOption, match="exclude each other"):
            d.channel(server.url.replace("redis://", "redis://:x@"), credential_provider=provider)


async def test_ipv6(driver, make_server):
    server = make_server(options={"bind": "127.0.0.1 ::1"})
    async with driver() as d:
        assert await d.channel(f"redis://[::1]:{server.port}").run(ping()) == "PONG"


async def test_hostnames(driver, fast_server):
    async with driver() as d:
        assert await d.channel(f"redis://localhost:{fast_server.port}").run(ping()) == "PONG"
        with pytest.raises(ServerConnectionError, match="cannot be reached"):
            await d.channel("redis://no-such-host.invalid", retry_for=0.2).run(ping())


# -- TLS


async def test_tls(driver, make_server, certificates, tls_binary, name):
    server = make_server(tls_binary, tls=certificates)
    async with driver() as d:
        channel, waiter = (kind(server.url, ssl_ca_certs=certificates.ca) for kind in (d.channel, d.waiter))
        text = "x" * 1_000_000
        assert await channel.run_many([echo(text)] * 3) == [text] * 3
        waiting = asyncio.ensure_future(waiter.wait(pop(name, 30)))
        with server.client() as client:
            await eventually_async(lambda: _value(client.info("clients")["blocked_clients"]), why="the wait to begin")
        waiter.cancel()
        assert await asyncio.wait_for(waiting, 2) is None
        assert await waiter.wait(pop(name, 0.1)) is None


async def test_a_certificate_that_is_not_trusted_is_said_at_once(driver, make_server, certificates, tls_binary):
    server = make_server(tls_binary, tls=certificates)
    async with driver() as d:
        with pytest.raises(ServerConnectionError, match="(?i)certificate"):
            await asyncio.wait_for(d.channel(server.url, retry_for=600).run(ping()), 60)
        assert await d.channel(server.url + "?ssl_cert_reqs=none").run(ping()) == "PONG"


async def test_a_certificate_for_another_host(driver, make_server, tls_binary, tmp_path):
    from tests.certificates import Certificates

    elsewhere = Certificates(tmp_path / "tls", "elsewhere.example")
    server = make_server(tls_binary, tls=elsewhere)
    async with driver() as d:
        with pytest.raises(ServerConnectionError, match="(?i)certificate|hostname|IP address"):
            await d.channel(server.url, ssl_ca_certs=elsewhere.ca).run(ping())
        relaxed = d.channel(server.url, ssl_ca_certs=elsewhere.ca, ssl_check_hostname=False)
        assert await relaxed.run(ping()) == "PONG"


# -- Sentinel


async def test_a_failover_by_sentinel(driver, make_server, make_sentinel, name):
    primary = make_server()
    replica = make_server(replica_of=primary)
    sentinel = make_sentinel(primary)
    await asyncio.to_thread(replica.wait_until_in_sync)
    await asyncio.to_thread(sentinel.wait_for_replicas, 1)
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/0?service=primary"
    async with driver() as d:
        channel = d.channel(url)
        assert await channel.run(incr(name)) == 1
        await asyncio.to_thread(sentinel.failover)
        with primary.client() as client:
            # Sentinel gets round to this after 8 s or more; until then the old primary takes writes, and they are lost.
            client.replicaof("127.0.0.1", replica.port)
        assert await channel.run(incr(name)) == 2
        with replica.client() as client:
            assert client.get(name) == b"2"
        assert "primary of sentinels" in Endpoint.from_url(url).describe()


async def test_a_primary_that_dies(driver, make_server, make_sentinel, name):
    primary = make_server()
    replica = make_server(replica_of=primary)
    sentinel = make_sentinel(primary)
    await asyncio.to_thread(replica.wait_until_in_sync)
    await asyncio.to_thread(sentinel.wait_for_replicas, 1)
    async with driver() as d:
        channel = d.channel(f"redis+sentinel://127.0.0.1:{sentinel.port}?service=primary")
        assert await channel.run(incr(name)) == 1
        with primary.client() as client:
            client.wait(1, 5000)
        primary.kill()
        assert await channel.run(incr(name)) == 2


async def test_a_service_that_sentinel_does_not_know_is_said_at_once(driver, make_server, make_sentinel):
    sentinel = make_sentinel(make_server())
    async with driver() as d:
        channel = d.channel(f"redis+sentinel://127.0.0.1:{sentinel.port}?service=nonsense", retry_for=600)
        with pytest.raises(ServerError, match="know no service nonsense"):
            await asyncio.wait_for(channel.run(ping()), 60)


# -- Cluster


def slot_of(node, key):
    with node.client() as client:
        return int(client.execute_command("CLUSTER", "KEYSLOT", key))


def owner_of(cluster, key):
    for node in cluster.nodes:
        with node.client() as client:
            try:
                client.get(key)
            except redis.RedisError:
                continue
            return node
    raise AssertionError("nobody owns the slot")


def move(cluster, slot, target):
    with target.client() as client:
        name = client.execute_command("CLUSTER", "MYID")
    for node in cluster.nodes:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)


async def test_each_queues_channel_goes_to_its_slots_owner(driver, make_cluster):
    cluster = await asyncio.to_thread(make_cluster)
    url = "redis+cluster://127.0.0.1:1," + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)
    async with driver() as d:
        for key in ("{a}", "{b}", "{c}", "{d}"):
            channel = d.channel(url, slot_key=key.encode())
            assert await channel.run(incr(key)) == 1
            assert await channel.run(evalsha("return redis.call('INCR', KEYS[1])", key)) == 2
        assert await d.channel(url).run(ping()) == "PONG"  # no key: any node

        # One slot moves (MOVED), with calls under way that must not be repeated.
        key = "{e}"
        channel = d.channel(url, slot_key=key.encode())
        assert await channel.run(ping()) == "PONG"
        before = await asyncio.to_thread(owner_of, cluster, key)
        after = next(node for node in cluster.nodes if node is not before)
        await asyncio.to_thread(move, cluster, slot_of(before, key), after)
        outcomes = await asyncio.gather(*[channel.run(incr(key, retry=False)) for _ in range(10)])
        assert sorted(outcomes) == list(range(1, 11))
        assert owner_of(cluster, key) is after

        # A node goes, and with it its slots.
        before.kill()
        gone = d.channel(url, slot_key=b"{e}", retry_for=20)
        assert await gone.run(ping()) == "PONG"


async def test_a_cluster_url_of_a_server_that_is_none(driver, fast_server):
    async with driver() as d:
        channel = d.channel(f"redis+cluster://127.0.0.1:{fast_server.port}", slot_key=b"x", retry_for=600)
        with pytest.raises(ServerError, match="cluster support disabled"):
            await asyncio.wait_for(channel.run(ping()), 60)
