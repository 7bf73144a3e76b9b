"""Which server to connect to: the primary that Sentinels name, or the node of a cluster that owns a slot. No I/O.

Each search is a generator: it yields a `Question`, is sent the reply or thrown the redis-py error that came instead, and
returns the address. The endpoint asks the questions over sync or asyncio connections.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from elkmq._core.url import Address, show_address


class Question(NamedTuple):
    """A command for one server."""

    address: Address
    command: tuple[str, ...]


Search = Generator[Question, Any, Address]


def find_primary(sentinels: Iterable[Address], service: str) -> Search:
    """Ask each Sentinel for the primary of a service, until one knows it.

    :raises redis.exceptions.ConnectionError: none does.
    """
    failures = []
    for sentinel in sentinels:
        try:
            reply = yield Question(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))
        except RedisError as error:
            failures.append(f"{show_address(sentinel)}: {error}")
            continue
        if reply:
            host, port = reply
            return host.decode(), int(port)
        failures.append(f"{show_address(sentinel)} knows no service {service}")
    raise RedisConnectionError(f"no master found by Sentinel ({'; '.join(failures)})")


def find_slot_owner(nodes: Iterable[Address], key: bytes | None) -> Search:
    """Ask each node of a cluster which one owns the slot of a key; for no key, return the first that answers.

    :raises redis.exceptions.ConnectionError: none answers, or nobody owns the slot.
    """
    failures = []
    for node in nodes:
        try:
            reply = yield Question(node, ("CLUSTER", "SLOTS"))
        except RedisError as error:
            failures.append(f"{show_address(node)}: {error}")
            continue
        if key is None:
            return node
        slot = key_slot(key)
        for first, last, owner, *_ in reply:
            if first <= slot <= last:
                # An empty host means: the one you asked.
                return (owner[0] or b"").decode() or node[0], int(owner[1])
        failures.append(f"{show_address(node)} knows no owner of slot {slot}")
    raise RedisConnectionError(f"the cluster cannot be connected ({'; '.join(failures)})")


def owners(slots: Any) -> tuple[Address, ...]:
    """The nodes that own slots, from a reply to ``CLUSTER SLOTS``."""
    places = ((owner[0], int(owner[1])) for _, _, owner, *_ in slots)
    return tuple({(host.decode(), port): None for host, port in places if host})
