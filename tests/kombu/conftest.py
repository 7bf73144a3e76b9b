"""Kombu connections to real servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Connection, Producer

import kombu_elkmq
from tests.servers import Server

kombu_elkmq.register()

needs_batches = pytest.mark.skipif(not hasattr(Producer, "batch"), reason="Kombu before 5.7 has no batches")


def broker_url(url: str) -> str:
    """A server's url as a broker's."""
    return url.replace("redis", "elkmq", 1)


@pytest.fixture
def make_connection(fast_server: Server, closing: ExitStack) -> Callable[..., Connection]:
    """``make_connection(url=None, **transport_options)``: an open Kombu connection."""

    def make(url: str | None = None, **options: Any) -> Connection:
        connection = Connection(broker_url(url or fast_server.url), transport_options=options)
        closing.callback(connection.release)
        return connection

    return make


@pytest.fixture
def connection(make_connection: Callable[..., Connection]) -> Connection:
    """A connection to the default server."""
    return make_connection()


class Inbox:
    """Consumes queues and keeps what came."""

    def __init__(self, connection: Connection, *queues: Any, ack: bool = True, **options: Any) -> None:
        self.connection = connection
        self.bodies: list[Any] = []
        self.messages: list[Any] = []
        self._ack = ack
        prefetch = options.pop("prefetch", None)
        self.consumer = connection.Consumer(list(queues), callbacks=[self._receive], **options)
        if prefetch is not None:
            self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def _receive(self, body: Any, message: Any) -> None:
        self.bodies.append(body)
        self.messages.append(message)
        if self._ack and not self.consumer.no_ack:
            message.ack()

    def wait(self, count: int, timeout: float = 10.0) -> list[Any]:
        """Bodies, once there are so many."""
        while len(self.bodies) < count:
            self.connection.drain_events(timeout=timeout)
        return self.bodies

    def nothing_comes(self, timeout: float = 0.3) -> bool:
        """Whether a while goes by without a message."""
        before = len(self.bodies)
        try:
            while len(self.bodies) == before:
                self.connection.drain_events(timeout=timeout)
        except TimeoutError:
            return True
        return False
