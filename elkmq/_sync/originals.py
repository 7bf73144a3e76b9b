# Generated from elkmq/_aio/originals.py by tools/async_to_sync.py; edit that.
"""Responses that responders of elk-mq 0.1 write to requests of ours, on a queue that is set to serve them.

They know no inbox: a response goes to the stream that all of their requesters poll. One blocking read of it per client,
for as long as the client awaits anything, sees each of them at once, and has the server move it to the client's inbox.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from elkmq._core.inbox import READ_WAIT, Awaited
from elkmq._sync._concurrency import Background
from elkmq._sync.link import Waiter
from elkmq._sync.session import Session
from elkmq.errors import EventQueueError, ServerConnectionError

log = logging.getLogger("elkmq")


class OriginalResponders:
    """Looks for responses to what is ``waiting``, by uuid."""

    def __init__(self, session: Session, waiting: Mapping[bytes, Awaited]) -> None:
        self._session = session
        self._waiting = waiting
        self._guard = threading.Lock()  # never held over a wait
        self._listening = False
        self._last = b"0-0"
        self._waiter: Waiter | None = None
        self._work: Background | None = None
        self._closed = False

    def listen(self, since: int) -> None:
        """Look for the response to a request that was accepted at ``since``, server milliseconds."""
        with self._guard:
            if self._listening or self._closed:
                return
            self._listening = True
            self._last = b"%d-0" % (since - 1)
            self._waiter = self._waiter or self._session.waiter()
            self._work = Background(self._run, "elkmq-original-responders")

    def close(self) -> None:
        """Look no more."""
        with self._guard:
            self._closed = True
        if self._waiter is not None:
            self._waiter.close()
        if self._work is not None:
            self._work.stop()

    def _run(self) -> None:
        assert self._waiter is not None
        try:
            while not self._done():
                self._look(self._waiter)
        except EventQueueError as error:
            with self._guard:
                self._listening = False
            if not self._closed:
                log.error(
                    "responses of elk-mq 0.1 on %s are not looked for until the next request: %s",
                    self._session.describe(),
                    error,
                )

    def _done(self) -> bool:
        with self._guard:
            self._listening = bool(self._waiting) and not self._closed
            return not self._listening

    def _look(self, waiter: Waiter) -> None:
        pool, verbs = self._session.open()
        try:
            found = waiter.wait(verbs.wait_for_originals(self._last, READ_WAIT))
        except ServerConnectionError:
            pool.run(verbs.join())  # reconnects, with the patience of every call
            return
        for id_, uuid, response in found or ():
            self._last = id_
            if uuid in self._waiting:
                pool.run(verbs.forward(uuid, id_, response))
