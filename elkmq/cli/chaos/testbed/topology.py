"""Servers that work together: a Sentinel over a primary and its replicas, and a Cluster."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import redis

from elkmq.cli.chaos.testbed.servers import Binary, Server
from elkmq.cli.chaos.testbed.waiting import eventually


class Sentinel(Server):
    """A Sentinel that watches ``primary`` under the name ``primary``.

    Args:
        primary: A running server; its replicas are found through it.
        down_after: Seconds without an answer after which the primary counts as down.
        quorum: How many Sentinels must agree (start as many with the same primary).
    """

    mode = ("--sentinel",)
    name = "primary"

    def __init__(
        self, primary: Server, binary: Binary | None = None, *, down_after: float = 0.5, quorum: int = 1
    ) -> None:
        super().__init__(binary or primary.binary)
        watch = f"{self.name} 127.0.0.1 {primary.port} {quorum}"
        # In this order: the other lines are about the name that the first one declares.
        self._lines = [
            ("monitor", watch),
            ("down-after-milliseconds", f"{self.name} {int(down_after * 1000)}"),
            ("failover-timeout", f"{self.name} 10000"),
        ]
        if primary.user:
            self._lines.append(("auth-pass", f"{self.name} {primary.user[1]}"))

    def _config(self) -> list[tuple[str, str]]:
        base = [("port", str(self.port)), ("bind", "127.0.0.1"), ("unixsocket", self.socket), ("dir", str(self.folder))]
        return base + [(f"sentinel {kind}", value) for kind, value in self._lines]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return ("127.0.0.1", self.port)

    def primary_port(self) -> int:
        """The port of the server that is the primary now."""
        with self.client(decode_responses=True) as client:
            answer: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        # redis-py reads the reply as (host, port) in some versions and as a plain list in others
        return int(answer[1])

    def failover(self, timeout: float = 30.0) -> int:
        """Have a replica promoted while the primary lives, and return the new primary's port."""
        before = self.primary_port()
        with self.client() as client:
            eventually(
                lambda: client.execute_command("SENTINEL", "FAILOVER", self.name) in (b"OK", True, "OK"),
                timeout,
                "Sentinel to accept a failover",
                ignoring=(redis.ResponseError,),  # NOGOODSLAVE until it has heard of the replica
            )
        return self.wait_for_failover(before, timeout)

    def wait_for_replicas(self, count: int, timeout: float = 30.0) -> None:
        """Wait until Sentinel knows this many replicas: without one it can promote nobody."""
        with self.client(decode_responses=True) as client:
            eventually(
                lambda: client.info("sentinel")["master0"]["slaves"] >= count,
                timeout,
                f"Sentinel to know {count} replicas",
            )

    def wait_for_failover(self, before: int, timeout: float = 30.0) -> int:
        """Wait until the primary is another one than that on port ``before``; return its port."""
        return eventually(
            lambda: port if (port := self.primary_port()) != before else 0, timeout, "another primary to be named"
        )


class Cluster:
    """A Redis Cluster of ``size`` primaries on loopback, all slots covered.

    Args:
        options: As of `Server`, for each node.
    """

    def __init__(self, binary: Binary | None = None, *, size: int = 3, **options: Any) -> None:
        self._stack = ExitStack()
        self._binary, self._options = binary, options
        self.nodes = [self._node() for _ in range(size)]
        bounds = [16384 * i // size for i in range(size + 1)]
        for node, start, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(start, end))
                if node is not self.nodes[0]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        for node in self.nodes:
            eventually(partial(self._complete, node), 30.0, "the cluster's nodes to know each other")

    def _node(self) -> Server:
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        return self._stack.enter_context(Server(self._binary, options=options, **self._options))

    def _complete(self, node: Server, more: int = 0) -> bool:
        with node.client(decode_responses=True) as client:
            answer: Any = client.execute_command("CLUSTER", "INFO")
        # a dict in some releases of redis-py, the server's text in others
        info = answer if isinstance(answer, dict) else dict(line.split(":") for line in answer.split())
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == len(self.nodes) + more

    @property
    def url(self) -> str:
        """The url of its first node."""
        return self.nodes[0].url

    def owner(self, key: str) -> Server:
        """The node that owns the slot of a key."""
        with self.client() as client:
            port = int(client.get_node_from_key(key).port)
        return next(node for node in self.nodes if node.port == port)

    def names(self, start: str) -> list[str]:
        """A queue's name for each node, in their order; each begins with ``start``."""
        found: dict[int, str] = {}
        number = 0
        while len(found) < len(self.nodes):
            name = f"{start}-{number}"
            found.setdefault(self.owner(f"{{{name}}}").port, name)
            number += 1
        return [found[node.port] for node in self.nodes]

    def add_replica(self, primary: Server) -> Server:
        """A further node that follows a primary, once it is in step; `promote` makes it the owner of the slots."""
        replica = self._node()
        with replica.client() as client, primary.client() as of_primary:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port)
            name = _text(of_primary.execute_command("CLUSTER", "MYID"))
            eventually(
                lambda: client.execute_command("CLUSTER", "REPLICATE", name) in (b"OK", "OK", True),
                30.0,
                "the replica to know its primary",
                ignoring=(redis.ResponseError,),
            )
            eventually(
                lambda: client.info("replication")["master_link_status"] == "up", 30.0, "the replica to be in step"
            )
        for node in (*self.nodes, replica):
            eventually(partial(self._complete, node, 1), 30.0, "all to know the replica")
        return replica

    def promote(self, replica: Server) -> None:
        """Have a replica take the place of its primary, which is gone."""
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            eventually(lambda: client.info("replication")["role"] == "master", 30.0, "the replica to be promoted")
        self.nodes.append(replica)

    def move(self, key: str, target: Server) -> None:
        """Move the slot of a key, with all that is in it, to another node."""
        source = self.owner(key)
        with source.client() as here, target.client() as there:
            slot = int(here.execute_command("CLUSTER", "KEYSLOT", key))
            ids = [_text(client.execute_command("CLUSTER", "MYID")) for client in (here, there)]
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                for each in keys:  # one after the other: in between some are here and some there
                    here.execute_command("MIGRATE", "127.0.0.1", target.port, each, 0, 5000)
            for client in (there, here):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        for node in self.nodes:
            if node.alive and node not in (source, target):
                with node.client() as client:
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    def client(self, **options: Any) -> redis.RedisCluster:
        """A redis-py client for it."""
        return redis.RedisCluster.from_url(self.url, **options)

    def close(self) -> None:
        """Stop every node."""
        self._stack.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
