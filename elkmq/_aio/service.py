"""A service: handlers by action name, on a queue, with retries, responses and a graceful stop."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from elkmq._aio._concurrency import Flag, Workers, outcome, stop_signals, to_be_raised
from elkmq._aio.consumer import Consumer
from elkmq._aio.delivery import Delivery
from elkmq._aio.queue import EventQueue
from elkmq._core.serving import FAILURE, Reject, Retry, as_text, backoff, failure, told, trace
from elkmq.errors import (
    EventQueueError,
    InvalidOption,
    LeaseLost,
    ServerConnectionError,
    ServerOutOfMemory,
    ServerReadOnly,
    WrongKeyType,
)
from elkmq.event import MAX_EVENT_BYTES, ServiceEvent
from elkmq.options import Seconds, seconds, shown, text, whole

log = logging.getLogger("elkmq")

PAUSE = 1.0
"""Seconds after which a service tries again, where it met what can pass (`TRIED_AGAIN`)."""

TRIED_AGAIN = (ServerConnectionError, ServerReadOnly, ServerOutOfMemory, WrongKeyType)
"""What can pass while a service waits; anything else ends it."""

H = TypeVar("H", bound=Callable[..., Any])

Handler = Callable[[Delivery], Awaitable[Any]]


class Service:
    """Runs handlers for the events of a queue, until it is stopped.

    ::

        service = Service(queue)

        @service.on("greet")
        def greet(payload):
            return f"Hello, {payload}!"

        service.run()

    What a handler returns (text or None) is the response, if anybody awaits one. Where it raises:

    - a request is answered with the error, and its requester's `EventQueue.call` raises `RequestFailed`;
    - any other event is tried again, after ``retry_delay`` seconds, then twice that, up to a minute, until the delivery limit
      puts it among the dead letters;
    - `Reject` puts it there at once, and `Retry` says itself when to try again.

    An event whose action has no handler is rejected. Handlers run on ``concurrency`` threads (tasks in asyncio); as many
    deliveries are taken ahead unless ``prefetch`` says otherwise. With a concurrency of 1 they run on the thread that called
    `run`, and where one of them never ends, neither does `run`.
    """

    def __init__(
        self,
        queue: EventQueue,
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        retry_delay: Seconds = 1.0,
        grace: Seconds = 30.0,
    ) -> None:
        if not isinstance(queue, EventQueue):
            raise InvalidOption(
                f"queue is {shown(queue)}; nothing was changed; give an EventQueue of the same flavour."
            )
        self.queue = queue
        self._concurrency = whole("concurrency", concurrency, 1, 10_000)
        self._prefetch = self._concurrency if prefetch is None else whole("prefetch", prefetch, 1, 10_000)
        self._retry_delay = seconds("retry_delay", retry_delay)
        self._grace = seconds("grace", grace)
        self._handlers: dict[str, Handler] = {}
        self._consumer: Consumer | None = None
        self._workers: Workers | None = None
        self._stopping = False
        self._ending = False

    def on(self, action: str, *, json: bool = False, delivery: bool = False) -> Callable[[H], H]:
        """Make a function the handler of an action; it is called with the payload.

        ``json``: the payload is parsed first and the result written as JSON. ``delivery``: it is called with the `Delivery`
        instead, for headers, counts, or to settle it itself.

        Raises:
            InvalidOption: The action has a handler already.
        """
        text("action", action, MAX_EVENT_BYTES)

        def register(function: H) -> H:
            if not callable(function):
                raise InvalidOption(f"{shown(function)} cannot be called; nothing was changed; give a function.")
            if action in self._handlers:
                raise InvalidOption(
                    f"the action {shown(action)} has a handler already; nothing was changed; choose another name."
                )
            self._handlers[action] = _adapted(function, json, delivery)
            return function

        return register

    async def run(self, *, signals: bool = True) -> None:
        """Serve until `stop`, or until SIGTERM or SIGINT where ``signals`` and this is the main thread.

        Then takes no more, lets what runs finish for ``grace`` seconds and hands the rest back. Goes on
        over lost connections, and where the server takes no writes or a key of the queue is another program's for a while.
        """
        self._ending = False
        self._wake = Flag()
        self._workers = workers = Workers(self._concurrency)
        try:
            self._consumer = consumer = await self.queue.consumer(prefetch=self._prefetch)
            try:
                with stop_signals(self.stop, signals):
                    await self._serve(consumer, workers)
                    if not await workers.join(self._grace):
                        log.warning("handlers still run after %g s; their events are handed back", self._grace)
            finally:
                self._ending = True
                await workers.close()
                await consumer.close()
        finally:
            self._consumer = self._workers = None
            self._stopping = False

    def stop(self) -> None:
        """End `run`, from any thread; but not in a signal handler, where it may never return."""
        self._stopping = True
        workers, consumer = self._workers, self._consumer
        if workers is not None:
            workers.wake()
            self._wake.raise_()
        if consumer is not None:
            consumer.stop()

    async def _serve(self, consumer: Consumer, workers: Workers) -> None:
        while True:
            # First a place, then a delivery: one that waits for a place could be others' by the time it is started.
            await workers.room()
            if self._stopping:
                return
            try:
                delivery = await consumer.get()
            except TRIED_AGAIN as error:
                log.error("the service goes on trying: %s", error)
                await self._wake.wait(PAUSE)
                continue
            if delivery is not None:
                await workers.start(self._handle, delivery)

    async def _handle(self, delivery: Delivery) -> None:
        event = delivery.event
        try:
            handler = self._handlers.get(event.action)
            if handler is None:
                raise Reject(f"no handler for the action {shown(event.action)}")
            result = await handler(delivery)
            if delivery.settled:
                return
            if delivery.awaited or not delivery.ours:
                await delivery.respond(event.action, result, wait=False)
            else:
                await delivery.ack(wait=False)
        except LeaseLost as error:
            log.warning("%s", error)
        except EventQueueError as error:
            await self._failed(delivery, error)
        except Exception as error:  # noqa: BLE001 - a user's code
            await self._failed(delivery, error)
        except BaseException as error:
            if self._ending:
                raise  # the event is handed back
            await self._failed(delivery, error)
            if to_be_raised(error):
                raise

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        if delivery.settled or delivery.lost:
            log.error("a handler failed after its event was settled or lost: %s", told(error))
            return
        what = told(error)
        try:
            if isinstance(error, Retry):
                await delivery.requeue(delay=error.delay, failed=error.failed, error=what)
            elif delivery.awaited:
                log.info("a request is answered with its handler's error:\n%s", trace(error))
                await delivery.respond(FAILURE, failure(error), wait=False)
            elif isinstance(error, Reject):
                if not delivery.ours:  # nobody can tell whether it is awaited, and nobody else will answer it
                    response = ServiceEvent.create_response(delivery.event, FAILURE, failure(error))
                    await self.queue.enqueue_response(response)
                await delivery.reject(as_text(error))
            else:
                log.warning("%r failed and is tried again:\n%s", delivery, trace(error))
                await delivery.requeue(delay=backoff(delivery.failed, self._retry_delay, 60.0), failed=True, error=what)
        except EventQueueError as second:
            log.error("%r could not be settled and is handed out again: %s", delivery, second)
            delivery.forget()


def _adapted(function: Callable[..., Any], as_json: bool, whole_delivery: bool) -> Handler:
    async def handle(delivery: Delivery) -> str | None:
        result = await outcome(function(delivery.event.payload))
        return result if type(result) is str else _text(result)

    async def handle_json(delivery: Delivery) -> str:
        payload = delivery.event.payload
        result = await outcome(function(None if payload is None else _parsed(payload)))
        return json.dumps(result, ensure_ascii=False, allow_nan=False)

    async def handle_delivery(delivery: Delivery) -> Any:
        return await outcome(function(delivery))

    return handle_delivery if whole_delivery else handle_json if as_json else handle


def _parsed(payload: str) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Reject(f"the payload is not JSON ({error})") from None


def _text(result: Any) -> str | None:
    if result is None or isinstance(result, str):
        return result
    raise TypeError(f"a handler returned {type(result).__name__}; return text or None, or register it with json=True")
