"""A worker whose broker is a Cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.celery.conftest import HERE, Site
from tests.celery.shared.test_canvas import (  # noqa: F401 - they run here once more, with this module's worker
    test_a_task_that_is_tried_again,
    test_chords,
    test_every_option_of_a_call_arrives,
    test_groups_and_chains,
    test_links,
    test_tasks_called_by_tasks,
)
from tests.celery.shared.test_control import (  # noqa: F401
    test_a_consumer_that_is_added_with_its_exchange,
    test_events_on_the_command_line,
    test_purge_on_the_command_line,
    test_revoking,
)
from tests.celery.test_faults import _children, _kill
from tests.servers import Binary, Server, default_binary
from tests.topology import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(appendonly=True, appendfsync="always") as running:
        for node in running.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
        yield running


@pytest.fixture(scope="module")
def backend() -> str:
    return "redis"


@pytest.fixture(scope="module")
def make_sites(
    cluster: Cluster, _shared_servers: Callable[[Binary], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Site]]:
    """``make_sites(queue, **conf)``: a `Site` with a queue of its own on the cluster."""
    with ExitStack() as closing:

        def make(queue: str, **conf: object) -> Site:
            url = "elkmq+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)
            results = _shared_servers(default_binary())
            folder: Path = tmp_path_factory.mktemp("site")
            return Site(cluster.nodes[0], results, folder, closing, url, task_default_queue=queue, **conf)

        yield make


@pytest.fixture(scope="module")
def site(make_sites: Callable[..., Site]) -> Site:
    found = make_sites("celery")
    found.worker("-n", HERE, "--without-mingle")
    return found


def test_inspect(site: Site) -> None:
    assert f"{HERE}: OK" in site.celery("status")
    inspect = site.inspect()
    assert inspect.ping()[HERE] == {"ok": "pong"}
    assert inspect.stats()[HERE]["broker"]["transport"] == "elkmq"
    assert [queue["name"] for queue in inspect.active_queues()[HERE]] == ["celery"]


def test_a_countdown_and_a_priority(site: Site) -> None:
    assert site.call("add", 1, 2, countdown=0.3, priority=9).get(timeout=20) == 3


def test_results_over_the_broker(make_sites: Callable[..., Site]) -> None:
    site = make_sites("rpc", backend="rpc://")
    site.worker("-n", "rpc@here", pool="solo")
    results = [site.call("add", n, n) for n in range(20)]
    assert [result.get(timeout=20) for result in results] == [2 * n for n in range(20)]


def test_a_killed_worker_and_a_node_that_was_gone(make_sites: Callable[..., Site], cluster: Cluster) -> None:
    queue = cluster.names("late")[1]
    options = {"lease": 4, "publish_timeout": 20}
    site = make_sites(queue, task_acks_late=True, task_reject_on_worker_lost=True, broker_transport_options=options)
    gate = site.folder / "gate"
    one = site.worker("-n", "killed@here")
    for n in range(2):
        site.call("hold", f"held{n}", str(gate))
        site.wait_for(f"start held{n}")
    for n in range(6):
        site.call("mark", f"m{n}")
    children = [int(line) for line in _children(one.pid)]
    one.kill()
    for child in children:
        _kill(child)
    site.worker("-n", "other@here")
    cluster.owner(f"{{{queue}}}").restart(hard=True)
    gate.touch()
    for n in range(6):
        site.wait_for(f"done m{n}")
    for n in range(2):
        site.wait_for(f"done held{n}")
    counts = site.started()
    assert all(counts[f"m{n}"] == 1 for n in range(6)), counts
    assert counts["held0"] == counts["held1"] == 2
