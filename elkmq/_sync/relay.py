# Generated from elkmq/_aio/relay.py by tools/async_to_sync.py; edit that.
"""Empties a queue's outbox: events for queues in other slots of a Cluster, sent on with their unique id as dedupe id.

An event leaves the outbox only when its queue has accepted it; one that is sent twice, because two processes relay or one
died between, is accepted once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from elkmq._core.entry import Entry, Outgoing
from elkmq._core.verbs import Verbs
from elkmq._sync._concurrency import Background
from elkmq._sync.link import Channel
from elkmq.errors import EventQueueError

if TYPE_CHECKING:
    from elkmq._sync.session import Session

log = logging.getLogger("elkmq")

_OWN = (b"to", b"unique", b"delay", b"priority", b"event", b"v")


class Relay:
    """The relay of one consumer's queue. Entries for an exchange are left to the Kombu transport."""

    def __init__(self, session: Session, verbs: Verbs) -> None:
        self._session = session
        self._verbs = verbs
        self._work: Background | None = None
        self._closed = False

    def start(self) -> None:
        """Relay what is in the outbox, beside the caller."""
        if self._work is None or not self._work.running:
            self._work = Background(self._run, "elkmq-relay")

    def close(self) -> None:
        """Relay no more; what is left stays in the outbox."""
        self._closed = True
        if self._work is not None:
            self._work.stop()

    def _run(self) -> None:
        channels: dict[bytes, Channel] = {}
        refused: set[bytes] = set()
        try:
            pool, _ = self._session.open()
            while not self._closed:
                waiting = [e for e in pool.run(self._verbs.outbox()) if b"to" in e.fields and e.id not in refused]
                if not waiting:
                    break
                for entry in waiting:
                    try:
                        self._send(entry, channels)
                    except EventQueueError as error:
                        refused.add(entry.id)
                        log.warning("an event waits in the outbox of %s: %s", self._session.describe(), error)
                    else:
                        pool.run(self._verbs.relayed([entry.id]))
        except EventQueueError as error:
            if not self._closed:
                log.warning("events wait in the outbox of %s, to be sent on later: %s", self._session.describe(), error)
        finally:
            for channel in channels.values():
                channel.close()

    def _send(self, entry: Entry, channels: dict[bytes, Channel]) -> None:
        fields = entry.fields
        keys = self._session.keys(fields[b"to"].decode())
        target = Verbs(keys, counting=bool(self._verbs.counting), window=self._verbs.window)
        channel = channels.get(keys.base)
        if channel is None:
            channel = channels[keys.base] = Channel(self._session.endpoint, slot_key=keys.lane(0), retry_for=5.0)
        rest = tuple(part for name, value in fields.items() if name not in _OWN for part in (name, value))
        # One that its sender wants accepted however often it comes is still relayed once.
        unique = fields.get(b"unique", b"").decode() or f"{self._session.name[:200]} {entry.id.decode()}"
        outgoing = Outgoing(
            fields[b"event"], unique, int(fields.get(b"delay", b"0")), int(fields.get(b"priority", b"0")), "", rest
        )
        channel.run(target.enqueue([outgoing]))
