# Generated from elkmq/_aio/delivery.py by tools/async_to_sync.py; edit that.
"""A delivery: an event that was handed out under a lease, and everything its holder can do with it."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from elkmq._core.entry import Completed, Entry
from elkmq._core.outgoing import Send, batches, checked, outgoing, read_headers
from elkmq.errors import DequeueError, EventQueueError, LeaseLost
from elkmq.event import ServiceEvent, put_back
from elkmq.options import Seconds, check_name, milliseconds

if TYPE_CHECKING:
    from elkmq._sync.consumer import Consumer


class Delivery:
    """An event in this process's hands, until it is settled or the lease is lost. The lease is renewed by itself.

    As a context manager it acknowledges at the end of the block, and sends the event back, counted as failed, where the
    block raised. Each of its verbs is one round trip and takes effect once: settled again the same way, it does nothing;
    another way, it raises `DequeueError`.
    """

    __slots__ = ("_consumer", "_entry", "_event", "_name", "_settled")

    def __init__(self, consumer: Consumer, entry: Entry, event: ServiceEvent | None) -> None:
        self._consumer = consumer
        self._entry = entry
        self._name = consumer.state.name
        self._settled = ""
        self._event = event  # None: known to be one, and read when it is first asked for

    @property
    def event(self) -> ServiceEvent:
        """The event."""
        if self._event is None:
            self._event = put_back(ServiceEvent.from_json(self._entry.fields[b"event"]))
        return self._event

    @property
    def timestamp(self) -> int:
        """Redis' clock when the event was first enqueued, in milliseconds since 1970."""
        return self._entry.timestamp

    @property
    def unique_id(self) -> str:
        """What the event is known by, whatever becomes of it: its ``dedupe_id``, else its uuid in hex."""
        unique = self._entry.fields.get(b"unique")
        return unique.decode() if unique else f"{self.event.request_uuid:032x}"

    @property
    def id(self) -> str:
        """The lane and id of this delivery; a redelivery has another."""
        return f"{self._entry.lane.decode()}/{self._entry.id.decode()}"

    @property
    def handed_out(self) -> int:
        """Times the event was handed out, this one included."""
        return int(self._entry.fields.get(b"handed_out", b"0")) + 1

    @property
    def failed(self) -> int:
        """Times it failed before: its consumer died, or said so."""
        return int(self._entry.fields.get(b"failed", b"0"))

    @property
    def headers(self) -> dict[str, Any]:
        """The headers it was enqueued with. Raises: JSONParseError."""
        return read_headers(self._entry.fields.get(b"headers"))

    @property
    def priority(self) -> int:
        """The priority it was enqueued with."""
        lane = self._entry.lane
        return int(self._entry.fields.get(b"priority", b"0") if lane == b"r" else lane)

    @property
    def awaited(self) -> bool:
        """Whether one of our clients asked for a response with `await_response`. (Whether one of elk-mq 0.1 did, its
        event does not say.)"""
        return b"reply_to" in self._entry.fields

    @property
    def ours(self) -> bool:
        """Whether a client of ElkMQ enqueued it, and not one of elk-mq 0.1."""
        return b"v" in self._entry.fields

    @property
    def remaining(self) -> float | None:
        """Seconds until its time to live is over, by the server's clock as far as it is known; None: it has none."""
        deadline = self._entry.deadline()
        return None if deadline is None else (deadline - self._consumer.server_time()) / 1000

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost: somebody else has the event now, so stop working on it."""
        return self._consumer.state.lost(self._name)

    @property
    def settled(self) -> bool:
        """Whether one of the verbs was called."""
        return bool(self._settled)

    def ack(self, *, wait: bool = True) -> None:
        """Complete it: the event leaves the queue.

        ``wait=False`` returns when the acknowledgement is written to the socket; a refusal is then logged and reported to
        the consumer's ``on_lost``.

        Raises:
            LeaseLost: The lease was lost before; somebody else has the event, and this call changed nothing.
        """
        if self._again("acknowledged"):
            return
        call = self._consumer.verbs.settle(self._name, [self._key], keep=self._consumer.state.keep)
        if wait:
            if self._consumer.run(call):
                self._refuse()
            self._done()
        else:
            self._consumer.post(call, self._key)
            self._done()

    def reject(self, error: str = "", *, reason: str = "rejected") -> None:
        """Give it up: into the dead letters, with the reason and the error's text. Raises: LeaseLost."""
        if self._again("rejected"):
            return
        self._take_outcome(self._consumer.run(self._consumer.verbs.reject(self._name, [self._key], reason, error)))

    def requeue(self, *, delay: Seconds = 0.0, failed: bool = False, error: str = "") -> bool:
        """Send it back, to be handed out before new work or after ``delay`` seconds.

        ``failed`` counts towards the delivery limit. Returns whether it was sent back; False: that was once too often, and
        it is among the dead letters now. Raises: LeaseLost.
        """
        if self._again("requeued"):
            return True
        span = milliseconds("delay", delay)
        call = self._consumer.verbs.requeue(self._name, [self._key], delay=span, failed=failed, error=error)
        return self._take_outcome(self._consumer.run(call)) != "dead"

    def respond(self, action: str, payload: str | None = None) -> bool:
        """Complete it and send its response in one step: two responders can never both answer.

        Returns whether the response was sent; False: nobody waits for it any more, or nobody ever did. The event is
        completed either way. Raises: LeaseLost, InvalidEvent.
        """
        response = ServiceEvent.create_response(self.event, action, payload)
        return (self.complete(response=response)).response == "sent"

    def complete(
        self, *, response: ServiceEvent | None = None, events: Iterable[ServiceEvent | Send] = ()
    ) -> Completed:
        """Complete it, send its response and enqueue further events, all in one step or not at all.

        On a Cluster, events for a queue in another slot go into an outbox in this step and from there to their queue, once.

        Raises:
            LeaseLost: The lease was lost; nothing was sent.
            QueueFull: A queue has no room for its events; nothing was sent, and the delivery can be completed later.
        """
        sends = [event if isinstance(event, Send) else Send(event) for event in events]
        targets = [(self._consumer.target(send.queue and check_name(send.queue)), outgoing(send)) for send in sends]
        if self._again("completed"):
            return Completed("done", "", [])
        call = self._consumer.verbs.complete(
            self._name,
            self._key,
            keep=self._consumer.state.keep,
            response=b"" if response is None else checked(response).to_json(),
            request_uuid=str(self.event.uuid),
            timeout=self.event.timeout,
            events=targets,
        )
        try:
            reply = self._consumer.run(call)
        except EventQueueError:
            self._settled = ""
            raise
        self._take_outcome([reply.outcome])
        return reply

    @property
    def _key(self) -> tuple[bytes, bytes]:
        return self._entry.lane, self._entry.id

    def _again(self, how: str) -> bool:
        if self._settled:
            if self._settled == how:
                return True
            raise DequeueError(
                f"the delivery {self.id} was {self._settled} before and cannot be {how}; nothing changed."
            )
        if self.lost:
            self._refuse()
        self._settled = how
        return False

    def _take_outcome(self, outcomes: list[str]) -> str:
        if outcomes[0] == "lost":
            self._refuse()
        self._done()
        return outcomes[0]

    def _done(self) -> None:
        self._consumer.settled(self._key)

    def _refuse(self) -> None:
        self._done()
        raise LeaseLost(
            f"the lease on {self.id} was lost: its consumer was silent for longer than {self._consumer.lease:g} s, or the "
            "queue was deleted; somebody else has the event and nothing changed; stop working on it."
        )

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._settled:
            return
        if error is None:
            self.ack()
        elif not self.lost:
            try:
                self.requeue(failed=isinstance(error, Exception), error=f"{type(error).__name__}: {error}")
            except EventQueueError as second:
                # The block's own error says more; the event comes back when the lease is over.
                self._consumer.log_failure("send back", self.id, second)

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self.event!r}{' ' + self._settled if self._settled else ''}>"


def ack_many(deliveries: Iterable[Delivery]) -> None:
    """Complete deliveries, in one round trip per consumer and 500. See `EventQueue.ack_many`."""
    held: dict[tuple[Consumer, str], list[Delivery]] = {}
    refused: list[str] = []
    for delivery in deliveries:
        if not delivery._settled:
            held.setdefault((delivery._consumer, delivery._name), []).append(delivery)
            delivery._settled = "acknowledged"
        else:
            delivery._again("acknowledged")
    for (consumer, name), own in held.items():
        lost = consumer.state.lost(name)
        for batch in batches(own):
            keys = [(d._entry.lane, d._entry.id) for d in batch]
            positions = (
                range(len(batch)) if lost else consumer.run(consumer.verbs.settle(name, keys, keep=consumer.state.keep))
            )
            refused += [batch[position].id for position in positions]
            for key in keys:
                consumer.settled(key)
    if refused:
        raise LeaseLost(
            f"the leases on {len(refused)} deliveries were lost ({', '.join(refused[:5])}{', ...' if refused[5:] else ''}); "
            "somebody else has those events; the other deliveries were acknowledged."
        )
