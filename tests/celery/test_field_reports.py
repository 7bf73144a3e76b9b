"""What was reported of Celery on ``redis://``, shown not to happen here. Each test names the report.

Others are where their subject is tested: celery#9082 in `test_faults`, celery#2678 in `shared.test_control`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elkmq import EventQueue
from tests.celery.conftest import Site
from tests.celery.test_faults import late, started
from tests.proxy import Proxy
from tests.servers import Server
from tests.topology import Sentinel
from tests.waiting import eventually


def test_a_worker_is_not_deaf_after_a_long_outage(
    make_site: Callable[..., Site], make_server: Callable[..., Server], make_proxy: Callable[[str], Proxy]
) -> None:
    """celery#8091: the server was away for longer than any lease, and the worker never consumed again."""
    server = make_server(appendonly=True, appendfsync="always")
    proxy = make_proxy(server.url)
    site = late(make_site, server=server, broker=proxy.url.replace("redis", "elkmq", 1), options={"lease": 1})
    site.worker(concurrency=1)
    assert site.call("add", 1, 1).get(timeout=20) == 2
    proxy.cut(refuse=True)
    client = server.client()

    def over() -> bool:
        ((_, ends),) = client.zrange("celery(consumers)", 0, -1, withscores=True)
        seconds, micros = client.time()
        return bool(seconds * 1000 + micros / 1000 > ends + 1000)

    eventually(over, why="the lease to be over")
    server.restart(hard=True)
    proxy.heal()
    for n in range(3):
        assert site.call("add", n, 1).get(timeout=30) == n + 1


def test_a_worker_is_not_deaf_on_a_half_open_connection(
    make_site: Callable[..., Site], make_server: Callable[..., Server], make_proxy: Callable[[str], Proxy]
) -> None:
    """celery#8030: the connection is gone and nobody told the worker, which waits on it for ever."""
    server = make_server()
    proxy = make_proxy(server.url)
    options = {"lease": 20, "socket_timeout": 1, "socket_connect_timeout": 1}
    site = late(make_site, server=server, broker=proxy.url.replace("redis", "elkmq", 1), options=options)
    worker = site.worker(concurrency=1)
    assert site.call("add", 1, 1).get(timeout=20) == 2
    accepted = proxy.accepted
    proxy.blackhole()
    proxy.wait_for_accepted(accepted + 2, timeout=20)  # the worker has noticed, and tries to connect anew
    proxy.heal()
    assert site.call("add", 2, 1).get(timeout=30) == 3
    assert not [line for line in worker.lines if "Connection to broker lost" in line]


def test_a_worker_follows_a_failover(
    make_site: Callable[..., Site], make_server: Callable[..., Server], make_sentinel: Callable[..., Sentinel]
) -> None:
    """celery#7946: after a failover the worker stays connected to what is a read-only replica now."""
    primary = make_server()
    replica = make_server(replica_of=primary)
    sentinel = make_sentinel(primary)
    replica.wait_until_in_sync()
    sentinel.wait_for_replicas(1)
    broker = f"elkmq+sentinel://127.0.0.1:{sentinel.port}/0?service={sentinel.name}"
    site = late(make_site, server=primary, broker=broker, options={"lease": 30})
    worker = site.worker(concurrency=1)
    gate = site.folder / "gate"
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    with primary.client() as client:
        client.wait(1, 5000)
    sentinel.failover()  # the old primary lives on, as a replica of the new one
    with primary.client() as client:
        # Sentinel gets round to this after 8 s or more; until then the old primary takes writes, and they are lost.
        client.replicaof("127.0.0.1", replica.port)
    gate.touch()
    for n in range(3):
        assert site.call("add", n, 1).get(timeout=40) == n + 1
    site.wait_for("done held")
    assert site.lines() == ["start held", "done held"]
    assert not [line for line in worker.lines if "Connection to broker lost" in line]


def test_prefetch_does_not_grow_with_reconnections(
    make_site: Callable[..., Site], make_server: Callable[..., Server], make_proxy: Callable[[str], Proxy]
) -> None:
    """celery#6500: with every connection made anew the worker held more messages than its prefetch count."""
    server = make_server()
    proxy = make_proxy(server.url)
    site = late(
        make_site, server=server, broker=proxy.url.replace("redis", "elkmq", 1), options={"lease": 20},
        worker_prefetch_multiplier=2,
    )  # fmt: skip
    gate = site.folder / "gate"
    site.worker(concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(20):
        site.call("mark", f"m{n}")
    client = server.client()

    def held() -> int:
        return int(client.xpending("celery(event_stream)", "elkmq")["pending"])

    eventually(lambda: held() == 2, why="the worker to hold as many as it may")
    for _ in range(6):
        accepted = proxy.accepted
        proxy.cut()
        proxy.wait_for_accepted(accepted + 1)
        assert site.app.control.ping(timeout=2)
        assert held() == 2
    gate.touch()
    for n in range(20):
        site.wait_for(f"done m{n}")
    assert set(started(site).values()) == {1}


def test_the_length_of_a_queue_has_what_is_in_flight(make_site: Callable[..., Site]) -> None:
    """celery#8556: what workers had prefetched was in no count of the queue."""
    site = late(make_site, worker_prefetch_multiplier=2)
    gate = site.folder / "gate"
    site.worker(concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(5):
        site.call("mark", f"m{n}")
    with EventQueue("celery", site.server.url) as queue:

        def counts() -> Any:
            stats = queue.stats()
            return stats.ready, stats.in_flight

        eventually(lambda: counts() == (4, 2), why="two to be in flight and four to wait")
    gate.touch()


def test_tasks_with_a_far_eta_take_nothing_of_a_worker(make_site: Callable[..., Site]) -> None:
    """celery#2218: half a million tasks with an eta filled the worker's memory, as it fetched them all."""
    site = late(make_site)
    worker = site.worker(concurrency=1)
    assert site.call("add", 1, 1).get(timeout=20) == 2
    for n in range(300):
        site.call("mark", f"far{n}", countdown=36_000)
    assert site.call("add", 1, 2).get(timeout=20) == 3
    client = site.server.client()
    assert client.zcard("celery(delayed)") == 300
    eventually(lambda: client.xpending("celery(event_stream)", "elkmq")["pending"] == 0, why="its acknowledgement")
    (reserved,) = site.app.control.inspect(timeout=2).reserved().values()
    (scheduled,) = site.app.control.inspect(timeout=2).scheduled().values()
    assert (reserved, scheduled) == ([], [])
    assert not [line for line in worker.lines if "mark[" in line]


def test_replies_and_bindings_do_not_pile_up(make_site: Callable[..., Site]) -> None:
    """celery#6089, kombu#294: every caller of remote control left a queue and a binding behind."""
    site = make_site(backend="rpc://")
    site.worker(concurrency=1, pool="solo")
    client = site.server.client()

    def bindings() -> int:
        return sum(int(client.hlen(key)) for key in client.keys("elkmq(exchange:*"))

    site.app.control.ping(timeout=0.3)
    assert site.call("add", 1, 1).get(timeout=20) == 2
    before = bindings()
    for n in range(5):
        with site.app.connection_for_write() as connection:
            site.app.control.inspect(timeout=0.3, connection=connection).ping()
        assert site.call("add", n, 1).get(timeout=20) == n + 1
    assert bindings() <= before
