"""Effects in the user's own SQL database that happen once: the event's id is written in the transaction of the effect.

::

    with queue.receive() as delivery, database:                       # commits at its end, or rolls back
        if first_time(database, delivery.unique_id):
            database.execute("UPDATE account SET balance = balance - 10 WHERE ...")

If the process dies before the commit, neither the effect nor the id is there, and the event's next delivery does both. If
it dies after the commit and before the acknowledgement, the next delivery finds the id and does nothing. Works with any
DB-API 2 module (PEP 249) for PostgreSQL, SQLite (from 3.24), MySQL or MariaDB; this module imports none.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from elkmq.errors import InvalidOption
from elkmq.options import encodable, shown

__all__ = ["create_table", "first_time"]

TABLE = "elkmq_done"

LONGEST_ID = 255
"""Characters of a unique id at most, as in `EventQueue.enqueue`."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s", "numeric": ":1", "named": ":id"}


def create_table(database: Any, *, table: str = TABLE) -> None:
    """Create the table, unless it is there; the caller commits.

    ``database``: a DB-API 2 connection or cursor. ``table``: its name, perhaps with a schema: ``jobs.elkmq_done``. Old rows
    may be deleted by ``done_at`` once their events cannot come back any more.

    Raises:
        InvalidOption: ``table`` is no name.
    """
    _execute(
        database,
        f"CREATE TABLE IF NOT EXISTS {_checked(table)} (unique_id VARCHAR({LONGEST_ID}) PRIMARY KEY, "
        "done_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    )


def first_time(database: Any, unique_id: str, *, table: str = TABLE, paramstyle: str | None = None) -> bool:
    """Write an event's id (`Delivery.unique_id`) in the transaction that is open; False: it was there already.

    To be called in the transaction of the effect, before it; then commit both, or roll both back. While another
    transaction has written the same id and has not ended, databases make this call wait for it.

    ``database``: a DB-API 2 connection or cursor. ``table``: see `create_table`. ``paramstyle``: that of the database's
    module, where it cannot be found out.

    Raises:
        InvalidOption: ``table`` is no name, ``unique_id`` no id, or the paramstyle is unknown; nothing was written.
        Exception: What the database raises; roll back, and the event comes back.
    """
    if not isinstance(unique_id, str) or not 0 < len(unique_id) <= LONGEST_ID or not encodable(unique_id):
        raise InvalidOption(
            f"unique_id is {shown(unique_id)}; nothing was written; give a delivery's unique_id, text of 1 to 255 characters."
        )
    style = _paramstyle(database) if paramstyle is None else paramstyle
    if not isinstance(style, str) or style not in _MARKS:
        raise InvalidOption(f"paramstyle is {shown(style)}; nothing was written; give one of {', '.join(_MARKS)}.")
    # Not an INSERT that may fail: in PostgreSQL that would break the transaction. And not a look before it: two
    # transactions could both see nothing. ON CONFLICT is PostgreSQL's and SQLite's, IGNORE is MySQL's.
    name, mark = _checked(table), _MARKS[style]
    statement = (
        f"INSERT IGNORE INTO {name} (unique_id) VALUES ({mark})"  # noqa: S608 - the name was checked
        if "mysql" in type(database).__module__.lower() or "mariadb" in type(database).__module__.lower()
        else f"INSERT INTO {name} (unique_id) VALUES ({mark}) ON CONFLICT DO NOTHING"  # noqa: S608 - as above
    )
    return _execute(database, statement, {"id": unique_id} if style == "named" else (unique_id,)) == 1


def _execute(database: Any, statement: str, *parameters: Any) -> int:
    """Run a statement on a cursor, or on one of the connection's; how many rows it wrote."""
    if not hasattr(database, "cursor") and not hasattr(database, "execute"):
        raise InvalidOption(f"database is {shown(database)}; nothing was written; give a DB-API connection or cursor.")
    if not hasattr(database, "cursor"):
        database.execute(statement, *parameters)
        return int(database.rowcount)
    cursor = database.cursor()
    try:
        cursor.execute(statement, *parameters)
        return int(cursor.rowcount)
    finally:
        cursor.close()


def _paramstyle(database: Any) -> str:
    """The paramstyle of the module that a connection or cursor comes from: its package's, or its own."""
    for kind in type(database).__mro__:
        parts = kind.__module__.split(".")
        for end in range(1, len(parts) + 1):
            style = getattr(sys.modules.get(".".join(parts[:end])), "paramstyle", None)
            if isinstance(style, str):
                return style
    raise InvalidOption(
        f"the paramstyle of {type(database).__module__} is not known; nothing was written; give it as paramstyle."
    )


def _checked(table: object) -> str:
    if isinstance(table, str) and _NAME.fullmatch(table):
        return table
    raise InvalidOption(f"table is {shown(table)}; nothing was written; give the name of a table.")
