"""The queues that a session reads: each one's reader from its registration to its release, on one server or
(`kombu_elkmq.cluster`) on several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elkmq._core.verbs import Delivered, Verbs
from elkmq._heart import heart
from elkmq.errors import EventQueueError, ServerConnectionError
from kombu_elkmq.greens import cannot_wait
from kombu_elkmq.reader import Reader
from kombu_elkmq.steps import WINDOW, Steps
from kombu_elkmq.upkeep import Upkeep
from kombu_elkmq.wires import GOODBYE, Wires

if TYPE_CHECKING:
    from kombu_elkmq.delivery import Deliveries


class Reading(Steps, Upkeep):
    """The part of a session that sees to them."""

    counting: bool
    deliveries: Deliveries
    exclusive: set[str]
    _error: EventQueueError | None
    _draining: int | None
    _went: list[Reader]

    def wires_of(self, queue: str) -> Wires:  # noqa: ARG002 - on a Cluster each has its own
        """The connections over which a queue is consumed."""
        return self

    def reader(self, queue: str) -> Reader:
        """The reader of a queue, registered; made where there is none."""
        raise NotImplementedError

    def last_consumer_went(self, reader: Reader) -> None:
        """Nobody consumes a queue any more on this session."""
        if cannot_wait(self._draining):
            # Celery's handler of SIGQUIT: who waits for messages does it, within a second, or `close` does.
            self._went.append(reader)
            return
        if reader.alone and not reader.lost:
            reader.alone = False
            self.wires_of(reader.queue).consuming().run(reader.verbs.consume_alone(self.name, on=False))
        self.pump.let_go(reader)
        self.deliveries.hand_back_buffered(reader)
        if reader.auto_delete and not reader.lost and self._error is None:
            self.deliveries.flush()
            self.release(reader)
            self.delete_queue(reader.queue, if_unused=True, tombstone=True)
            self.exclusive.discard(reader.queue)
            self.routes.forget_all()
        elif not reader.known and reader.queue not in self.exclusive:
            self.deliveries.flush()
            self.release(reader)

    def claim(self, queue: str, settings: Mapping[str, str]) -> None:
        """Own a queue that is about to be declared: be registered there, which tells others that its owner is alive."""
        self.reader(queue).note(settings)
        self.exclusive.add(queue)

    def disclaim(self, queue: str) -> None:
        """It could not be had."""
        if queue in self.exclusive:
            self.exclusive.discard(queue)
            reader = self.readers.get(queue)
            if reader is not None and not reader.subscriptions and not reader.known:
                self.release(reader)

    def release(self, reader: Reader) -> None:
        """Hand back what a reader holds and unregister it."""
        self.pump.let_go(reader)
        self.deliveries.flush(everything=True)
        self._heart(reader).remove(reader)
        reader.registered = False
        self.readers.pop(reader.queue, None)
        if not reader.lost:
            link = self.wires_of(reader.queue).consuming()
            try:
                while link.run(reader.verbs.leave(self.name)):
                    pass
            except ServerConnectionError:
                # It was away for a lease: a worker that ends does not wait as long for each of its queues.
                link.give_up_after(GOODBYE)
                raise

    def hand_back(self, reader: Reader, delivered: list[Delivered]) -> None:
        """Give back what no application has seen."""
        self.deliveries.requeue(reader, delivered, failed=False, seen=False)

    def sooner(self, reader: Reader, seconds: float) -> None:
        """Have the heart see to a queue when something is due."""
        if seconds < reader.lease:
            self._heart(reader).sooner(reader, seconds)

    def alone(self, reader: Reader) -> float:
        """When a heartbeat was sent that found no other consumer at a reader's queue; -inf where there is one, or may be."""
        return self._heart(reader).alone(reader)  # type: ignore[no-any-return]

    def _heart(self, reader: Reader) -> Any:
        return heart(self.endpoint, reader.verbs.keys.lane(0))

    def verbs(self, queue: str) -> Verbs:
        """The calls of a queue."""
        limit = self.options.delivery_limit
        return Verbs(self.routing.queue(queue), counting=self.counting, window=WINDOW, delivery_limit=limit)
