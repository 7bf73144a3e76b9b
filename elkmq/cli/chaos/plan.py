"""What the suite and its processes agree on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

VARIABLE = "ELKMQ_CHAOS"
"""The environment variable that tells a process its part; not an argument: others see those, and a url may hold a password."""


@dataclass(frozen=True)
class Kind:
    """A kind of worker."""

    name: str
    what: str
    client: str
    """``library``, ``kombu`` or ``celery``: what its messages are published with."""
    early: bool = False
    """Messages are acknowledged before they run."""
    pool: str = ""
    slots: int = 1
    """What one worker runs at a time."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("sync", "EventQueue's consumer", "library"),
        Kind("asyncio", "EventQueue's consumer in asyncio, two tasks", "library", slots=2),
        Kind("kombu", "a Kombu consumer, acknowledging after its callback", "kombu"),
        Kind("prefork", "Celery, prefork, acks_late", "celery", pool="prefork", slots=2),
        Kind("early", "Celery, prefork, acks_late off", "celery", early=True, pool="prefork", slots=2),
        Kind("threads", "Celery, threads, acks_late", "celery", pool="threads", slots=2),
        Kind("solo", "Celery, solo, acks_late", "celery", pool="solo"),
    )
}
"""All that there are."""

COMPARED = ("redis", "amqp")
"""Schemes of other transports, for comparison; the library has no part in that."""


@dataclass(frozen=True)
class Part:
    """What a process is told."""

    kind: str
    name: str
    """Of the process."""
    folder: str
    """For its records."""
    url: str = field(repr=False)
    queue: str
    lease: float
    """Seconds."""
    work: float = 0.0
    """Seconds that a message takes."""
    prefetch: int = 10
    delivery_limit: int = 20
    socket_timeout: float = 5.0
    """Seconds after which a silent connection counts as broken."""
    rate: float = 0.0
    """Messages a second of a producer; 0: as many as it can."""
    count: int = 0
    """Messages of a producer; 0: until it is told to stop."""
    first: int = 0
    """A producer's first message; it counts on by ``step``."""
    step: int = 1
    batch: int = 1
    """Messages in one publish, where the client can do that."""
    special: dict[str, str] = field(default_factory=dict)
    """Messages that are something else than work: number -> what."""
    confirmed: bool = False
    """A producer asks the server, with WAIT, whether a replica has a message before it counts as sent."""
    options: dict[str, object] = field(default_factory=dict)
    """Further transport options."""
    release: str = ""
    """The folder of the release that it runs; empty: this one."""

    def environment(self) -> dict[str, str]:
        """For a process that is to play it."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    def body(self, number: int) -> str:
        """What is in a message."""
        special = self.special.get(str(number))
        return f"{number} {special}" if special else str(number)

    @property
    def scheme(self) -> str:
        """``elkmq``, ``redis``, ``amqp``."""
        return urlsplit(self.url).scheme

    @property
    def transport_options(self) -> dict[str, object]:
        """Kombu's: a lease here, a visibility timeout of the same length there, and the defaults of everything else.

        Kombu's transport for Redis looks every 100 s for what was not acknowledged in time, which is little beside its default of
        an hour. Beside a visibility timeout of seconds it would hide what that does, so it looks every second.
        """
        if self.scheme.startswith("elkmq"):
            own = {"lease": self.lease, "delivery_limit": self.delivery_limit, "socket_timeout": self.socket_timeout}
            return {**own, **self.options}
        if self.scheme.startswith("redis"):
            return {
                "visibility_timeout": self.lease,
                "unacked_restore_interval": 1,
                "unacked_restore_throttle": 1,
            }
        return {}


def events_of(queue: str) -> str:
    """The exchange of Celery's events: of its own, so that it can be deleted."""
    return f"{queue}-events"


def mine() -> Part:
    """The part of this process."""
    return Part(**json.loads(os.environ[VARIABLE]))


def with_scheme(url: str, scheme: str) -> str:
    """The url under another scheme."""
    return scheme + url[url.index(":") :]
