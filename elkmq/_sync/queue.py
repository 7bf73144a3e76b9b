# Generated from elkmq/_aio/queue.py by tools/async_to_sync.py; edit that.
"""`EventQueue`: events in, events out, requests that a response."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from elkmq._core.clock import now
from elkmq._core.entry import Receipt
from elkmq._core.outgoing import Send, batches, checked, outgoing, parcels, plain
from elkmq._core.sending import LAST_PATIENCE
from elkmq._core.serving import FAILURE, failure_text
from elkmq._sync._concurrency import home
from elkmq._sync.admin import Administration
from elkmq._sync.consumer import Consumer
from elkmq._sync.delivery import Delivery, ack_many
from elkmq._sync.dequeuing import Dequeuing
from elkmq._sync.requests import Requests
from elkmq._sync.session import Session
from elkmq.errors import EmptyQueue, InvalidOption, RequestFailed
from elkmq.event import MAX_TIMEOUT, ServiceEvent, TimestampedEvent, uuid_text
from elkmq.options import Options, Seconds, path_of, seconds, shown, whole

MANY = 10_000
"""Deliveries held or asked for at once, at most."""


class EventQueue(Administration):
    """A queue in Redis, by its name. Nothing is sent before the first call.

    ``url``: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``; None starts a private
    server (extra ``embedded``), with its files in ``data``. ``options``: see `Options`. Further arguments are those of the
    connection (`ConnectOptions`), such as ``socket_timeout`` in seconds or ``credential_provider``.

    Any number of threads, tasks and processes may use queues of the same name, and threads may share one object; after a
    fork it goes on in both processes. Each method is one round trip unless it says otherwise; a broken connection is mended
    for ``retry_for`` seconds (30) before a call fails.

    Raises:
        QueueNameError, InvalidOption: A name, url or option that makes no sense; no message shows a password.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        options: Options | None = None,
        data: str | os.PathLike[str] | None = None,
        **connection: Any,
    ) -> None:
        if url is not None and not isinstance(url, str):
            raise InvalidOption(f"url is {type(url).__name__}, not text; nothing was sent; give a url or None.")
        if url is not None and data is not None:
            raise InvalidOption("data goes with the embedded server; nothing was sent; leave out either url or data.")
        if options is not None and not isinstance(options, Options):
            raise InvalidOption(f"options is {type(options).__name__}; nothing was sent; give elkmq.Options(...).")
        folder = None if data is None else path_of("data", data)
        self._session = Session(name, url, options or Options(), folder, connection)
        self._home: object = None
        self._closed = False
        self._begin()

    # -- events in

    def enqueue(
        self,
        event: ServiceEvent,
        *,
        delay: Seconds = 0.0,
        priority: int = 0,
        ttl: Seconds | None = None,
        headers: Mapping[str, Any] | None = None,
        dedupe_id: str | None = None,
    ) -> int:
        """Add an event; returns Redis' clock then, in milliseconds. The keywords are explained at `Send`.

        Enqueueing the same event again within the dedupe window adds nothing and returns the first answer.

        Raises:
            InvalidEvent, InvalidOption, JSONDumpError: Nothing was sent.
            QueueFull: The queue is at its maximum length; nothing was added.
            ServerConnectionError: The server could not be reached; enqueue the same event again, it is added once.
        """
        pool, verbs = self._session.open()
        more = (
            delay is False
            or delay != 0
            or type(priority) is not int  # False, -0.0
            or priority != 0
            or ttl is not None
            or headers is not None
            or dedupe_id is not None
        )
        pairs = None if more else plain((event,))
        if pairs is not None:
            return (pool.run(verbs.enqueue_plain(pairs)))[0].timestamp
        send = Send(event, None, delay, priority, ttl, headers, dedupe_id)
        receipt = (pool.run(verbs.enqueue([outgoing(send)])))[0]
        self._attend([receipt], [send])
        return receipt.timestamp

    def enqueue_many(self, events: Iterable[ServiceEvent | Send]) -> list[int]:
        """Add events, in order; returns Redis' clock for each. One round trip per 500 or 16 MB, accepted whole or not at all.

        Raises:
            As `enqueue`. What came before the part that failed is in the queue; enqueue all of them again, each is added once.
        """
        pool, verbs = self._session.open()
        accepted: list[int] = []
        for batch in batches(events):
            pairs = plain(batch)
            calls = (
                (verbs.enqueue_plain(pairs),)
                if pairs is not None
                else (verbs.enqueue(parcel) for parcel in parcels(batch))
            )
            receipts: list[Receipt] = []
            for call in calls:
                receipts += pool.run(call)
            self._attend(receipts, batch)
            accepted += [receipt.timestamp for receipt in receipts]
        return accepted

    # -- events out, for good

    def dequeue(self) -> TimestampedEvent:
        """Take the next event for good. It is gone from the queue even if its handler crashes: see `receive`.

        Nothing is lost where the connection breaks, or where this call is cancelled or interrupted before it returned: the
        event then goes back, to come next. Only a process that dies in that moment takes its event along.

        Raises:
            EmptyQueue: There is none.
            ServerConnectionError: The server could not be reached. Had it handed an event out just before, this object's next
                `dequeue` gets that one, within two minutes.
        """
        self._settle_in()
        return self._dequeuing.now()

    def dequeue_blocking(self, timeout: Seconds | None = None) -> TimestampedEvent:
        """Wait up to ``timeout`` seconds (None or 0: for ever, as in elk-mq) for the next event, and take it for good.

        Nothing is lost where the connection or this process breaks while it waits; otherwise as `dequeue`.

        Raises:
            EmptyQueue: None came.
        """
        span = math.inf if timeout is None else seconds("timeout", timeout) or math.inf
        self._settle_in()
        return self._dequeuing.soon(span)

    # -- events out, under a lease

    def receive(self, timeout: Seconds | None = 0.0) -> Delivery:
        """Take the next event under a lease: it comes back if this process dies before it is settled.

        ``timeout``: seconds to wait for one; 0: not at all; None: for ever. The delivery is a context manager. Any number of
        deliveries may be held. For steady work `consumer` takes ahead, many per round trip.

        Raises:
            EmptyQueue: There is none, or none came in time.
        """
        return (self.receive_many(1, timeout))[0]

    def receive_many(self, n: int, timeout: Seconds | None = 0.0) -> list[Delivery]:
        """Take up to ``n`` events at once (one round trip), waiting for the first of them as `receive` does.

        Raises:
            EmptyQueue: There is none, or none came in time.
        """
        whole("n", n, 1, MANY)
        span = None if timeout is None else seconds("timeout", timeout)
        receiver = self._receiver()
        try:
            found = receiver.get_many(n, span)
        finally:
            self._receivers.append(receiver)
            receiver.rest()
        if not found:
            raise EmptyQueue(f"the queue {self.name!r} has nothing to hand out now.")
        return found

    def ack_many(self, deliveries: Iterable[Delivery]) -> None:
        """Complete deliveries, in one round trip per 500.

        Raises:
            LeaseLost: Some leases were lost, as the message says; the other deliveries were completed.
        """
        ack_many(deliveries)

    def consumer(
        self, *, prefetch: int = 10, lease: Seconds | None = None, on_lost: Callable[[], None] | None = None
    ) -> Consumer:
        """A consumer that takes up to ``prefetch`` deliveries ahead; it holds no more than that unsettled.

        ``lease``: seconds, instead of the option's. ``on_lost`` is called, on whichever thread finds out, when the lease is
        lost and with it all deliveries held.
        """
        whole("prefetch", prefetch, 1, MANY)
        span = self._session.options.lease if lease is None else lease
        span = seconds("lease", span, least=1, most=3600)
        if on_lost is not None and not callable(on_lost):
            raise InvalidOption(f"on_lost is {shown(on_lost)}; nothing was sent; give a function or None.")
        return self._consumer(prefetch, span, on_lost)

    # -- requests

    def await_response(
        self,
        event: ServiceEvent,
        *,
        timeout: Seconds | None = None,
        priority: int = 0,
        headers: Mapping[str, Any] | None = None,
    ) -> TimestampedEvent:
        """Enqueue an event as a request and its response, for its ``timeout`` or the one given here, in seconds.

        A request that nobody waits for any more is not handed out. Any number may be awaited at once, by threads or tasks,
        over one connection.

        Raises:
            TimeoutExpired: No response came in time.
            EnqueueError: The event was enqueued before without being awaited here.
        """
        checked(event)
        span = event.timeout if timeout is None else seconds("timeout", timeout, least=0.001, most=MAX_TIMEOUT)
        return self._ask(event, float(span), priority, headers)

    def _ask(
        self, event: ServiceEvent, span: float, priority: int = 0, headers: Mapping[str, Any] | None = None
    ) -> TimestampedEvent:
        self._settle_in()
        return self._requests.ask(event, span, priority, headers)

    def enqueue_response(self, event: ServiceEvent) -> int:
        """Send a response made by `ServiceEvent.create_response` to a request that was dequeued; returns Redis' clock.

        Where nobody waits for it any more nothing is written. Of a request that was received, `Delivery.respond` answers
        and completes in one step.
        """
        pool, verbs = self._session.open()
        _, timestamp = pool.run(verbs.respond(uuid_text(checked(event)), event.timeout, event.to_json()))
        return timestamp

    def call(self, action: str, payload: str | None = None, *, timeout: Seconds = 10.0) -> str | None:
        """Ask whoever serves ``action`` and return the payload of the response.

        Raises:
            TimeoutExpired: No response within ``timeout`` seconds.
            RequestFailed: The handler raised; the message says what.
        """
        span = seconds("timeout", timeout, least=0.001, most=MAX_TIMEOUT)
        event = ServiceEvent(max(1, math.ceil(span)), action, payload)
        response = (self._ask(event, span)).event
        if response.action == FAILURE:
            raise RequestFailed(f"the handler of {shown(action)} failed: {failure_text(response.payload)}.")
        return response.payload

    # -- the end

    def close(self) -> None:
        """Close its consumers, hand back what was received and not settled, hang up.

        Where the server cannot be reached, this takes about 2 seconds (``socket_timeout`` more where it hangs); deliveries then
        come back when their lease is over.
        The embedded server stops with its last user.
        """
        self._closed = True
        self._session.closing_until = now() + LAST_PATIENCE
        self._receivers.clear()
        try:
            for consumer in list(self._consumers):
                consumer.close()
            if self._home == home():
                self._requests.close()
                self._dequeuing.close()
        finally:
            self._session.close()

    def __enter__(self) -> EventQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EventQueue {self._session.describe()}>"

    def _attend(self, receipts: Sequence[Receipt], events: Sequence[ServiceEvent | Send]) -> None:
        if receipts and receipts[0].served:
            due = [seconds("delay", event.delay) for event in events if isinstance(event, Send) and event.delay]
            if due:
                self._session.attend(min(due))

    def _receiver(self) -> Consumer:
        self._settle_in()
        try:
            return self._receivers.pop()
        except IndexError:
            return self._consumer(sys.maxsize, float(self._session.options.lease), None)

    def _consumer(self, prefetch: int, lease: float, on_lost: Callable[[], None] | None) -> Consumer:
        self._settle_in()
        _, verbs = self._session.open()
        consumer = Consumer(self._session, verbs, prefetch=prefetch, lease=lease, on_lost=on_lost)
        for other in [c for c in list(self._consumers) if c.closed]:
            self._consumers.discard(other)
        self._consumers.add(consumer)
        if self._closed:  # in the meantime
            consumer.close()
        return consumer

    def _settle_in(self) -> None:
        """Leave what is another process's or event loop's to it: its deliveries, and the requests it awaits."""
        here = home()
        if self._home != here:
            if self._home is not None:
                self._begin()
            self._home = here

    def _begin(self) -> None:
        self._consumers: set[Consumer] = set()
        self._receivers: list[Consumer] = []
        self._requests = Requests(self._session)
        self._dequeuing = Dequeuing(self._session)
