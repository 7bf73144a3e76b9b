"""What the faults are made to: a server of the suite's own, or somebody's, which is looked at before and left clean after."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import click

from elkmq import EventQueue
from elkmq._core.url import parse_url
from elkmq.cli.chaos.lane import Lane, queue_name
from elkmq.cli.chaos.plan import events_of, with_scheme
from elkmq.cli.chaos.work import with_kombu
from elkmq.cli.demo.shop import SCHEMES
from elkmq.errors import InvalidOption

PATIENCE = 5.0
"""Seconds that a server may take to answer at all."""


LIBRARY_FORMS = {broker: library for library, broker in SCHEMES.items()}
"""Scheme of a broker -> that of the same server for the library."""

OTHERS = ("redis", "rediss", "amqp", "amqps")
"""Other transports, for comparison."""

_HOW = (
    "write elkmq://host:6379/0 (or elkmqs, elkmq+socket, elkmq+sentinel), or for comparison redis://... or amqp://..."
)


@dataclass(frozen=True)
class Target:
    """What the faults are made to. ``url``, the library's where it is ElkMQ; None: a server of the suite's own for each."""

    url: str | None
    transport: str
    """``elkmq``, or the scheme of another transport, for comparison."""
    admin: bool = False
    """Faults are wanted that other clients of the server notice too."""

    @property
    def compared(self) -> bool:
        """Whether it is another transport, for comparison."""
        return self.transport != "elkmq"


def target_of(broker: str, *, admin: bool) -> Target:
    """What ``--broker`` names.

    :raises click.UsageError: it is no url of a broker that the suite knows
    """
    scheme, colons, place = (broker or "elkmq://").partition("://")
    if not colons:
        raise click.UsageError(f"--broker is no url: {_HOW}")
    if scheme not in LIBRARY_FORMS and scheme not in OTHERS:
        raise click.UsageError(f"--broker begins with {scheme}://: {_HOW}")
    transport = scheme if scheme in OTHERS else "elkmq"
    if not place:
        if scheme not in ("elkmq", "redis"):
            raise click.UsageError(f"the suite has no server of its own for {scheme}://: name one")
        return Target(None, transport, admin)
    url = broker if scheme in OTHERS else with_scheme(broker, LIBRARY_FORMS[scheme])
    try:
        _ = urlsplit(url).port if transport.startswith("amqp") else parse_url(url)
    except InvalidOption as error:
        raise click.UsageError(f"--broker: {error}") from error
    except ValueError as error:
        raise click.UsageError("--broker is malformed: write amqp://user:password@host:5672//") from error
    return Target(url, transport, admin)


def broker_of(url: str) -> str:
    """What ``--broker`` is for ElkMQ on a server that ``--url`` names, as all commands name theirs."""
    scheme, colons, place = url.partition("://")
    return f"{SCHEMES.get(scheme, scheme)}{colons}{place}"


def look(target: Target) -> None:
    """See that the server is there, before anybody is started.

    :raises EventQueueError: it is not, or refuses the login
    :raises click.ClickException: the same of another transport's
    """
    if target.url is None:
        return
    if not target.compared:
        with EventQueue(queue_name("look"), target.url, socket_timeout=PATIENCE, retry_for=0.0) as queue:
            queue.stats()
        return
    kombu = with_kombu()
    with kombu.Connection(target.url, connect_timeout=PATIENCE) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=PATIENCE)
        except Exception as error:
            raise click.ClickException(
                f"{connection.as_uri()} cannot be reached: {error}; nothing was done; check that it runs."
            ) from error


def delete_queues(lanes: Iterable[tuple[Lane, str]]) -> list[str]:
    """Delete what the suite used on somebody's server (with the url to go by); returns what could not be, and why."""
    kept = []
    for lane, url in lanes:
        try:
            if lane.kind.client == "library":
                with EventQueue(lane.queue, url, socket_timeout=PATIENCE, retry_for=0.0) as queue:
                    queue.delete()
                continue
            with with_kombu().Connection(url, connect_timeout=PATIENCE) as connection:
                channel = connection.channel()
                channel.queue_delete(lane.queue)
                for exchange in (lane.queue, events_of(lane.queue)) if lane.kind.client == "celery" else ():
                    with suppress(Exception):  # some brokers say it was not there
                        channel.exchange_delete(exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are deleted, and it is told
            kept.append(f"the queue {lane.queue} could not be deleted: {error}")
    return kept
