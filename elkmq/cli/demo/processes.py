"""The demo's processes: ``python -m elkmq.cli.demo.processes ROLE NAME FOLDER QUEUE``; the server is in ELKMQ_URL.

Each records what it does in FOLDER and ends when its standard input does: so none outlives the demo, however that ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from elkmq import Delivery, EventQueue, LeaseLost, Options, Service, ServiceEvent
from elkmq.cli.demo import shop
from elkmq.cli.demo.plan import EVENTS, LEASE, RETRY_FOR, SLOW, WORK, greeting
from elkmq.cli.demo.records import DONE, LATE, READY, REFUSED, SENT, STARTED, Recorder


def main() -> None:
    """Play a role."""
    role, name, folder, queue = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; what happens then is the demo's decision
    if role == "worker":
        shop.work(name, folder, queue, _at_the_end)
        return
    if role == "caller":
        shop.call(name, folder, queue, sys.stdin.readline)
        return
    with EventQueue(queue, os.environ["ELKMQ_URL"], options=Options(lease=LEASE), retry_for=RETRY_FOR) as opened:
        ROLES[role](opened, Recorder(folder, name))


def produce(queue: EventQueue, record: Recorder) -> None:
    """Put events on the queue, every tenth twice, as a client does that never got the answer to the first."""
    queue.stats()
    record.write(READY)
    sys.stdin.readline()  # all begin together
    for number in range(EVENTS):
        event = ServiceEvent(60, "count", str(number))
        queue.enqueue(event)
        if number % 10 == 0:
            queue.enqueue(event)
        record.write(SENT, event.uuid)


def consume(queue: EventQueue, record: Recorder) -> None:
    """Handle events until the end."""
    with queue.consumer(prefetch=10) as consumer:
        _at_the_end(consumer.stop)
        record.write(READY)
        for delivery in consumer:
            id_ = delivery.event.uuid
            record.write(STARTED, id_)
            time.sleep(WORK)
            record.write(DONE, id_)
            try:
                delivery.ack()
            except LeaseLost:
                record.write(REFUSED, id_)


def serve(queue: EventQueue, record: Recorder) -> None:
    """Answer requests until the end."""
    service = Service(queue, concurrency=4)

    def answer(delivery: Delivery) -> None:
        id_ = delivery.event.uuid
        record.write(STARTED, id_)
        if delivery.event.action == "slow":
            time.sleep(SLOW)
        record.write(DONE, id_)
        if not delivery.respond("hello", greeting(delivery.event.payload)):
            record.write(LATE, id_)

    service.on("greet", delivery=True)(answer)
    service.on("slow", delivery=True)(answer)
    _at_the_end(service.stop)
    record.write(READY)
    service.run(signals=False)


ROLES: dict[str, Callable[[EventQueue, Recorder], Any]] = {"producer": produce, "consumer": consume, "service": serve}


def _at_the_end(stop: Callable[[], None]) -> None:
    def wait() -> None:
        sys.stdin.read()
        stop()

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
