"""Chains, groups, chords, links, retries and tasks that call tasks, on workers that the tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError

from tests.celery.conftest import HERE, Site


@pytest.fixture(scope="module", params=["redis", "elkmq", "rpc"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(open_site: Callable[..., Site], backend: str) -> Site:
    site = open_site(backend=f"{backend}://")
    site.worker("-n", HERE, "--without-mingle")
    return site


def test_groups_and_chains(site: Site) -> None:
    add = site.signature
    assert group(add("add", n, n) for n in range(20))().get(timeout=20) == [2 * n for n in range(20)]
    assert chain(add("add", 1, 1), add("add", 2), add("add", 3))().get(timeout=20) == 7
    nested = group(chain(add("add", n, 1), add("add", 10)) for n in range(3))
    assert nested().get(timeout=20) == [11, 12, 13]
    assert group([])().get(timeout=20) == []


def test_chords(site: Site, backend: str) -> None:
    if backend == "rpc":
        pytest.skip("Celery has no chords on rpc://")
    add, total = site.signature, site.signature("total")
    assert chord([add("add", n, n) for n in range(10)], total)().get(timeout=20) == 90
    assert chord([chain(add("add", 1, 1), add("add", 1)), add("add", 2, 2)], total)().get(timeout=20) == 7
    upgraded = chain(add("add", 1, 1), group(add("add", 1), add("add", 2)), total, add("add", 100))
    assert upgraded().get(timeout=20) == 107
    assert chord([chord([add("add", 1, 1)], total), add("add", 1, 1)], total)().get(timeout=20) == 4
    broken = chord([add("add", 1, 1), add("fail", "in a chord")], add("mark", "body of the broken chord"))
    with pytest.raises((ChordError, ValueError)):
        broken().get(timeout=20)
    assert "start body of the broken chord" not in site.lines()


def test_links(site: Site, backend: str) -> None:
    done = site.signature("mark", f"linked {backend}", immutable=True)
    site.call("add", 1, 1, link=done)
    site.wait_for(f"done linked {backend}")
    errback = site.signature("mark", f"errback {backend}", immutable=True)
    site.call("fail", "linked", link_error=errback)
    site.wait_for(f"done errback {backend}")


def test_a_task_that_is_tried_again(site: Site, backend: str) -> None:
    assert site.call("flaky").get(timeout=20) == 2
    with pytest.raises(ValueError, match="never"):
        site.call("hopeless", "never").get(timeout=20)
    assert [line for line in site.lines() if line.startswith("try never")] == [f"try never {n}" for n in range(3)]


def test_a_task_that_puts_others_in_its_place(site: Site, backend: str) -> None:
    if backend == "rpc":
        pytest.skip("Celery sends the result of the others to the worker that put them there")
    assert site.call("instead", 5).get(timeout=20) == 7


def test_tasks_called_by_tasks(site: Site, backend: str) -> None:
    texts = [f"spread {backend} {n}" for n in range(5)]
    assert len(site.call("spread", texts).get(timeout=20)) == 5
    for text in texts:
        site.wait_for(f"done {text}")
    assert {count for text, count in site.started().items() if text in texts} == {1}


def test_every_option_of_a_call_arrives(site: Site) -> None:
    seen = site.call("about", priority=3, time_limit=50, soft_time_limit=40, expires=600, routing_key="celery").get(
        timeout=20
    )
    assert (seen["priority"], seen["timelimit"], seen["hostname"]) == (3, [50, 40], HERE)
    assert seen["expires"] is not None
    assert seen["retries"] == 0


def test_a_result_nobody_wants_is_not_sent(site: Site) -> None:
    result = site.call("add", 1, 1, ignore_result=True)
    site.call("add", 1, 1).get(timeout=20)
    assert not result.ready()
