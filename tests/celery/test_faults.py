"""Real workers while things break."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from elkmq import ServerOutOfMemory
from tests.celery.conftest import Site
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

LEASE = 2


def late(make_site: Callable[..., Site], **more: object) -> Site:
    """Tasks are acknowledged when they are done, and leases are short."""
    options = {"lease": LEASE, **more.pop("options", {})}  # type: ignore[dict-item]
    return make_site(task_acks_late=True, task_reject_on_worker_lost=True, broker_transport_options=options, **more)


def started(site: Site) -> Counter[str]:
    return Counter(line.removeprefix("start ") for line in site.lines() if line.startswith("start "))


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_killed_worker_costs_what_it_was_running(make_site: Callable[..., Site], pool: str) -> None:
    site = late(make_site)
    gate = site.folder / "gate"
    one = site.worker("-n", "one@here", pool=pool, concurrency=2)
    for n in range(2 if pool != "solo" else 1):
        site.call("hold", f"held{n}", str(gate))
        site.wait_for(f"start held{n}")
    for n in range(6):
        site.call("mark", f"m{n}")
    eventually(lambda: site.server.client().xlen("celery(event_stream)") >= 7, why="the rest to be there")
    children = [int(line) for line in _children(one.pid)]
    one.kill()
    for child in children:
        _kill(child)
    gate.touch()
    site.worker("-n", "two@here", pool=pool, concurrency=2)
    for n in range(6):
        site.wait_for(f"done m{n}")
    site.wait_for("done held0")
    counts = started(site)
    assert all(counts[f"m{n}"] == 1 for n in range(6)), counts
    assert counts["held0"] == 2


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return listed.read().split()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])
def test_a_stopped_worker_starts_nothing_that_it_had_buffered(make_site: Callable[..., Site], pool: str) -> None:
    site = late(make_site, worker_prefetch_multiplier=10)
    gate = site.folder / "gate"
    one = site.worker("-n", "one@here", pool=pool, concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(5):
        site.call("mark", f"m{n}")
    # Green pools hold the consumer up while they are full: one task waits for a place.
    waiting = 1 if pool in ("gevent", "eventlet") else 5
    eventually(lambda: sum(" received" in line for line in one.lines) == 1 + waiting, why="Celery to have them")
    one.pause()
    site.worker("-n", "two@here", pool=pool, concurrency=1)
    gate.touch()  # a pool process of the stopped worker ends its task meanwhile
    for n in range(5):
        site.wait_for(f"done m{n}")
    site.wait_for("done held", 2 if pool == "prefork" else 1)
    one.resume()
    one.wait_for("Connection to broker lost", timeout=15)
    if pool != "prefork":  # the pool was handed all of it before, and comes to it now
        site.wait_for("done held", 2)
        eventually(
            lambda: sum("this worker's any more" in line for line in one.lines) == waiting, why="the pool to be through"
        )
    assert site.call("add", 1, 1).get(timeout=20) == 2
    counts = started(site)
    assert all(counts[f"m{n}"] == 1 for n in range(5)), counts
    assert counts["held"] == 2


def test_a_thread_s_acknowledgement_leaves_before_its_next_task_starts(make_site: Callable[..., Site]) -> None:
    site = late(make_site, worker_prefetch_multiplier=10, options={"lease": 20})
    gate, lock = site.folder / "gate", site.folder / "lock"
    site.worker(pool="threads", concurrency=1)
    site.call("hold", "first", str(gate))
    site.wait_for("start first")
    site.call("hold_the_lock", "locked", str(lock))
    client = site.server.client()
    eventually(lambda: client.xpending("celery(event_stream)", "elkmq")["pending"] == 2, why="the pool to have both")
    gate.touch()
    site.wait_for("start locked")
    # No other thread of the worker runs now.
    eventually(lambda: client.xlen("celery(event_stream)") == 1, 5, why="the first one's acknowledgement")
    assert not lock.exists()
    lock.touch()
    site.wait_for("done locked")


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_what_waits_in_a_pool_goes_back_where_nobody_can_say_whose_it_is(
    make_site: Callable[..., Site], make_proxy: Callable[[str], Proxy], make_server: Callable[..., Server], pool: str
) -> None:
    server = make_server()
    proxy = make_proxy(server.url)
    options = {"lease": LEASE, "publish_timeout": 0.5}
    site = late(make_site, server=server, broker=proxy.url.replace("redis", "elkmq", 1), options=options)
    gate = site.folder / "gate"
    one = site.worker("-n", "one@here", pool=pool, concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    site.call("mark", "m0")
    eventually(lambda: sum(" received" in line for line in one.lines) == 2, why="Celery to have both")
    one.pause()
    proxy.cut(refuse=True)
    confirmed = server.client().zrange("celery(consumers)", 0, -1, withscores=True)
    eventually(lambda: _is_over(server, confirmed[0][1]), why="the lease to be over, which nobody takes")
    gate.touch()
    one.resume()
    one.wait_for("could not be asked, it goes back", timeout=20)
    assert started(site)["m0"] == 0
    proxy.heal()
    site.wait_for("done m0", timeout=30)
    client = server.client()
    lanes = ("celery(event_stream)", "celery(event_stream:redelivered)")
    # What was running may be run again, the outage having been longer than its lease.
    eventually(lambda: not any(client.xlen(lane) for lane in lanes), 30, why="all to be done")
    assert started(site)["m0"] == 1


def _is_over(server: Server, ends: float) -> bool:
    seconds, micros = server.client().time()
    return bool(seconds * 1000 + micros / 1000 > ends)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_cut_connections_are_not_noticed(
    make_site: Callable[..., Site], make_proxy: Callable[[str], Proxy], make_server: Callable[..., Server], pool: str
) -> None:
    server = make_server()
    proxy = make_proxy(server.url)
    site = late(make_site, server=server, broker=proxy.url.replace("redis", "elkmq", 1), options={"lease": 10})
    worker = site.worker(pool=pool)
    for n in range(40):
        site.call("mark", f"m{n}", 0.02)
        if n % 8 == 5:
            proxy.cut()
    for n in range(40):
        site.wait_for(f"done m{n}")
    assert set(started(site).values()) == {1}
    assert not [line for line in worker.lines if "Connection to broker lost" in line]
    eventually(lambda: server.client().xlen("celery(event_stream)") == 0, why="every acknowledgement to arrive")
    assert server.client().xlen("celery(event_stream:redelivered)") == 0


def test_a_server_that_restarts(make_site: Callable[..., Site], make_server: Callable[..., Server]) -> None:
    server = make_server(appendonly=True, appendfsync="always")
    site = late(make_site, server=server, options={"lease": 10})
    worker = site.worker()
    gate = site.folder / "gate"
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(5):
        site.call("mark", f"m{n}", 0.05)
    server.restart(hard=True)
    gate.touch()
    for n in range(5, 10):
        site.call("mark", f"m{n}")
    for n in range(10):
        site.wait_for(f"done m{n}")
    site.wait_for("done held")
    assert not [line for line in worker.lines if "Connection to broker lost" in line], "\n".join(worker.lines)
    assert set(started(site).values()) == {1}, "\n".join([*site.lines(), *worker.lines])


def test_a_task_that_kills_its_pool_process_ends_as_a_dead_letter(make_site: Callable[..., Site]) -> None:
    """celery#9082: a task that kills its worker was retried for ever."""
    site = late(make_site, options={"delivery_limit": 3})
    site.worker(concurrency=1)
    site.call("die", "again")
    client = site.server.client()
    eventually(lambda: client.xlen("celery(dead_letters)") == 1, 40, "the dead letter")
    ((_, fields),) = client.xrange("celery(dead_letters)")
    assert fields[b"reason"] == b"delivery_limit"
    assert len(site.lines()) == 4  # as in RabbitMQ: it may come back three times
    assert site.call("add", 1, 1).get(timeout=20) == 2


def test_tasks_longer_than_the_lease_run_once(make_site: Callable[..., Site]) -> None:
    """kombu#337: a task longer than the visibility timeout, or with an eta further out, ran twice."""
    site = late(make_site, options={"lease": 1})
    workers = [site.worker("-n", f"{name}@here", pool="solo") for name in ("one", "two")]
    site.call("mark", "long", 3)
    site.call("mark", "due", countdown=3)
    site.wait_for("done long")
    site.wait_for("done due")
    assert set(started(site).values()) == {1}
    assert not [line for worker in workers for line in worker.lines if "Connection to broker lost" in line]


def test_clean_shutdown_hands_back_at_once(make_site: Callable[..., Site]) -> None:
    site = late(make_site, options={"lease": 30}, worker_prefetch_multiplier=10)
    gate = site.folder / "gate"
    one = site.worker("-n", "one@here", concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(4):
        site.call("mark", f"m{n}")
    client = site.server.client()
    eventually(
        lambda: client.xpending("celery(event_stream)", "elkmq")["pending"] == 5, why="the worker to have all five"
    )
    one.signal(signal.SIGTERM)
    one.wait_for("Warm shutdown")
    gate.touch()
    one.wait(30)
    site.worker("-n", "two@here", concurrency=1)
    for n in range(4):
        site.wait_for(f"done m{n}")
    assert set(started(site).values()) == {1}


def test_keys_of_another_type_do_not_end_a_worker(
    make_site: Callable[..., Site], make_server: Callable[..., Server]
) -> None:
    server = make_server()
    site = late(make_site, server=server)
    worker = site.worker(pool="solo")
    site.call("mark", "before")
    site.wait_for("done before")
    client = server.client()
    keys = client.keys("*")
    for key in keys:
        client.pipeline().delete(key).set(key, "of another program").execute()
    worker.wait_for("Connection to broker lost")  # its lease cannot be renewed
    for key in keys:
        client.delete(key)

    def back() -> bool:
        with suppress(Exception):  # a queue that is half made is refused
            site.call("mark", "after")
        return "done after" in site.lines()

    eventually(back, 60, "the worker to go on")
    site.stop(worker, "solo")


def test_a_wrong_password_is_said_once_and_tried_again_as_celery_is_set_to(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.env["BROKER"] = site.broker.replace("://", "://late:wrong-one@")
    worker = site.program("worker", "-l", "INFO", "-P", "solo", ready="Cannot connect to elkmq://")
    assert "refused the user or password" in worker.wait_for("Cannot connect")
    worker.wait_for("Trying again in 2.00 seconds")
    worker.wait_for("Trying again in 4.00 seconds")
    assert not [line for line in worker.lines if "Traceback" in line or "CRITICAL" in line]
    assert "wrong-one" not in "\n".join(worker.lines)
    site.server.client().acl_setuser("late", enabled=True, passwords=["+wrong-one"], keys=["*"], commands=["+@all"])
    worker.wait_for(" ready.")
    site.call("mark", "served")
    site.wait_for("done served")


def test_a_wrong_password_ends_a_worker_that_is_to_try_so_often_only(make_site: Callable[..., Site]) -> None:
    site = make_site(broker_connection_max_retries=1)
    site.env["BROKER"] = site.broker.replace("://", "://nobody:wrong-one@")
    worker = site.program("worker", "-l", "INFO", "-P", "solo", ready="Cannot connect to elkmq://")
    assert worker.wait(30, status=None) != 0
    assert sum("Cannot connect to elkmq://" in line for line in worker.lines) == 1
    assert "refused the user or password; nothing was changed; correct them" in worker.lines[-1]
    assert "wrong-one" not in "\n".join(worker.lines)


def test_a_worker_goes_on_while_the_server_is_full(make_site: Callable[..., Site]) -> None:
    """What consumers send makes room; its own heartbeat events, which do not fit, are kept back by Celery."""
    site = make_site()
    gate = site.folder / "gate"
    site.worker("-n", "one@here", concurrency=1)
    site.call("hold", "held", str(gate))
    site.wait_for("start held")
    for n in range(30):
        site.call("mark", f"m{n}")
    client = site.server.client()
    client.config_set("maxmemory", "1mb")
    with pytest.raises(ServerOutOfMemory, match="nothing was changed"):
        site.call("mark", "too much", retry=True)  # at once, though this is the default
    refused = client.info("errorstats").get("errorstat_OOM", {}).get("count", 0)
    eventually(  # an event of the worker's is refused now
        lambda: client.info("errorstats")["errorstat_OOM"]["count"] > refused, 20, "an event that finds no room"
    )
    gate.touch()
    for n in range(30):
        site.wait_for(f"done m{n}")
    assert site.started() == Counter({"held": 1, **{f"m{n}": 1 for n in range(30)}})
    client.config_set("maxmemory", "0")


def test_a_worker_that_comes_back_after_a_kill_does_not_take_its_predecessor_for_another(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    site.worker("-n", "one@here", pool="solo").kill()
    again = site.worker("-n", "one@here", pool="solo")
    assert [line for line in again.lines if "already using this process mailbox" in line] == []
    other = site.worker("-n", "one@here", pool="solo")  # which is true of this one
    other.wait_for("A node named one@here is already using this process mailbox")
