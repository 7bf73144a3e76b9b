"""What is left of a session that Kombu dropped while the application still works on its messages.

Celery, when its connection fails, makes a new one and forgets what it had not started; tasks that run go on, and are
acknowledged over the old channel when they are done. So the old consumer keeps its lease for as long as it takes, and
hands back what nobody has a reference to any more.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from elkmq.errors import EventQueueError

if TYPE_CHECKING:
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")

LOOK_EVERY = 0.5
"""Seconds."""


class Remains:
    """A thread that sees a dropped session to its end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        if not session.consumes or session.failed:
            self._end()
            return
        self._thread = threading.Thread(target=self._run, name="elkmq-remains", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        session, pause = self._session, threading.Event()
        session.uncork()
        try:
            while not session.failed and not session.closed:
                session.pump.settle_down()
                for reader in list(session.readers.values()):
                    session.deliveries.hand_back_buffered(reader)
                self._hand_back_forgotten()
                session.deliveries.flush()
                if not any(channel.unacked for channel in session.channels):
                    break
                pause.wait(LOOK_EVERY)
        except EventQueueError as error:
            log.warning("what is left of a connection goes back when its lease is over: %s", error)
        finally:
            self._end()

    def _hand_back_forgotten(self) -> None:
        session = self._session
        for channel in session.channels:
            for tag, held in list(channel.unacked.items()):
                if held.message is not None and held.message() is None and channel.unacked.pop(tag, None) is not None:
                    session.hand_back(held.reader, [held.delivered])

    def _end(self) -> None:
        session = self._session
        if session.failed:
            session.closed = True
            session.pump.stop()
            session.hang_up()
        else:
            session.close()
