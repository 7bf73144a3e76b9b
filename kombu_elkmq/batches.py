"""Messages that come so fast that they are read together, a fifth of a second later at most.

That is for messages which nobody acknowledges and which are over soon, as Celery's events are. In a fleet of workers each hears the
heartbeats of all others: to be woken for each would cost the server as many reads as the square of their number.
"""

from __future__ import annotations

__all__ = ["BATCH", "Batches"]

BATCH = 0.2
"""Seconds from one read to the next."""

SLOW = 2.0
"""Seconds between messages that come one by one, however much more it is."""


class Batches:
    """How the messages of one queue come."""

    def __init__(self) -> None:
        self._pace = SLOW
        """Seconds from one to the next, on average."""
        self._together = False
        self.until = 0.0
        """When the queue is to be read next, and not waited for before; 0.0: it is waited for."""

    def came(self, now: float, before: float) -> None:
        """The blocking read brought something, as it did at ``before``: where that happens all the time, it rests."""
        self._pace += (min(now - before, SLOW) - self._pace) / 4
        if self._pace < BATCH / 2:
            self._together, self.until = True, now + BATCH

    def over(self, now: float) -> bool:
        """Whether the queue is to be read now."""
        if now < self.until:
            return False
        self.until = 0.0
        return True

    def read(self, now: float, *, brought: bool) -> None:
        """It was read. Where that brought nothing, they do not come as fast any more."""
        if self._together and brought:
            self.until = now + BATCH
        elif self._together:
            self._together, self._pace = False, SLOW
