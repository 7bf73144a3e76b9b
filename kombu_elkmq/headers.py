"""Celery's task headers without what every task has the same.

A task message of protocol 2 has some twenty headers, nearly all of them at their default, which take more room than
the call itself. Stored is what differs, each under a letter; what is not stored comes back as it was. Which headers
there are depends on Celery's release: one that the message lacks is listed, one that is not in the table is stored
under its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ETA_WAITED", "compact_task_headers", "expand_task_headers", "uuid_number", "uuid_text"]

_SAME_AS_ID: Final = object()

# Header -> its letter and its default. The order is Celery's. `task` and `id` are the event's action and uuid.
TASK_HEADERS: Final[dict[str, tuple[str, Any]]] = {
    "lang": ("l", "py"),
    "shadow": ("s", None),
    "eta": ("e", None),
    "expires": ("x", None),
    "group": ("g", None),
    "group_index": ("G", None),
    "retries": ("r", 0),
    "timelimit": ("t", [None, None]),
    "root_id": ("R", _SAME_AS_ID),
    "parent_id": ("p", None),
    "argsrepr": ("a", "()"),
    "kwargsrepr": ("k", "{}"),
    "origin": ("o", None),
    "ignore_result": ("i", False),
    "replaced_task_nesting": ("n", 0),
    "stamped_headers": ("h", None),
    "stamps": ("S", {}),
}
_BY_LETTER: Final = {letter: name for name, (letter, _) in TASK_HEADERS.items()}
_DEFAULTS: Final = {name: default for name, (_, default) in TASK_HEADERS.items()}
_ABSENT: Final = "-"
_ID: Final = "I"

ETA_WAITED = "elkmq_eta"
"""Header in which a worker finds the eta that the broker waited for."""


def compact_task_headers(
    headers: Mapping[str, Any], extra: dict[str, Any], *, id_is_event: bool, eta: str | None
) -> dict[str, Any]:
    """Put what is not the default into ``extra["t"]`` and return the headers that are not in the table.

    :param id_is_event: the event's uuid is the task id, so it is not stored again
    :param eta: the eta that the broker waits for, if it does
    """
    compact: dict[str, Any] = {}
    task_id = headers["id"]
    if not id_is_event:
        compact[_ID] = task_id
    found = 2
    for name, (letter, default) in TASK_HEADERS.items():
        if name not in headers:
            compact.setdefault(_ABSENT, []).append(name)
            continue
        found += 1
        value = headers[name]
        if default is _SAME_AS_ID:
            default = task_id  # noqa: PLW2901
        if value is default or (value == default and type(value) is type(default)):
            continue
        if name == "timelimit" and type(value) is tuple and value == (None, None):
            continue
        compact[letter] = value
    if eta is not None:
        compact.pop("e", None)
        compact["E"] = eta
    extra["t"] = compact
    if found == len(headers):
        return {}
    return {name: value for name, value in headers.items() if name not in TASK_HEADERS and name not in ("task", "id")}


def expand_task_headers(headers: dict[str, Any], extra: Mapping[str, Any], task: str, number: int) -> None:
    """Put back what `compact_task_headers` took away."""
    compact = extra["t"]
    if type(compact) is not dict:
        raise ValueError("the task headers are not an object")
    task_id = compact.get(_ID)
    if task_id is None:
        task_id = uuid_text(number)
    headers.update(_DEFAULTS)
    headers["task"] = task
    headers["id"] = headers["root_id"] = task_id
    headers["timelimit"], headers["stamps"] = [None, None], {}
    for letter, value in compact.items():
        if letter == _ABSENT:
            for name in value:
                headers.pop(name, None)
        elif letter in _BY_LETTER:
            headers[_BY_LETTER[letter]] = value
    if "E" in compact:
        headers[ETA_WAITED] = compact["E"]


_is_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


def uuid_number(text: str) -> int | None:
    """A task id as the event's number, where it is a uuid in the form in which `uuid_text` writes it again."""
    # A quarter of the time of uuid.UUID(text), on the way of every message.
    return int(text.replace("-", ""), 16) if _is_uuid(text) else None


def uuid_text(number: int) -> str:
    """The hyphenated lower-case form."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
