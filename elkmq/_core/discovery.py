"""Which server to connect to: the primary that Sentinels name, or the node of a cluster that owns a slot. No I/O.

Each search is a generator: it yields a `Question`, is sent the reply or thrown the redis-py error that came instead, and
returns the address. The endpoint asks the questions over sync or asyncio connections.
"""

from __future__ import annotations

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


def find_slot_owner(nodes: Iterable[Address], key: bytes | None) -> Search:
    """Ask each node of a cluster which one owns the slot of a key; for no key, return the first that answers.

    :raises redis.exceptions.RedisError: none answers, or nobody owns the slot.
    """
    errors: list[RedisError] = []
    for node in nodes:
        try:
            reply = yield Question(node, ("CLUSTER", "SLOTS"))
        except RedisError as error:
            errors.append(error)
            continue
        if key is None:
            return node
        slot = key_slot(key)
        for first, last, owner, *_ in reply:
            if first <= slot <= last:
                # An empty host means: the one you asked.
                return (owner[0] or b"").decode() or node[0], int(owner[1])
        errors.append(ClusterDownError(f"no node owns slot {slot}"))
    raise _failure("the cluster cannot be connected", errors)


def _failure(what: str, errors: list[RedisError]) -> RedisError:
    """One error for all: the first, where each server refuses for good, else one that says to try again."""
    if all(map(hopeless, errors)):
        return errors[0]
    return RedisConnectionError(f"{what} ({'; '.join(dict.fromkeys(map(str, errors)))})")


def owners(slots: Any) -> tuple[Address, ...]:
    """The nodes that own slots, from a reply to ``CLUSTER SLOTS``."""
    places = ((owner[0], int(owner[1])) for _, _, owner, *_ in slots)
    return tuple({(host.decode(), port): None for host, port in places if host})
