"""The producers: ``python -m elkmq.cli.chaos.producer``, with their part in the environment.

A publish that raises is repeated by its caller, with the very same message, until it returns: that is what a careful
application does, and it may add one message in all.
"""

from __future__ import annotations

import select
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.sentinel import Sentinel

from elkmq.cli.chaos.plan import KINDS, Part, mine
from elkmq.cli.chaos.records import FAILED, GIVEN_UP, READY, SENT, Recorder
from elkmq.cli.chaos.work import LATER, with_kombu
from elkmq.errors import EventQueueError
from elkmq.options import Options

Publish = Callable[[list[tuple[int, str]]], None]
"""Publishes messages (number, id), all or none, in one call."""

PAUSE = 0.05
"""Seconds before a publish that raised is repeated."""


def main() -> None:
    """Play the part."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    part = mine()
    record = Recorder(part.folder, part.name)
    with PUBLISHERS[KINDS[part.kind].client](part) as (publish, errors):
        record.write(READY)
        if part.confirmed:
            _publish_all(part, record, _confirmed(part, publish), (*errors, redis.RedisError))
        else:
            _publish_all(part, record, publish, errors)


def _publish_all(part: Part, record: Recorder, publish: Publish, errors: tuple[type[Exception], ...]) -> None:
    began, sent = time.monotonic(), 0
    while not _told_to_stop() and not (part.count and sent >= part.count):
        size = min(part.batch, part.count - sent) if part.count else part.batch
        batch = [(part.first + (sent + n) * part.step, str(uuid.uuid4())) for n in range(size)]
        while True:
            try:
                publish(batch)
                break
            except errors as error:
                print(f"a publish failed and is repeated: {error}", file=sys.stderr, flush=True)
                stop = _told_to_stop()
                for number, _ in batch:
                    record.write(GIVEN_UP if stop else FAILED, number)
                if stop:
                    return
                time.sleep(PAUSE)
        for number, _ in batch:
            record.write(SENT, number)
        sent += size
        if part.rate and (ahead := began + sent / part.rate - time.monotonic()) > 0:
            time.sleep(ahead)


def _delay(part: Part, number: int) -> float:
    """Seconds after which a message is due."""
    what, _, seconds = part.special.get(str(number), "").partition(" ")
    return float(seconds) if what == LATER else 0.0


def _confirmed(part: Part, publish: Publish) -> Publish:
    """Publishing that raises where no replica says that it has the messages, too."""
    parts = urlsplit(part.url)
    sentinel: Any = Sentinel([(parts.hostname or "", parts.port or 26379)])  # type: ignore[no-untyped-call]
    primary = sentinel.master_for(parse_qs(parts.query)["service"][0], socket_timeout=part.socket_timeout)

    def confirmed(batch: list[tuple[int, str]]) -> None:
        publish(batch)
        # WAIT is about what its own connection wrote: that comes after whatever other connections wrote before.
        primary.set(f"{part.queue}-confirmed", 1)
        if not primary.execute_command("WAIT", 1, 1000):
            raise redis.ConnectionError("no replica has confirmed it")

    return confirmed


def _named(part: Part, id_: str) -> dict[str, str]:
    """A message's own id, where its publish may be repeated although it had returned."""
    return {"message_id": id_} if part.confirmed else {}


def _told_to_stop() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])  # the end of file is all that ever comes


@contextmanager
def _library(part: Part) -> Iterator[tuple[Publish, tuple[type[Exception], ...]]]:
    from elkmq import EventQueue, ServiceEvent

    options = Options(lease=part.lease)
    with EventQueue(part.queue, part.url, options=options, socket_timeout=part.socket_timeout, retry_for=5.0) as queue:
        made: dict[str, ServiceEvent] = {}

        def publish(batch: list[tuple[int, str]]) -> None:
            if batch[0][1] not in made:  # the one before is done with
                made.clear()
            for number, id_ in batch:
                made.setdefault(id_, ServiceEvent(3600, "chaos", part.body(number)))
            events = [made[id_] for _, id_ in batch]
            if len(events) == 1:
                queue.enqueue(events[0], delay=_delay(part, batch[0][0]))
            else:
                queue.enqueue_many(events)

        yield publish, (EventQueueError,)


@contextmanager
def _kombu(part: Part) -> Iterator[tuple[Publish, tuple[type[Exception], ...]]]:
    kombu = with_kombu()
    with kombu.Connection(part.url, transport_options=part.transport_options) as connection:
        producer = connection.Producer()
        queue = kombu.Queue(part.queue, durable=True)
        policy = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}

        def publish(batch: list[tuple[int, str]]) -> None:
            for number, id_ in batch:
                producer.publish(
                    part.body(number), routing_key=part.queue, declare=[queue], retry=True, retry_policy=policy,
                    serializer="json", correlation_id=id_, **_named(part, id_),
                )  # fmt: skip

        raised = (kombu.exceptions.OperationalError, *connection.connection_errors, *connection.channel_errors, OSError)
        yield publish, _distinct(raised)


@contextmanager
def _celery(part: Part) -> Iterator[tuple[Publish, tuple[type[Exception], ...]]]:
    from kombu.exceptions import OperationalError

    from elkmq.cli.chaos.celery_app import TASK, app

    def publish(batch: list[tuple[int, str]]) -> None:
        for number, id_ in batch:
            app.send_task(
                TASK, (part.body(number),), task_id=id_, countdown=_delay(part, number) or None, **_named(part, id_)
            )

    with app.connection_for_write() as connection:
        errors = (OperationalError, *connection.connection_errors, *connection.channel_errors, OSError)
    yield publish, _distinct(errors)


def _distinct(errors: Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    return tuple(dict.fromkeys(errors))


PUBLISHERS = {"library": _library, "kombu": _kombu, "celery": _celery}


if __name__ == "__main__":
    main()
