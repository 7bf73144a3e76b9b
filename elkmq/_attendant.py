"""Who does the chores of a queue that only consumers of elk-mq 0.1 consume: they do none.

Entries that are due go to their list, and what they left goes, while a client of ours is there that opened the queue after
it was set to serve them, or enqueued something delayed since. It is a member of the heart that holds no lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elkmq._core.entry import Tended
    from elkmq._core.verbs import Verbs


class Attendant:
    """A client's part in the chores of one queue, done once a ``lease`` (seconds) and when something is due."""

    consumer = ""
    quiet = False
    settings = None

    def __init__(self, verbs: Verbs, lease: float) -> None:
        self.verbs = verbs
        self.lease = lease

    def heard(self, sent: float) -> None:
        """It has no lease."""

    def tended(self, reply: Tended) -> None:
        """The heart has done what there was to do."""

    def gone(self, consumer: str) -> None:
        """It has no lease to lose."""
