# Generated from elkmq/_aio/requests.py by tools/async_to_sync.py; edit that.
"""Requests of one client and their responses: any number awaited at once over one blocking connection, without polling.

A request carries the client's inbox and its time to live. Whoever completes it writes the response to the inbox, if
somebody can still be waiting. The inbox goes with its last deadline, so a client that dies leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from elkmq._core.call import Form, command
from elkmq._core.entry import Receipt
from elkmq._core.outgoing import Send, outgoing
from elkmq._sync.inbox import Inbox
from elkmq._sync.originals import OriginalResponders
from elkmq._sync.session import Session
from elkmq.errors import EnqueueError, TimeoutExpired
from elkmq.event import ServiceEvent, TimestampedEvent, uuid_hex
from elkmq.options import shown


class Requests:
    """The requests that one client has under way at one queue."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inbox = Inbox(session)
        self._originals = OriginalResponders(session, self._inbox.waiting)
        self._lone: Form[list[Receipt]] | None = None

    def ask(
        self, event: ServiceEvent, timeout: float, priority: int = 0, headers: Mapping[str, Any] | None = None
    ) -> TimestampedEvent:
        """Enqueue a request and its response for ``timeout`` seconds.

        Raises:
            TimeoutExpired: No response came in time; the request is not handed out any more.
            EnqueueError: The event was enqueued before, by somebody else or without being awaited.
            InvalidOption, JSONDumpError: The priority or the headers make no sense.
        """
        _, verbs = self._session.open()
        ttl = max(1, round(timeout * 1000))
        # The uuid is what responses are known by, also where the event came out of a queue.
        unique = uuid_hex(event)
        values: tuple[bytes, ...]
        if type(priority) is not int or priority != 0 or headers is not None:
            request = outgoing(Send(event, priority=priority, headers=headers, dedupe_id=unique))
            fields = ("ttl", ttl, "reply_to", self._inbox.name, *request.fields)
            form, values = Form(verbs.enqueue([replace(request, inbox=self._inbox.name, fields=fields)])), ()
        else:
            form = self._lone = self._lone or verbs.ask(self._inbox.name)
            values = (unique.encode(), event.to_json(), b"%d" % ttl)
        try:
            return self._inbox.response(event, form, values, timeout, self._accepted)
        except TimeoutError:
            raise TimeoutExpired(
                f"no response to {shown(event.action)} came within {timeout:g} s; the request is not handed out any more, a "
                "handler that already has it may still be at work; send a new one, or allow more time."
            ) from None

    def _accepted(self, event: ServiceEvent, receipt: Receipt) -> None:
        """The server said more of a request than its id."""
        if receipt.served:
            self._originals.listen(receipt.timestamp)
        if not receipt.duplicate:
            return
        # Enqueued before: by somebody else, or by this very call, whose reply was lost and which was sent again.
        pool, verbs = self._session.open()
        mark = pool.run(command("GET", verbs.keys.mark(uuid_hex(event)), parse=_inbox_of))
        if mark != self._inbox.name:
            raise EnqueueError(
                f"the event {event.uuid} was enqueued before, without anybody here awaiting it; nothing was added, "
                "and its response would not come here; make a new event."
            )

    def close(self) -> None:
        """End the reading; requests under way fail."""
        self._originals.close()
        self._inbox.close()


def _inbox_of(mark: bytes | None) -> str:
    """The inbox that a dedupe mark names: ``id|inbox|deadline|answer``."""
    parts = (mark or b"").decode(errors="replace").split("|")
    return parts[1] if len(parts) > 1 else ""
