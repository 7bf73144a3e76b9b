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

    def start(self) -> None:
        """Relay what is in the outbox, beside the caller."""
        if self._work is None or not self._work.running:
            self._work = Background(self._run, "elkmq-relay")

    def _run(self) -> None:
        try:
            pool, _ = self._session.open()
            while entries := [e for e in pool.run(self._verbs.outbox()) if b"to" in e.fields]:
                for entry in entries:
                    self._send(entry)
                    pool.run(self._verbs.relayed([entry.id]))
        except EventQueueError as error:
            log.warning("events wait in the outbox of %s, to be sent on later: %s", self._session.describe(), error)

    def _send(self, entry: Entry) -> None:
        fields = entry.fields
        keys = self._session.keys(fields[b"to"].decode())
        target = Verbs(keys, counting=bool(self._verbs.counting), window=self._verbs.window)
        channel = Channel(self._session.endpoint, slot_key=keys.lane(0))
        try:
            rest = tuple(part for name, value in fields.items() if name not in _OWN for part in (name, value))
            unique = fields.get(b"unique", b"").decode()
            outgoing = Outgoing(
                fields[b"event"], unique, int(fields.get(b"delay", b"0")), int(fields.get(b"priority", b"0")), "", rest
            )
            channel.run(target.enqueue([outgoing]))
        finally:
            channel.close()
