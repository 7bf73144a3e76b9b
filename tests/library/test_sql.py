"""Effects in the user's own transaction, with SQLite for real."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from elkmq import EventQueue, InvalidOption, Options
from elkmq.sql import create_table, first_time
from tests.library.helpers import event


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "db")
    with sqlite3.connect(path) as database:
        create_table(database)
        database.execute("CREATE TABLE effects (unique_id TEXT)")
    database.close()
    return path


def effects(path):
    database = sqlite3.connect(path)
    try:
        return [row[0] for row in database.execute("SELECT unique_id FROM effects")]
    finally:
        database.close()


def test_an_id_is_new_once(path):
    database = sqlite3.connect(path)
    with database:
        assert first_time(database, "a")
        assert not first_time(database, "a")
        assert first_time(database, "b")
    with database:
        assert not first_time(database, "a")
        assert not first_time(database.cursor(), "b")
        assert first_time(database.cursor(), "c")
    database.close()


def test_what_was_rolled_back_was_not_done(path):
    database = sqlite3.connect(path)
    assert first_time(database, "a")
    database.rollback()
    assert first_time(database, "a")
    database.commit()
    assert not first_time(database, "a")
    database.close()


def test_creating_the_table_again_keeps_what_is_in_it(path):
    database = sqlite3.connect(path)
    first_time(database, "a")
    create_table(database)
    assert not first_time(database, "a")
    create_table(database, table="main.others")
    assert first_time(database, "a", table="main.others")
    database.close()


def test_two_transactions_at_once_do_it_once(path):
    found = []
    barrier = threading.Barrier(8)

    def work():
        database = sqlite3.connect(path, timeout=20, isolation_level="IMMEDIATE")
        barrier.wait(10)
        with database:
            if first_time(database, "a"):
                database.execute("INSERT INTO effects VALUES ('a')")
                found.append(1)
        database.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [1]
    assert effects(path) == ["a"]


@pytest.mark.parametrize("table", ["", "a b", "a;drop table effects", "a.b.c", "1a", 'a"', 7, "x" * 64, None])
def test_a_name_that_is_no_tables(path, table):
    database = sqlite3.connect(path)
    for call in (lambda: first_time(database, "a", table=table), lambda: create_table(database, table=table)):
        with pytest.raises(InvalidOption, match="nothing was written; give the name of a table"):
            call()
    database.close()


@pytest.mark.parametrize("unique_id", ["", "x" * 256, 7, None])
def test_an_id_that_is_none(path, unique_id):
    database = sqlite3.connect(path)
    with pytest.raises(InvalidOption, match="nothing was written"):
        first_time(database, unique_id)
    database.close()


def test_a_module_that_does_not_say_its_paramstyle(path):
    class Database:
        """As a pool's proxy, which belongs to another module."""

        def __init__(self, real):
            self.cursor = real.cursor

    database = sqlite3.connect(path)
    with pytest.raises(InvalidOption, match="paramstyle of .* is not known"):
        first_time(Database(database), "a")
    assert first_time(Database(database), "a", paramstyle="qmark")
    assert first_time(Database(database), "c", paramstyle="named")
    assert not first_time(Database(database), "c", paramstyle="qmark")
    with pytest.raises(InvalidOption, match="give one of qmark"):
        first_time(Database(database), "a", paramstyle="guess")
    database.close()


HANDLER = """
import os, sqlite3, sys
from elkmq import EventQueue, Options
from elkmq.sql import first_time

url, name, path, dies = sys.argv[1:]
queue = EventQueue(name, url, options=Options(lease=1))
database = sqlite3.connect(path)
delivery = queue.receive(20)
with database:
    if first_time(database, delivery.unique_id):
        database.execute("INSERT INTO effects VALUES (?)", (delivery.unique_id,))
        print("done")
    else:
        print("was done")
    if dies == "before":
        os._exit(9)
if dies == "after":
    os._exit(9)
delivery.ack()
queue.close()
"""


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_process_that_dies_around_the_commit(fast_url, name, path, make_program, dies):
    with EventQueue(name, fast_url, options=Options(lease=1)) as queue:
        sent = event()
        queue.enqueue(sent)
        first = make_program(HANDLER, fast_url, name, path, dies)
        assert first.wait(status=9) == 9
        assert first.lines == ["done"]
        assert effects(path) == ([] if dies == "before" else [sent.uuid.hex])
        second = make_program(HANDLER, fast_url, name, path, "not")
        second.wait()
        assert second.lines == ["done" if dies == "before" else "was done"]
        assert effects(path) == [sent.uuid.hex]
        assert queue.stats().completed == 1
