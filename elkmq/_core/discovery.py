"""Which server to connect to: the primary that Sentinels name, or the node of a cluster that owns a slot. No I/O.

Each search is a generator: it yields a `Question`, is sent the reply or thrown the redis-py error that came instead, and
returns the address. The endpoint asks the questions over sync or asyncio connections.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from elkmq._core.recovery import hopeless
from elkmq._core.url import Address


class Question(NamedTuple):
    """A command for one server."""

    address: Address
    command: tuple[str, ...]


Search = Generator[Question, Any, Address]


def find_primary(sentinels: Iterable[Address], service: str) -> Search:
    """Ask each Sentinel for the primary of a service, until one knows it.

    :raises redis.exceptions.RedisError: none does.
    """
    errors: list[RedisError] = []
    unknown = False
    for sentinel in sentinels:
        try:
            reply = yield Question(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))
        except RedisError as error:
            errors.append(error)
            continue
        if reply:
            host, port = reply
            return host.decode(), int(port)
        unknown = True
    if unknown:
        raise ResponseError(f"the Sentinels know no service {service}")
    raise _failure("no master found by Sentinel", errors)


class SlotMap:
    """Which node owns which slot, from a reply to ``CLUSTER SLOTS`` of the node at ``asked``."""

    def __init__(self, reply: Any, asked: Address) -> None:
        self.asked = asked
        # An empty host means: the one you asked.
        ranges = sorted((first, last, _place(owner, asked)) for first, last, owner, *_ in reply)
        self._firsts = [first for first, _, _ in ranges]
        self._ranges = ranges

    def owner(self, key: bytes) -> Address | None:
        """The node that owns the slot of a key; None where none does."""
        slot = key_slot(key)
        at = bisect_right(self._firsts, slot) - 1
        if at < 0 or self._ranges[at][1] < slot:
            return None
        return self._ranges[at][2]


def read_slots(nodes: Iterable[Address], key: bytes | None = None) -> Generator[Question, Any, SlotMap]:
    """Ask each node of a cluster, until one answers, who owns which slot.

    :param key: go on until one knows who owns the slot of this key
    :raises redis.exceptions.RedisError: none answers, or nobody owns the slot.
    """
    errors: list[RedisError] = []
    for node in nodes:
        try:
            reply = yield Question(node, ("CLUSTER", "SLOTS"))
        except RedisError as error:
            errors.append(error)
            continue
        slots = SlotMap(reply, node)
        if key is None or slots.owner(key) is not None:
            return slots
        errors.append(ClusterDownError(f"no node owns slot {key_slot(key)}"))
    raise _failure("the cluster cannot be connected", errors)


def find_slot_owner(nodes: Iterable[Address], key: bytes | None) -> Search:
    """Ask each node of a cluster which one owns the slot of a key; for no key, return the first that answers.

    :raises redis.exceptions.RedisError: as `read_slots`
    """
    slots = yield from read_slots(nodes, key)
    owner = slots.asked if key is None else slots.owner(key)
    assert owner is not None
    return owner


def _place(owner: Any, asked: Address) -> Address:
    return (owner[0] or b"").decode() or asked[0], int(owner[1])


def _failure(what: str, errors: list[RedisError]) -> RedisError:
    """One error for all: the first, where each server refuses for good, else one that says to try again."""
    if all(map(hopeless, errors)):
        return errors[0]
    return RedisConnectionError(f"{what} ({'; '.join(dict.fromkeys(map(str, errors)))})")


def owners(slots: Any) -> tuple[Address, ...]:
    """The nodes that own slots, from a reply to ``CLUSTER SLOTS``."""
    places = ((owner[0], int(owner[1])) for _, _, owner, *_ in slots)
    return tuple({(host.decode(), port): None for host, port in places if host})
