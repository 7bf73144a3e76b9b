# Generated from elkmq/_aio/requests.py by tools/async_to_sync.py; edit that.
"""Requests of one client and their responses: any number awaited at once over one blocking connection, without polling.

A request carries the client's inbox and its time to live. Whoever completes it writes the response to the inbox, if
somebody can still be waiting. The inbox goes with its last deadline, so a client that dies leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elkmq._core.call import Call, command
from elkmq._core.entry import Outgoing
from elkmq._sync.inbox import Inbox
from elkmq._sync.originals import OriginalResponders
from elkmq._sync.session import Session
from elkmq.errors import EnqueueError, TimeoutExpired
from elkmq.event import ServiceEvent, TimestampedEvent


class Requests:
    """The requests that one client has under way at one queue."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inbox = Inbox(session)
        self._originals = OriginalResponders(session, self._inbox.waiting)

    def ask(self, event: ServiceEvent, outgoing: Outgoing, timeout: float) -> TimestampedEvent:
        """Enqueue a request and its response for ``timeout`` seconds.

        Raises:
            TimeoutExpired: No response came in time; the request is not handed out any more.
            EnqueueError: The event was enqueued before, by somebody else or without being awaited.
        """
        pool, verbs = self._session.open()
        name = self._inbox.name
        fields = ("ttl", max(1, round(timeout * 1000)), "reply_to", name, *outgoing.fields)
        request = Outgoing(outgoing.json, outgoing.unique, outgoing.delay, outgoing.priority, name, fields)

        def send(run: Callable[[Call[Any]], Any]) -> None:
            receipt = (run(verbs.enqueue([request])))[0]
            if receipt.served:
                self._originals.listen(receipt.timestamp)
            if not receipt.duplicate:
                return
            # Enqueued before: by somebody else, or by this very call, whose reply was lost and which was sent again.
            mark = pool.run(command("GET", verbs.keys.mark(request.unique), parse=_inbox_of))
            if mark != name:
                raise EnqueueError(
                    f"the event {event.uuid} was enqueued before, without anybody here awaiting it; nothing was added, "
                    "and its response would not come here; make a new event."
                )

        try:
            return self._inbox.response(str(event.uuid).encode(), send, timeout)
        except TimeoutError:
            raise TimeoutExpired(
                f"no response to {event.action!r} came within {timeout:g} s; the request is not handed out any more, a "
                "handler that already has it may still be at work; send a new one, or allow more time."
            ) from None

    def close(self) -> None:
        """End the reading; requests under way fail."""
        self._originals.close()
        self._inbox.close()


def _inbox_of(mark: bytes | None) -> str:
    """The inbox that a dedupe mark names: ``id|inbox|deadline|answer``."""
    parts = (mark or b"").decode(errors="replace").split("|")
    return parts[1] if len(parts) > 1 else ""
