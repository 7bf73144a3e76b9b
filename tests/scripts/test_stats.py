"""What is to be seen of a queue."""

from __future__ import annotations

import json

import pytest

from elkmq.options import QueueSettings
from elkmq.stats import QueueStats, Rates, rates, read_stats
from tests.scripts.rig import LEASE, Rig, named, outgoing


def sample(q: Rig, *ago: tuple[int, int, int]) -> None:
    """Samples of so many milliseconds ago, newest first, with what was enqueued and completed until then."""
    now = q.stats().server_time
    q.client.delete(q.key("rates"))
    q.client.rpush(q.key("rates"), *(f"{now - ms} {enqueued} {completed}" for ms, enqueued, completed in ago))


def test_an_empty_queue(q: Rig):
    stats = q.stats()
    assert stats == QueueStats(
        server_time=stats.server_time, ready=0, in_flight=0, delayed=0, dead=0, outbox=0, log=0, oldest_age=None, next_due=None,
        enqueued=0, completed=0, expired=0, dead_lettered=0, dropped=0, purged=0, requeued=0, revived=0, responses=0,
        rates=None, consumers=(), lanes=stats.lanes, settings=QueueSettings(),
    )  # fmt: skip
    assert [lane.name for lane in stats.lanes] == ["redelivered", "0"]
    assert q.names() == set()


def test_everything_at_once(q: Rig):
    q.configure(retention_count=10)
    q.open("c", "dead")
    q.put(*(outgoing(priority=i % 2) for i in range(10)), outgoing(delay=60_000), outgoing(fields=("ttl", 0)))
    taken = q.take("c", 6)
    q.run(q.verbs.settle("c", named(taken[:1]), keep=True))
    q.run(q.verbs.requeue("c", named(taken[1:2]), failed=True))
    q.run(q.verbs.reject("c", named(taken[2:3]), "rejected"))
    q.let_lease_end("dead")
    stats = q.stats()
    assert (stats.ready, stats.in_flight, stats.delayed, stats.dead, stats.log) == (6, 3, 1, 1, 1)
    assert (stats.enqueued, stats.completed, stats.requeued, stats.dead_lettered) == (12, 1, 1, 1)
    assert [(lane.name, lane.ready, lane.in_flight) for lane in stats.lanes] == [
        ("redelivered", 1, 0), ("1", 0, 2), ("0", 5, 1),
    ]  # fmt: skip
    assert {c.name: (c.alive, c.in_flight, c.lease_left > 29) for c in stats.consumers} == {
        "c": (True, 3, True), "dead": (False, 0, False),
    }  # fmt: skip
    assert stats.oldest_age is not None
    assert 0 <= stats.oldest_age < 5
    assert stats.next_due is not None
    assert 55 < stats.next_due <= 60
    assert stats.settings == QueueSettings(retention_count=10)
    shown = json.loads(json.dumps(stats.to_dict()))
    assert shown["settings"] == {"retention_count": 10}
    assert shown["consumers"][0]["host"] == "h"
    assert shown["ready"] == 6


def test_the_oldest_is_the_oldest_of_any_lane_and_no_response(q: Rig):
    q.run(q.verbs.join())
    now = q.stats().server_time
    q.client.xadd(q.keys.lane(0), {"response": "{}"})
    q.put()
    q.client.xadd(q.keys.redelivered, {"event": "{}", "first": str(now - 90_000)})
    assert 89 < (q.stats().oldest_age or 0) < 95
    q.client.delete(q.keys.redelivered)
    assert (q.stats().oldest_age or 0) < 5


def test_a_sample_is_taken_with_the_chores_at_most_every_five_seconds(q: Rig):
    q.open("c")
    q.put(outgoing(), outgoing())
    q.settle("c", q.take("c", 1))
    for _ in range(3):
        q.tend("c", chores=True)
    ((time, enqueued, completed),) = [line.split() for line in q.client.lrange(q.key("rates"), 0, -1)]
    assert (enqueued, completed) == (b"2", b"1")
    assert abs(int(time) - q.stats().server_time) < 5000
    q.client.lset(q.key("rates"), 0, f"{int(time) - 5001} 1 0")
    q.tend("c", chores=True)
    assert q.client.llen(q.key("rates")) == 2
    found = q.stats().rates  # the sample just taken is too young
    assert found is not None
    assert 5 <= found.span < 15
    assert found.enqueued == pytest.approx(1 / found.span)


def test_no_more_than_sixty_samples(q: Rig):
    q.open("c")
    sample(q, *((6000 + i, 0, 0) for i in range(80)))
    q.tend("c", chores=True)
    assert q.client.llen(q.key("rates")) == 60


def test_a_sample_of_a_clock_that_was_set_back_keeps_nobody_from_sampling(q: Rig):
    q.open("c")
    sample(q, (-3_600_000, 5, 5))
    q.tend("c", chores=True)
    assert q.client.llen(q.key("rates")) == 2
    q.client.lset(q.key("rates"), 0, f"{q.stats().server_time - 2000} 0 0")
    q.put(outgoing(), outgoing())
    found = q.stats().rates
    assert found is not None
    assert found.enqueued == pytest.approx(2 / found.span)


@pytest.mark.parametrize(
    ("samples", "span"),
    [
        ([], None),
        ([(2000, 0, 0)], 2),
        ([(10_000, 2, 0), (40_000, 1, 0), (58_000, 0, 0), (70_000, 0, 0)], 58),
        ([(90_000, 0, 0), (120_000, 0, 0)], 90),
        ([(700_000, 0, 0)], None),
        ([(5000, 9, 0)], None),  # of a queue of the same name that was deleted
    ],
)
def test_rates_are_of_the_last_minute_or_as_near_as_samples_are(q: Rig, samples, span):
    q.put(outgoing(), outgoing(), outgoing())
    if samples:
        sample(q, *samples)
    found = q.stats().rates
    if span is None:
        assert found is None
    else:
        assert found is not None
        assert found.span == pytest.approx(span, abs=1)
        before = {ago: enqueued for ago, enqueued, _ in samples}[span * 1000]
        assert found.enqueued == pytest.approx((3 - before) / found.span)


def test_rates_between_two_looks(q: Rig):
    q.open("c")
    before = q.stats()
    q.put(*(outgoing() for _ in range(30)))
    q.settle("c", q.take("c", 10))
    raw = list(q.run(q.verbs.stats()))
    raw[0] = before.server_time + 10_000
    after = read_stats(raw)
    assert rates(before, after) == Rates(3.0, 1.0, 10.0)
    assert rates(after, before) is None


def test_information_that_makes_no_sense_is_left_out(q: Rig):
    q.run(q.verbs.open("c", LEASE, {"host": 5, "pid": "x"}))
    for text in ("nonsense", "[]", b"\xff"):
        (consumer,) = q.stats().consumers
        assert (consumer.host, consumer.pid, consumer.started, consumer.kind) == (None, None, None, "consumer")
        q.client.hset(q.key("consumer_info"), "c", text)


def test_a_look_at_settings_of_another_release(q: Rig):
    q.client.set(q.key("settings"), "format=1\nlanes=2\noverflow=drop_oldest\nwhat_is_this=1\n")
    q.put()
    assert q.stats().ready == 1
