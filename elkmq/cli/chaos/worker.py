"""The consumers that are no Celery workers: ``python -m elkmq.cli.chaos.worker``, with their part in the environment.

Each ends when its standard input does, so none outlives the suite, however that ends.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from elkmq.cli.chaos.plan import Part, mine
from elkmq.cli.chaos.records import ENDED, READY, REFUSED, RESTARTED, Recorder
from elkmq.cli.chaos.work import begin, number_of, with_kombu
from elkmq.errors import EventQueueError, LeaseLost
from elkmq.keys import FORMAT
from elkmq.options import Options

PAUSE = 0.1
"""Seconds before a consumer that failed is made anew."""


def main() -> None:
    """Play the part."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; what happens then is the suite's decision
    part = mine()
    ROLES[part.kind](part, Recorder(part.folder, part.name))


def library_options(part: Part) -> Options:
    """The options of a library client."""
    return Options(lease=part.lease, delivery_limit=part.delivery_limit)


def consume(part: Part, record: Recorder) -> None:
    """Handle messages with the library's consumer."""
    from elkmq import EventQueue

    over = threading.Event()
    consumers: list[Any] = []

    def stop() -> None:
        over.set()
        for consumer in consumers:
            consumer.stop()

    with EventQueue(part.queue, part.url, options=library_options(part), socket_timeout=part.socket_timeout) as queue:
        _at_the_end(stop)
        while not over.is_set():
            try:
                with queue.consumer(prefetch=part.prefetch) as consumer:
                    consumers[:] = [consumer]
                    record.write(READY, FORMAT)
                    for delivery in () if over.is_set() else consumer:
                        body = delivery.event.payload or ""
                        if seconds := begin(part, record, body):
                            time.sleep(seconds)
                        record.write(ENDED, number_of(body))
                        try:
                            delivery.ack()
                        except LeaseLost:
                            record.write(REFUSED, number_of(body))
            except EventQueueError as error:
                _failed(error, record)
                over.wait(PAUSE)


def consume_in_asyncio(part: Part, record: Recorder) -> None:
    """Handle messages with the library's consumer in asyncio: two tasks, acknowledgements that nobody waits for."""
    from elkmq.aio import EventQueue

    async def work(consumer: Any, slot: int) -> None:
        async for delivery in consumer:
            body = delivery.event.payload or ""
            if seconds := begin(part, record, body, slot):
                await asyncio.sleep(seconds)
            record.write(ENDED, number_of(body), slot)
            if delivery.lost:
                record.write(REFUSED, number_of(body), slot)
                continue
            await delivery.ack(wait=False)

    async def run() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        consumers: list[Any] = []

        def stop() -> None:
            over.set()
            for consumer in consumers:
                consumer.stop()

        options = library_options(part)
        async with EventQueue(part.queue, part.url, options=options, socket_timeout=part.socket_timeout) as queue:
            _at_the_end(partial(loop.call_soon_threadsafe, stop))
            while not over.is_set():
                try:
                    async with await queue.consumer(prefetch=part.prefetch) as consumer:
                        consumers[:] = [consumer]
                        record.write(READY, FORMAT)
                        if not over.is_set():
                            await asyncio.gather(*(work(consumer, slot) for slot in range(2)))
                except EventQueueError as error:
                    _failed(error, record)
                    await asyncio.sleep(PAUSE)

    asyncio.run(run())


def consume_with_kombu(part: Part, record: Recorder) -> None:
    """Handle messages with Kombu's own consumer program."""
    from kombu.mixins import ConsumerMixin

    kombu = with_kombu()

    class Worker(ConsumerMixin):
        """A consumer as Kombu's guide has it."""

        def __init__(self, connection: Any) -> None:
            self.connection = connection
            self.times = 0

        def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
            queue = kombu.Queue(part.queue, durable=True)
            channel.basic_qos(0, part.prefetch, False)
            self.times += 1
            record.write(READY if self.times == 1 else RESTARTED, FORMAT)
            return [consumer([queue], callbacks=[self.handle], accept=["json"])]

        def handle(self, body: Any, message: Any) -> None:
            if seconds := begin(part, record, body):
                time.sleep(seconds)
            record.write(ENDED, number_of(body))
            try:
                message.ack()
            except Exception:
                record.write(REFUSED, number_of(body))
                raise

    with kombu.Connection(part.url, transport_options=part.transport_options) as connection:
        worker: Any = Worker(connection)

        def stop() -> None:
            worker.should_stop = True

        _at_the_end(stop)
        worker.run()


ROLES: dict[str, Callable[[Part, Recorder], None]] = {
    "sync": consume,
    "asyncio": consume_in_asyncio,
    "kombu": consume_with_kombu,
}


def _failed(error: Exception, record: Recorder) -> None:
    record.write(RESTARTED)
    print(f"the consumer failed and is made anew: {error}", file=sys.stderr, flush=True)


def _at_the_end(stop: Callable[[], Any]) -> None:
    def wait() -> None:
        sys.stdin.read()
        stop()

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
