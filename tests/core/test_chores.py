"""When a queue's chores are due, when a look is enough, and what a heartbeat looks at."""

from __future__ import annotations

from elkmq._core.chores import ALONE, BEATS, RARELY, Chores

LEASE = 30.0


def test_the_first_chores_are_done_whatever_the_reader_says():
    chores = Chores(10.0)
    assert not chores.begin(10.0, LEASE, quiet=True)
    assert chores.at == 40.0


def test_where_nothing_happens_a_look_is_enough_for_as_long_as_is_said():
    chores = Chores(0.0)
    done = [not chores.begin(n * LEASE, LEASE, quiet=True) for n in range(2 * RARELY + 1)]
    assert [n for n, each in enumerate(done) if each] == [0, RARELY, 2 * RARELY]


def test_where_something_happened_they_are_done():
    chores = Chores(0.0)
    assert not any(chores.begin(n * LEASE, LEASE, quiet=False) for n in range(RARELY))


def test_what_is_known_to_be_due_is_done_then():
    chores = Chores(0.0)
    chores.begin(0.0, LEASE, quiet=True)
    assert not chores.sooner(40.0)
    assert chores.sooner(20.0)
    assert chores.at == 20.0
    assert not chores.begin(20.0, LEASE, quiet=True)
    assert chores.begin(50.0, LEASE, quiet=True)


def test_for_what_may_be_renewed_a_look_is_enough():
    chores = Chores(0.0)
    chores.begin(0.0, LEASE, quiet=True)
    assert chores.sooner(20.0, known=False)
    assert chores.at == 20.0
    assert chores.begin(20.0, LEASE, quiet=True)
    assert chores.sooner(40.0)
    assert chores.sooner(35.0, known=False)
    assert not chores.begin(35.0, LEASE, quiet=True)


def test_after_somebody_died_a_look_is_not_enough_for_a_while():
    chores = Chores(0.0)
    chores.begin(0.0, LEASE, quiet=True)
    chores.done(taken_over=True)
    for n in range(RARELY):
        assert not chores.begin(n * LEASE, LEASE, quiet=True)
        chores.done(taken_over=False)
    assert chores.begin(RARELY * LEASE, LEASE, quiet=True)


def test_a_heartbeat_looks_at_others_each_time_and_where_there_are_none_once_a_lease():
    chores = Chores(0.0)
    for _ in range(3):
        assert chores.watch()
        chores.beaten(1.0, watched=True, alone=False)
    chores.beaten(1.0, watched=True, alone=True)
    watched = []
    for _ in range(2 * BEATS):
        watched.append(chores.watch())
        chores.beaten(1.0, watched=watched[-1], alone=True)
    assert watched == ([False] * (BEATS - 1) + [True]) * 2


def test_where_nobody_else_is_they_are_done_more_rarely_until_somebody_comes():
    chores = Chores(0.0)
    chores.beaten(1.0, watched=True, alone=True)
    done = [not chores.begin(n * LEASE, LEASE, quiet=True) for n in range(2 * ALONE + 1)]
    assert [n for n, d in enumerate(done) if d] == [0, ALONE, 2 * ALONE]
    for _ in range(RARELY):
        assert chores.begin(0.0, LEASE, quiet=True)
    chores.beaten(2.0, watched=True, alone=False)
    assert not chores.begin(0.0, LEASE, quiet=True)


def test_asking_whether_a_look_is_enough_changes_nothing():
    chores = Chores(0.0)
    assert not chores.enough(quiet=True)
    chores.begin(0.0, LEASE, quiet=True)
    for _ in range(2 * RARELY):
        assert chores.enough(quiet=True)
    assert not chores.enough(quiet=False)
    assert chores.at == LEASE
