"""The nodes of a Cluster for calls that somebody waits for: each goes to the node that owns its slot.

Which node that is comes from a map that is read once, and once more when it turns out to be old. It only makes things fast:
a connection that is at the wrong node for a call is told so (``MOVED``), and goes where the call belongs by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from elkmq._core.call import Call, slot_key
from elkmq._core.discovery import SlotMap
from elkmq._core.recovery import FROM_BELOW
from elkmq._core.sending import NOT_SENT, Sending, checked
from elkmq._core.url import Address
from elkmq._endpoint import Endpoint
from elkmq.errors import EventQueueError, QueueClosed, ServerConnectionError, translate
from kombu_elkmq.links import Link

T = TypeVar("T")


class NodeLink(Link):
    """A connection to whichever node its oldest unanswered call is for."""

    node: Address | None = None
    """Where it was connected to last."""

    def _connect(self) -> None:
        for sending in self._again:
            if not (sending.answered or sending.abandoned) and (key := slot_key(sending.call)) is not None:
                self._slot_key = key
                break
        super()._connect()
        self.node = (self._raw.host, self._raw.port)

    def begin(self, sendings: Sequence[Sending[Any]]) -> None:
        """Write calls, if that can be done at once; `finish` does the rest."""

        def work() -> None:
            if self._raw is not None and self._stale is None and not self._again:
                self._send(sendings)

        self._work(work, sendings)

    def finish(self, sendings: Sequence[Sending[Any]]) -> None:
        """See calls to their outcomes."""
        self._work(lambda: self._exchange(sendings), sendings)


class Shards:
    """A link for each node, made when it is needed. Any number of threads may use it.

    :param retry_for: seconds that a call is repeated for while its node cannot be reached
    :param any_key: a key to whose slot's owner goes what any node can answer
    """

    def __init__(self, endpoint: Endpoint, *, retry_for: float, any_key: bytes) -> None:
        self._any = any_key
        self._endpoint = endpoint
        self._retry_for = retry_for
        self._lock = threading.Lock()
        self._links: dict[Address | None, NodeLink] = {}
        self._map: SlotMap | None = None
        self._closed = False

    def connect(self) -> None:
        """Learn who owns what, in one attempt.

        :raises EventQueueError: no node answers, or the login is refused
        """
        try:
            self._map = self._endpoint.slots()
        except FROM_BELOW as error:
            raise translate(error, server=self._endpoint.describe(), doing="connect", fate=NOT_SENT) from error

    def run(self, call: Call[T]) -> T:
        """Send a call and return what it makes of the reply.

        :raises EventQueueError: its node refused it, or could not be reached for ``retry_for`` seconds
        """
        address, link = self._link(call)
        try:
            return link.run(call)
        except ServerConnectionError:
            self._map = None
            raise
        finally:
            self._compare(address, link)

    def run_many(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Send calls to all their nodes at once and return the outcomes in order, errors among them."""
        sendings = [Sending(call) for call in calls]
        parts: dict[NodeLink, tuple[Address | None, list[Sending[Any]]]] = {}
        for sending in sendings:
            address, link = self._link(sending.call)
            parts.setdefault(link, (address, []))[1].append(sending)
        if len(parts) > 1:
            for link, (_, part) in parts.items():
                link.begin(part)
        for link, (address, part) in parts.items():
            link.finish(part)
            self._compare(address, link)
        outcomes = checked([sending.outcome for sending in sendings])
        if any(isinstance(outcome, ServerConnectionError) for outcome in outcomes):
            self._map = None
        return outcomes

    def _link(self, call: Call[Any]) -> tuple[Address | None, NodeLink]:
        key = slot_key(call) or self._any
        if self._map is None and not self._closed:
            with suppress(EventQueueError):  # the link tries for as long as it is to
                self.connect()
        known = self._map
        address = known.owner(key) if known is not None else None
        with self._lock:
            if self._closed:
                raise QueueClosed("the connection is closed; nothing was sent; open a new one.")
            link = self._links.get(address)
            if link is None:
                link = self._links[address] = NodeLink(self._endpoint, retry_for=self._retry_for, slot_key=key)
        return address, link

    def _compare(self, address: Address | None, link: NodeLink) -> None:
        """A link that ended at another node tells that the map is old."""
        if address is None or link.node in (None, address):
            return
        self._map = None
        with self._lock:
            if self._links.get(address) is link:
                del self._links[address]
        link.drop()

    def give_up_after(self, seconds: float) -> None:
        """Repeat calls for so long at most from now on."""
        self._retry_for = min(self._retry_for, seconds)
        for link in list(self._links.values()):
            link.give_up_after(seconds)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._closed = True
            links = list(self._links.values())
        for link in links:
            link.close()

    def forget_parent(self) -> None:
        """In a forked child: the links forget by themselves."""
        self._lock = threading.Lock()
