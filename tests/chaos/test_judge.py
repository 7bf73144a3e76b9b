"""The judge: what it counts as kept and as broken, from records written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from elkmq.cli.chaos.judge import Incident, Spell, tally
from elkmq.cli.chaos.ledger import Ledger


@pytest.fixture
def folder(tmp_path: Path):
    def write(**files: str) -> Ledger:
        for name, text in files.items():
            worker, _, pid = name.rpartition("_")
            path = tmp_path / f"{worker}~{pid}.records"
            path.write_text("".join(" ".join(line.split()) + "\n" for line in text.split(",")))
        ledger = Ledger(str(tmp_path))
        ledger.look()
        return ledger

    return write


SENT = "R 0 1 0, S 1 1 10, S 2 1 20"
"""A producer's records: two messages."""
S = 1_000_000
"""A second, in microseconds."""


def test_all_run_once(folder):
    found = tally("x", folder(producer_1=SENT, one_2="b 1 5 30, e 1 5 40, b 2 5 50, e 2 5 60"))
    assert (found.sent, found.once, found.more, found.lost, found.unknown) == (2, 2, 0, 0, 0)


def test_what_was_begun_and_not_ended_is_lost(folder):
    found = tally("x", folder(producer_1=SENT, one_2="b 1 5 30, e 1 5 40, b 2 5 50"))
    assert (found.once, found.lost) == (1, 1)
    assert "message 2 was lost" in found.worst[0]


def test_where_it_was_acknowledged_before_and_the_process_killed_it_is_cut_off(folder):
    ledger = folder(producer_1=SENT, one_2="b 1 5 30, e 1 5 40, b 2 5 50")
    found = tally("x", ledger, [Incident("one", 1.0)], early=True)
    assert (found.lost, found.cut_off) == (0, 1)
    assert tally("x", ledger, early=True).lost == 1


def test_a_second_run_without_a_reason(folder):
    found = tally("x", folder(producer_1=SENT, one_2="b 1 5 30, e 1 5 40, b 2 5 50, e 2 5 60, b 1 5 70, e 1 5 80"))
    assert (found.more, found.again, found.twice, found.completed_twice) == (1, 0, 1, 1)


def test_a_second_run_of_what_a_killed_process_had_in_hand(folder):
    ledger = folder(
        producer_1=SENT, one_2=f"b 1 5 {S}", two_3=f"b 2 5 {S}, e 2 5 {2 * S}, b 1 5 {5 * S}, e 1 5 {6 * S}"
    )
    found = tally("x", ledger, [Incident("one", 1.5)])
    assert (found.more, found.again, found.twice, found.completed_twice, found.lost) == (1, 1, 0, 0, 0)
    assert tally("x", ledger, [Incident("two", 1.5)]).twice == 1  # the other one was killed
    assert tally("x", ledger, [Incident("one", 0.5)]).twice == 1  # before it began


def test_only_the_last_one_that_a_slot_began_was_in_hand(folder):
    ledger = folder(
        producer_1=SENT,
        one_2=f"b 1 5 {S}, e 1 5 {2 * S}, b 2 5 {3 * S}, b 2 6 {3 * S}",
        two_3=f"b 1 5 {8 * S}, e 1 5 {9 * S}, b 2 5 {9 * S}, e 2 5 {10 * S}",
    )
    found = tally("x", ledger, [Incident("one", 4.0)])
    assert (found.again, found.twice) == (1, 1)  # 2 was in hand, 1 was done with


def test_an_incident_may_hit_one_process_of_a_worker(folder):
    ledger = folder(
        producer_1=SENT,
        one_2=f"b 1 5 {S}",
        one_3=f"b 2 5 {S}",
        two_4=f"b 1 5 {5 * S}, e 1 5 {6 * S}, b 2 5 {6 * S}, e 2 5 {7 * S}",
    )
    found = tally("x", ledger, [Incident("one", 1.5, pid=2)])
    assert (found.again, found.twice) == (1, 1)


def test_what_a_pool_process_of_a_stopped_worker_began_had_been_handed_to_it_before(folder):
    ledger = folder(
        producer_1=SENT, one_2=f"b 1 5 {2 * S}, e 1 5 {2 * S}, b 2 5 {9 * S}, e 2 5 {9 * S}",
        two_3=f"b 1 5 {6 * S}, e 1 5 {7 * S}, b 2 5 {10 * S}, e 2 5 {11 * S}",
    )  # fmt: skip
    found = tally("x", ledger, [Incident("one", 1.9, until=8.0)])
    assert (found.again, found.twice) == (1, 1)  # what it began after it had been woken is no such thing


def test_what_was_acknowledged_while_there_was_no_connection_and_then_killed(folder):
    ledger = folder(
        producer_1=SENT, one_2=f"b 1 5 {S}, e 1 5 {2 * S}, b 2 5 {3 * S}",
        two_3=f"b 1 5 {8 * S}, e 1 5 {9 * S}, b 2 5 {9 * S}, e 2 5 {10 * S}",
    )  # fmt: skip
    killed = [Incident("one", 4.0)]
    assert tally("x", ledger, killed, [Spell(1.9, 5.0)]).twice == 0
    assert tally("x", ledger, killed, [Spell(2.5, 5.0)]).twice == 1  # it had left before


def test_a_run_that_was_refused_did_not_complete(folder):
    ledger = folder(
        producer_1=SENT,
        one_2=f"b 1 5 {S}, r 1 5 {9 * S}",
        two_3=f"b 1 5 {5 * S}, e 1 5 {6 * S}, b 2 5 {6 * S}, e 2 5 {7 * S}",
    )
    found = tally("x", ledger, [Incident("one", 1.5)])
    assert (found.again, found.completed_twice, found.lost) == (1, 0, 0)


def test_what_nobody_sent(folder):
    ledger = folder(
        producer_1=SENT + ", G 3 1 30", one_2="b 1 5 30, e 1 5 40, b 2 5 50, e 2 5 60, b 3 5 70, e 3 5 80, b 9 5 90"
    )
    assert tally("x", ledger).unknown == 1  # 9; the publish of 3 raised, and may have worked


def test_half_a_line_is_not_read(folder, tmp_path):
    ledger = folder(producer_1=SENT)
    with open(tmp_path / "producer~1.records", "a") as file:
        file.write("S 3 1")
        file.flush()
        ledger.look()
        assert ledger.sent.total == 2
        file.write(" 40\n")
    ledger.look()
    assert ledger.sent.total == 3
