"""Ids of a stream's entries, as users name them: ``1669887505996-0``, milliseconds and a number within them."""

from __future__ import annotations

_MOST = 2**64 - 1


def is_id(value: object) -> bool:
    """Whether it is a whole id, in its two parts."""
    return isinstance(value, str) and value.count("-") == 1 and is_place(value)


def is_place(value: object) -> bool:
    """Whether it is an id, or milliseconds alone, as the ends of a range may be."""
    if not isinstance(value, str) or len(value) > 41:
        return False
    return all(part.isascii() and part.isdecimal() and int(part) <= _MOST for part in value.split("-", 1))


def following(id_: str) -> str:
    """The first id after this one."""
    time, sequence = map(int, id_.split("-"))
    return f"{time}-{sequence + 1}" if sequence < _MOST else f"{min(time + 1, _MOST)}-0"
