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
from elkmq.cli.chaos.plan import COMPARED, events_of, with_scheme
from elkmq.cli.chaos.work import with_kombu
from elkmq.errors import InvalidOption

PATIENCE = 5.0
"""Seconds that a server may take to answer at all."""


@dataclass(frozen=True)
class Target:
    """What the faults are made to. ``url`` None: a server of the suite's own for each."""

    url: str | None
    transport: str
    """The scheme that Kombu and Celery use."""
    admin: bool = False
    """Faults are wanted that other clients of the server notice too."""

    @property
    def compared(self) -> bool:
        """Whether it is another transport, for comparison."""
        return any(self.transport in (name, name + "s") for name in COMPARED)


def target_of(broker: str, *, admin: bool) -> Target:
    """What ``--broker`` names.

    :raises click.UsageError: it is no url of a broker that the suite knows
    """
    scheme, colons, place = broker.partition("://")
    if broker and not colons:
        raise click.UsageError("--broker is no url: write elkmq://host:6379/0, redis://host:6379/0 or amqp://host//")
    scheme = scheme or "elkmq"
    if not _known(scheme.partition("+")[0]):
        raise click.UsageError(f"--broker begins with {scheme}://: write elkmq://..., redis://... or amqp://...")
    if not place:
        if scheme.startswith("amqp"):
            raise click.UsageError("there is no RabbitMQ of its own: name one, as in amqp://guest:guest@localhost//")
        return Target(None, scheme, admin)
    target = Target(broker, scheme, admin)
    if not target.compared:
        target = Target(with_scheme(broker, scheme.replace("elkmq", "redis", 1)), scheme, admin)
    try:
        if scheme.startswith("amqp"):
            _ = urlsplit(broker).port
        else:
            parse_url(target.url or "")
    except InvalidOption as error:
        raise click.UsageError(f"--broker: {error}") from error
    except ValueError as error:
        raise click.UsageError("--broker is malformed: write amqp://user:password@host:5672//") from error
    return target


def _known(scheme: str) -> bool:
    return any(scheme in (name, name + "s") for name in ("elkmq", *COMPARED))


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
