"""A delivery: an event that was handed out under a lease, and everything its holder can do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from elkmq._aio.holder import Holder
from elkmq._core.call import Call
from elkmq._core.entry import Completed, Entry, Outgoing, number
from elkmq._core.outgoing import Send, batches, checked, each, outgoing, read_headers
from elkmq._core.serving import as_text, told
from elkmq._core.verbs import Delivered
from elkmq.errors import DequeueError, EventQueueError, InvalidOption, LeaseLost
from elkmq.event import Plain, ServiceEvent, from_plain, response_json, uuid_text
from elkmq.keys import QueueKeys
from elkmq.options import Seconds, check_name, flag, milliseconds, shown, text

T = TypeVar("T")

MOST_REASON = 255
"""Characters of the reason why an event was given up."""


class Delivery:
    """An event in this process's hands, until it is settled or the lease is lost. The lease is renewed by itself.

    As a context manager it acknowledges at the end of the block, and sends the event back, counted as failed, where the
    block raised. Each of its verbs is one round trip and takes effect once: settled again the same way, it does nothing;
    another way, it raises `DequeueError`. One that is dropped unsettled, so that nobody can settle it any more, is sent back,
    counted as failed, with a `ResourceWarning`.
    """

    __slots__ = ("_consumer", "_entry", "_event", "_name", "_settled")

    def __init__(self, consumer: Holder, entry: Entry, event: ServiceEvent | Plain) -> None:
        self._consumer = consumer
        self._entry = entry
        self._name = consumer.state.name
        self._settled = ""
        self._event = event  # a `Plain` is made one when it is first asked for

    @property
    def event(self) -> ServiceEvent:
        """The event."""
        event = self._event
        if not isinstance(event, ServiceEvent):
            event = self._event = from_plain(event, "")
        return event

    @property
    def timestamp(self) -> int:
        """Redis' clock when the event was first enqueued, in milliseconds since 1970."""
        return self._entry.timestamp

    @property
    def unique_id(self) -> str:
        """What the event is known by, whatever becomes of it: its ``dedupe_id``, else its uuid in hex."""
        unique = self._entry.fields.get(b"unique")
        return unique.decode(errors="replace") if unique else f"{self.event.request_uuid:032x}"

    @property
    def id(self) -> str:
        """The lane and id of this delivery; a redelivery has another."""
        return f"{self._entry.lane.decode()}/{self._entry.id.decode()}"

    @property
    def handed_out(self) -> int:
        """Times the event was handed out, this one included."""
        return number(self._entry.fields.get(b"handed_out"), 0) + 1

    @property
    def failed(self) -> int:
        """Times it failed before: its consumer died, or said so."""
        return number(self._entry.fields.get(b"failed"), 0)

    @property
    def headers(self) -> dict[str, Any]:
        """The headers it was enqueued with. Raises: JSONParseError."""
        return read_headers(self._entry.fields.get(b"headers"))

    @property
    def priority(self) -> int:
        """The priority it was enqueued with."""
        lane = self._entry.lane
        return number(self._entry.fields.get(b"priority") if lane == b"r" else lane, 0)

    @property
    def awaited(self) -> bool:
        """Whether one of our clients asked for a response with `await_response`; of one of elk-mq 0.1 nobody can say."""
        return b"reply_to" in self._entry.fields

    @property
    def ours(self) -> bool:
        """Whether a client of ElkMQ enqueued it, and not one of elk-mq 0.1."""
        return b"v" in self._entry.fields

    @property
    def remaining(self) -> float | None:
        """Seconds until its time to live is over, by the server's clock as far as it is known; None: it has none."""
        deadline = self._entry.deadline()
        if deadline is None:
            return None
        # The server's clock is known as "not before": what is left is at most what there was.
        return min(deadline - self._consumer.server_time(), deadline - self._entry.timestamp) / 1000

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost: somebody else has the event now, so stop working on it."""
        return self._consumer.state.lost(self._name)

    @property
    def settled(self) -> bool:
        """Whether one of the verbs was called."""
        return bool(self._settled)

    async def ack(self, *, wait: bool = True) -> None:
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
            await self._settle("acknowledged", call, bool)
        else:
            await self._post("acknowledged", call, self._key)

    async def reject(self, error: str = "", *, reason: str = "rejected") -> None:
        """Give it up: into the dead letters, with the reason and the error's text. Raises: LeaseLost."""
        text("reason", reason, MOST_REASON)
        if reason == "format":
            raise InvalidOption(
                "reason is 'format', which brings an event back to work as soon as it can be read; nothing changed; choose another."
            )
        if self._again("rejected"):
            return
        call = self._consumer.verbs.reject(self._name, [self._key], reason, as_text(error))
        await self._settle("rejected", call, _first_is_lost)

    async def requeue(self, *, delay: Seconds = 0.0, failed: bool = False, error: str = "") -> bool:
        """Send it back, to be handed out before new work or after ``delay`` seconds.

        ``failed`` counts towards the delivery limit. Returns whether it was sent back; False: that was once too often, and
        it is among the dead letters now. Raises: LeaseLost.
        """
        span = milliseconds("delay", delay)
        flag("failed", failed)
        if self._again("requeued"):
            return True
        call = self._consumer.verbs.requeue(self._name, [self._key], delay=span, failed=failed, error=as_text(error))
        return (await self._settle("requeued", call, _first_is_lost))[0] != "dead"

    async def respond(self, action: str, payload: str | None = None, *, wait: bool = True) -> bool:
        """Complete it and send its response in one step: two responders can never both answer.

        Returns whether the response was sent; False: nobody waits for it any more, or nobody ever did. The event is
        completed either way. ``wait=False`` returns True when it is written to the socket; a refusal is then logged and
        reported to the consumer's ``on_lost``, as with `ack`.

        Raises: LeaseLost, InvalidEvent.
        """
        event, consumer = self.event, self._consumer
        if wait:
            response = ServiceEvent.create_response(event, action, payload)
            return (await self.complete(response=response)).response == "sent"
        json = response_json(event, action, payload)
        if not self._again("completed"):
            key, keep = self._key, consumer.state.keep
            call = consumer.verbs.answer(self._name, key, json, uuid_text(event), event.timeout, keep=keep)
            await self._post("completed", call, key)
        return True

    async def complete(
        self, *, response: ServiceEvent | None = None, events: Iterable[ServiceEvent | Send] = ()
    ) -> Completed:
        """Complete it, send its response and enqueue further events, all in one step or not at all.

        On a Cluster, events for a queue in another slot go into an outbox in this step and from there to their queue, once.

        Raises:
            LeaseLost: The lease was lost; nothing was sent.
            QueueFull: A queue has no room for its events; nothing was sent, and the delivery can be completed later.
        """
        sends = [event if isinstance(event, Send) else Send(event) for event in each(events)]
        targets = [self._target(send) for send in sends]
        json = b"" if response is None else checked(response).to_json()
        if self._again("completed"):
            return Completed("done", "", [])
        call = self._consumer.verbs.complete(
            self._name,
            self._key,
            keep=self._consumer.state.keep,
            response=json,
            request_uuid=uuid_text(self.event),
            timeout=self.event.timeout,
            events=targets,
        )
        return await self._settle("completed", call, lambda reply: reply.outcome == "lost")

    @property
    def _key(self) -> Delivered:
        return self._entry.lane, self._entry.id

    def _target(self, send: Send) -> tuple[QueueKeys | None, Outgoing]:
        keys, event = self._consumer.target(None if send.queue is None else check_name(send.queue)), outgoing(send)
        if keys is None:
            event = replace(event, fields=(*event.fields, "to", str(send.queue)))
        return keys, event

    async def _post(self, how: str, call: Call[Any], key: Delivered) -> None:
        try:
            self._settled = how
            await self._consumer.post(call, key)
            self._consumer.settled(key)
        except BaseException:
            self._settled = ""  # it may be tried again; and dropped, it is noticed
            raise

    async def _settle(self, how: str, call: Call[T], is_lost: Callable[[T], bool]) -> T:
        """Settle it; in no moment is it taken for settled with nobody there to know that it is not."""
        try:
            self._settled = how
            reply = await self._consumer.run(call)
            if is_lost(reply):
                self._refuse()
            self._done()
        except LeaseLost:
            raise
        except BaseException:
            self._settled = ""  # it may be tried again; and dropped, it is noticed
            raise
        return reply

    def _again(self, how: str) -> bool:
        """Whether it was settled that way before."""
        if self._settled:
            if self._settled == how:
                return True
            raise DequeueError(
                f"the delivery {self.id} was {self._settled} before and cannot be {how}; nothing changed."
            )
        if self._consumer.state.lost(self._name):
            self._refuse()
        return False

    def forget(self) -> None:
        """Give it up unsettled: if it is this consumer's still, it is handed out once more."""
        self._settled = "given up"
        self._consumer.forget(self._key)

    def __del__(self) -> None:
        # Wherever the garbage collector runs, perhaps inside a lock of ours: so no more than a note to somebody else.
        if not self._settled:
            self._consumer.dropped(self._name, self._entry)

    def _done(self) -> None:
        self._consumer.settled(self._key)

    def _refuse(self) -> None:
        self._done()
        raise LeaseLost(
            f"the lease on {self.id} was lost: its consumer was silent for longer than {self._consumer.lease:g} s, or the "
            "queue was deleted; somebody else has the event and nothing changed; stop working on it."
        )

    async def __aenter__(self) -> Delivery:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._settled or self._consumer.foreign:
            return  # a forked child leaves it to its parent
        try:
            if error is None:
                await self.ack()
            elif self.lost:
                self._done()
            else:
                await self.requeue(failed=isinstance(error, Exception), error=told(error))
        except LeaseLost:
            if error is None:
                raise
        except BaseException as second:
            self.forget()
            if error is None or not isinstance(second, EventQueueError):
                raise
            # The block's own error says more.
            self._consumer.log_failure("send back", self.id, second)

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self.event!r}{' ' + self._settled if self._settled else ''}>"


def _first_is_lost(outcomes: list[str]) -> bool:
    return outcomes[0] == "lost"


async def ack_many(deliveries: Iterable[Delivery]) -> None:
    """Complete deliveries, in one round trip per consumer and 500. See `EventQueue.ack_many`."""
    held: dict[tuple[Holder, str], dict[int, Delivery]] = {}
    refused: list[str] = []
    wanted = list(each(deliveries))
    for delivery in wanted:
        if not isinstance(delivery, Delivery):
            raise InvalidOption(
                f"{shown(delivery)} is no delivery; nothing was acknowledged; give what `receive` gave."
            )
    for delivery in wanted:
        try:
            if not delivery._again("acknowledged"):
                held.setdefault((delivery._consumer, delivery._name), {})[id(delivery)] = delivery
        except LeaseLost:
            refused.append(delivery.id)
    for (consumer, name), own in held.items():
        for batch in batches(list(own.values())):
            try:
                for delivery in batch:
                    delivery._settled = "acknowledged"
                keys = [delivery._key for delivery in batch]
                lost = await consumer.run(consumer.verbs.settle(name, keys, keep=consumer.state.keep))
                for delivery in batch:
                    delivery._done()
            except BaseException:
                for delivery in batch:
                    delivery._settled = ""  # it may be tried again
                raise
            refused += [batch[position].id for position in lost]
    if refused:
        raise LeaseLost(
            f"the leases on {len(refused)} deliveries were lost ({', '.join(refused[:5])}{', ...' if refused[5:] else ''}); "
            "somebody else has those events; the other deliveries were acknowledged."
        )
