"""What is behind one Kombu connection: its connections to the server, the queues it reads, what it was handed.

The consumer at the server is new with each session; its lease is renewed by the process's heart (`elkmq._heart`),
whatever the session's thread is busy with.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from elkmq._core import clock
from elkmq._core.consumer import consumer_name
from elkmq._core.fork import forget_in_child
from elkmq._core.routing import Routing
from elkmq._endpoint import Endpoint
from elkmq._sync.session import counts
from elkmq.errors import EventQueueError, LeaseLost, QueueClosed
from kombu_elkmq import handover
from kombu_elkmq.channel import Channel
from kombu_elkmq.delivery import Deliveries
from kombu_elkmq.links import wait_readable
from kombu_elkmq.options import TransportOptions
from kombu_elkmq.processes import about_this
from kombu_elkmq.publishing import Publisher
from kombu_elkmq.pump import Pump
from kombu_elkmq.reader import Reader
from kombu_elkmq.reading import Reading
from kombu_elkmq.relay import Relay
from kombu_elkmq.remains import Remains
from kombu_elkmq.routing import Routes
from kombu_elkmq.steps import WINDOW
from kombu_elkmq.wires import GOODBYE

if TYPE_CHECKING:
    from kombu_elkmq.loop import Loop

log = logging.getLogger("kombu_elkmq")

_left: set[str] = set()
"""Names of sessions of this process that Kombu dropped: their exclusive queues are whose who comes next."""


class Session(Reading):
    """See the module. Kombu calls it the connection; ``client`` is the `kombu.Connection`."""

    def __init__(self, client: Any, endpoint: Endpoint, options: TransportOptions) -> None:
        self.client = client
        super().__init__(endpoint, options)
        self.channels: list[Channel] = []
        self.readers: dict[str, Reader] = {}
        self.exclusive: set[str] = set()
        """Queues of this session only, deleted with it."""
        self.left = _left
        self.max_priorities: dict[str, int] = {}
        """Queue -> its ``x-max-priority``, as it was declared over this session."""
        self.relaying: set[str] = set()
        """Queues with a dead letter exchange, of those declared over this session."""
        self.name = consumer_name()
        self.counting = False
        self.pump = Pump(self)
        self.deliveries = Deliveries(self)
        self._error: EventQueueError | None = None
        self._told = False
        self.any_lost = False
        self._went: list[Reader] = []
        """Whose last consumer went, with the rest to be done where that can wait for the server."""
        self.relay = Relay(self)
        self.routes = Routes(self)
        self.publisher = Publisher(self)
        self._loop: Loop | None = None
        self._draining: int | None = None
        self.sweep_at = 0.0
        self.unused_at, self.unused_soon = clock.now() + options.lease, False
        self._channel_ids = itertools.count(1)
        forget_in_child(self)

    # -- life

    def connect(self) -> None:
        """Connect, in one attempt, and learn what the server is.

        :raises EventQueueError: it cannot be reached, refuses the login, or is too old
        """
        self.command.connect()
        self.counting = counts(self.command, self.endpoint)
        self.routing = self._routing()

    def _routing(self) -> Routing:
        return Routing(self.options.global_keyprefix, window=WINDOW)

    @property
    def connected(self) -> bool:
        """Whether it can be used, as far as anybody knows."""
        return not self.closed and self._error is None and self.pid == os.getpid()

    @property
    def failed(self) -> bool:
        """Whether nothing can be done any more over this session."""
        return self._error is not None

    @property
    def owes_news(self) -> bool:
        """Whether it failed, and its consumers have not been told.

        Kombu replaces a connection that says it is none without a word: its consumers would be left behind.
        """
        return self._error is not None and not self._told and bool(self.readers) and self.pid == os.getpid()

    def check(self) -> None:
        """Raise what ended this session.

        :raises EventQueueError: the server was away for longer than the lease, or declared this consumer dead
        """
        self._tell()
        if not self.any_lost:
            return
        for reader in self.readers.values():
            if reader.lost:
                self.fail(LeaseLost(
                    f"the lease on {reader.queue} was lost: the queue was deleted, or this process was not heard of for too long; "
                    "what it held went with the queue, or is with other consumers; the connection is made anew."
                ))  # fmt: skip
                self._tell()

    def _tell(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def fail(self, error: EventQueueError) -> None:
        """Nothing can be done any more over this session: the next one who asks is told."""
        if self._error is None:
            self._error = error
            self.deliveries.forget_buffered()
        self.wake()

    def close(self) -> None:
        """Acknowledge what is to be, hand back the rest at once, and hang up."""
        if self.closed:
            return
        self.leave_loop()
        for channel in list(self.channels):
            channel.close()
        self.closed = True
        self.pump.stop(GOODBYE)
        if self.pid == os.getpid():
            if self._error is None:
                try:
                    self._leave()
                except EventQueueError as error:
                    log.warning(
                        "could not say goodbye to %s; it notices within the lease: %s", self.endpoint.describe(), error
                    )
            self.hang_up()
        self.client = None

    def detach(self) -> None:
        """Kombu dropped this connection, which failed, or which a fork copied.

        What the application still works on stays its own, and can be acknowledged; the rest goes back at once.
        """
        if self.closed:
            return
        self.leave_loop()
        self.client = None
        if self.pid != os.getpid():
            self.closed = True
            return
        for reader in self.readers.values():
            reader.subscriptions.clear()
        if self.exclusive:
            self.left.add(self.name)
            self.exclusive.clear()
        Remains(self)

    def _leave(self) -> None:
        self.be_quick()
        self.deliveries.flush()
        if self.taker is not None and not self.pump.mending:
            self.taker.flush()
        self.relay.finish()
        for reader in list(self.readers.values()):
            self.release(reader)
        for queue in self.exclusive:
            self.command.run(self._delete_call(queue, tombstone=True))

    def hang_up(self) -> None:
        """Close the connections, and let the heart forget the readers."""
        for reader in self.readers.values():
            self._heart(reader).remove(reader)
        self.readers.clear()
        self.hang_up_wires()

    def forget_parent(self) -> None:
        """In a forked child: the parent goes on with everything; nothing here is the child's."""
        self._error = QueueClosed("the connection belongs to the parent process; nothing was sent; open a new one.")
        self.readers.clear()
        self.forget_wires()
        self.pump = Pump(self)
        self.deliveries = Deliveries(self)

    def _reconnected(self, _: Any) -> None:
        self.pump.reconnected()

    def _mending(self) -> bool:
        return self.pump.mending

    # -- handing out

    def drain_events(self, timeout: float | None = None) -> None:
        """Hand out one message.

        :raises TimeoutError: none came within ``timeout`` seconds (None: wait for ever)
        :raises EventQueueError: the server was away for longer than the lease, or the lease is lost
        """
        me = threading.get_ident()
        if self._draining not in (None, me):
            raise RuntimeError(
                "two threads wait for messages of one connection; nothing was lost; give each thread a connection of its own."
            )
        outer, self._draining = self._draining, me
        self.uncork()  # a worker drains a connection that it gave to its event loop already
        self.deliveries.flush()
        try:
            self._drain(None if timeout is None else time.monotonic() + timeout)
        finally:
            self._draining = outer
        if self.deliveries.dying and not self.deliveries.deliverable():
            self.deliveries.send_on()  # with more in hand, the next call does it for several at once

    def _drain(self, deadline: float | None) -> None:
        deliveries, ready = self.deliveries, list[int]()
        while True:
            self.check()
            self._let_them_go()
            if not deliveries.dying and deliveries.deliver_one():
                return
            for fd in ready:  # also of a connection that is owed nothing, which the server closed
                self.read(fd)
            self.pump.run(read=not ready)
            self.relay.run()
            self.chores()
            if deliveries.deliver_one():
                return
            left = self.pump.next_look()  # 0 where something is due at once
            if deadline is not None:
                ends = deadline - time.monotonic()
                if ends <= 0:
                    raise TimeoutError("no message came in time")
                left = min(left, ends)
            fds = list(self.watched())
            if not fds:
                raise RuntimeError(
                    "nothing is consumed on this connection; start a consumer before waiting for messages."
                )
            ready = wait_readable(fds, left)
            self.awake()

    def _let_them_go(self) -> None:
        """Go on with what the end of consumers had to leave."""
        while self._went:
            reader = self._went.pop()
            if not reader.subscriptions and self.readers.get(reader.queue) is reader:
                self.last_consumer_went(reader)

    def wake_other(self) -> None:
        """End the waiting of the thread that hands out, if this is another one: it made room, or there is an answer to read."""
        me, looping, draining = threading.get_ident(), self.corked_by, self._draining
        if me not in (looping, draining) and (looping is not None or draining is not None):
            self.wake()

    @property
    def attended(self) -> bool:
        """Whether an event loop or somebody who drains sees to what is to be done."""
        return self._loop is not None or self._draining is not None

    def join(self, loop: Loop) -> None:
        """An event loop hands out from now on."""
        self.leave_loop()
        self._loop = loop

    def leave_loop(self) -> None:
        """It does not any more."""
        if self._loop is not None:
            loop, self._loop = self._loop, None
            loop.leave()

    def changed(self) -> None:
        """There is a consumer more, or less."""
        self.wake()

    def reader(self, queue: str) -> Reader:
        """The reader of a queue, registered; made where there is none."""
        self.check()
        found = self.readers.get(queue)
        if found is not None:
            return found
        link = self.wires_of(queue).consuming()
        verbs = self.verbs(queue)
        reader = Reader(self, queue, verbs, self.options.lease)
        sent = clock.now()
        reader.opened(link.run(verbs.open(self.name, round(self.options.lease * 1000), about_this())), sent)
        self.readers[queue] = reader
        self._heart(reader).add(reader)
        handover.register(reader)
        return reader

    def channel(self) -> Channel:
        """A new channel."""
        found = Channel(self)
        self.channels.append(found)
        return found

    def next_channel_id(self) -> int:
        """A number for a channel."""
        return next(self._channel_ids)
