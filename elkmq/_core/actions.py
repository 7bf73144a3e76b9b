"""What a consumer can have to do next: the answers of `elkmq._core.consumer.ConsumerState.next_action`."""

from __future__ import annotations

from dataclasses import dataclass

from elkmq._core.entry import Entry


@dataclass(slots=True)  # not frozen, which would make each cost four times as much
class Open:
    """Register."""


@dataclass(slots=True)
class Recover:
    """Ask for what was handed out and never seen."""


@dataclass(slots=True)
class Tend:
    """Send a heartbeat and wait for its answer."""


@dataclass(slots=True)
class Deliver:
    """Hand this entry to the application."""

    entry: Entry


@dataclass(slots=True)
class Expired:
    """This entry's time is over: give it up."""

    entry: Entry


@dataclass(slots=True)
class Take:
    """Take up to n entries."""

    n: int
    token: bytes


@dataclass(slots=True)
class Read:
    """Read up to n entries, without waiting, as a blocking read would get them."""

    n: int


@dataclass(slots=True)
class GiveBack:
    """Send these back, unseen."""

    entries: list[Entry]


@dataclass(slots=True)
class Block:
    """Wait until somebody enqueues, for up to n entries."""

    n: int


@dataclass(slots=True)
class Signal:
    """Wait until the queue goes on, or this consumer has its turn; ``after`` is the last signal that is known."""

    after: bytes


@dataclass(slots=True)
class Full:
    """Wait until something is settled."""


Action = Open | Recover | Tend | Deliver | Expired | GiveBack | Take | Read | Block | Signal | Full
