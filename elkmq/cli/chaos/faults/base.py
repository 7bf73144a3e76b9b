"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from elkmq.cli.chaos.plan import KINDS
from elkmq.cli.chaos.stage import Stage

LIBRARY = ("sync", "asyncio")
CELERY = ("prefork", "early", "threads", "solo")
EVERY = tuple(KINDS)


@dataclass(frozen=True)
class Fault:
    """One row of the table: what is done, to whom, and what must be seen."""

    name: str
    what: str
    """In a sentence."""
    strike: Callable[[Stage], None]
    """Does it; it starts the processes and leaves them at work, or ends them itself."""
    kinds: tuple[str, ...] = EVERY
    """Kinds of workers that it makes sense for."""
    again: bool = False
    """Messages may run again that the struck process had in hand."""
    recovers: float | None = None
    """Leases within which work has to go on, beside the machine's slack; None: nothing is said."""
    restarts: bool = False
    """Consumers may be made anew, or workers end, and be replaced."""
    lossy: bool = False
    """What was sent may be lost, or run twice, as the fault itself says and no more."""
    own_server: bool = False
    """The server has to be the suite's own."""
    admin: bool = False
    """On somebody's server it needs to be asked for: it hits other clients too."""
    proxy: bool = False
    """It needs the proxy between the processes and the server."""
    compared: bool = True
    """It can be done to other transports as well."""
    server: Mapping[str, object] = field(default_factory=dict)
    """How the suite's own server is set up."""
    long: bool = False
    """It takes minutes, and is left out unless asked for by name."""
    obstacle: Callable[[], str] | None = None
    """Why it cannot be made on this machine; nothing where it can."""
    arrange: Callable[[Stage], None] | None = None
    """Changes the stage before its server starts."""
