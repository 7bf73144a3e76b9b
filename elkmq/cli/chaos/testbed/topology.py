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
    """A Redis Cluster of ``size`` primaries on loopback, all slots covered."""

    def __init__(self, binary: Binary | None = None, *, size: int = 3) -> None:
        self._stack = ExitStack()
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        self.nodes = [self._stack.enter_context(Server(binary, options=options)) for _ in range(size)]
        bounds = [16384 * i // size for i in range(size + 1)]
        for node, start, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(start, end))
                if node is not self.nodes[0]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        for node in self.nodes:
            eventually(partial(self._complete, node), 30.0, "the cluster's nodes to know each other")

    def _complete(self, node: Server) -> bool:
        with node.client(decode_responses=True) as client:
            answer: Any = client.execute_command("CLUSTER", "INFO")
        # a dict in some releases of redis-py, the server's text in others
        info = answer if isinstance(answer, dict) else dict(line.split(":") for line in answer.split())
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == len(self.nodes)

    @property
    def url(self) -> str:
        """The url of its first node."""
        return self.nodes[0].url

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
