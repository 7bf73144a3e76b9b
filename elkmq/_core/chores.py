"""When the chores of a consumer's queue (tend.lua) are due, and what a heartbeat (beat.lua) has to look at. No I/O, no clock.

The chores are done once a lease, and when something is known to be due. Where nothing happens that would be most of what an idle
consumer costs, so there a look is enough (`elkmq._core.verbs.left_over`) and they are done once in `RARELY` leases: for what
a look cannot see, which are deliveries of consumers that nobody knows. Those can be there for a while after somebody died; where
nobody else is, nobody does, and once in `ALONE` leases is for who came and went between two looks.

A heartbeat looks at the others' leases to see whose is over. While there are none, it does so once a lease: whoever registers
since then has a lease that ends after the next look. So what takes and chores say of leases that end later is a reason for a look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BEATS = 3
"""Heartbeats per lease: two may be lost."""

RARELY = 10
"""Leases in which chores are done at least once."""

ALONE = 3 * RARELY
"""The same where there is no other consumer."""


@dataclass(slots=True, eq=False)
class Chores:
    """Of one queue; times are seconds on the process's own clock."""

    at: float
    """When they are due."""
    known: bool = True
    """Whether there is something to do then, as far as is known; False: a lease went by, no more."""
    _looks: int = 0
    """How often a look was enough, in a row."""
    _wary: int = 0
    """How many times more it is not."""
    alone: float = -math.inf
    """When the heartbeat was sent that found no other consumer, if the last one that looked did."""
    _unseen: int = 0
    """Heartbeats since the last one that looked at the others' leases."""

    def sooner(self, at: float, *, known: bool = True) -> bool:
        """Something is due then; False: they are due before.

        :param known: False: it may be no more than the end of a lease that is likely to be renewed
        """
        if at >= self.at:
            return False
        self.at, self.known = at, self.known or known
        return True

    def enough(self, *, quiet: bool) -> bool:
        """Whether a look is enough; ``quiet``: nothing happened."""
        most = RARELY if self.alone == -math.inf else ALONE
        return quiet and not self.known and not self._wary and self._looks < most - 1

    def begin(self, now: float, lease: float, *, quiet: bool) -> bool:
        """They are due: set when they are again. Returns whether a look is enough."""
        enough = self.enough(quiet=quiet)
        self._looks = self._looks + 1 if enough else 0
        self.at, self.known = now + lease, False
        return enough

    def done(self, *, taken_over: bool) -> None:
        """They were done; ``taken_over``: from somebody whose lease was over."""
        self._wary = RARELY if taken_over else max(0, self._wary - 1)

    def watch(self) -> bool:
        """Whether the heartbeat that is about to be sent has to look at the others' leases."""
        return self.alone == -math.inf or self._unseen >= BEATS - 1

    def beaten(self, sent: float, *, watched: bool, alone: bool) -> None:
        """It was answered."""
        if watched:
            self.alone, self._unseen = sent if alone else -math.inf, 0
        else:
            self._unseen += 1
