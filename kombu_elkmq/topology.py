"""The declaring half of a channel: exchanges, queues, bindings."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport import base

from elkmq._core import clock
from elkmq._core.call import Call, command
from elkmq._core.routing import Declared
from elkmq._core.verbs import Verbs
from elkmq.keys import is_reserved
from kombu_elkmq import declarations, processes
from kombu_elkmq.errors import locked, not_found, precondition_failed, reserved

if TYPE_CHECKING:
    from kombu_elkmq.session import Session

log = logging.getLogger("kombu_elkmq")


class Topology(base.StdChannel):
    """Declares, binds, purges and deletes. Every method is one round trip and has happened when it returns."""

    session: Session
    no_ack_consumers: Any = None

    # -- exchanges

    def exchange_declare(
        self, exchange: str = "", type: str = "direct", passive: bool = False, durable: bool = False, auto_delete: bool = False,  # noqa: A002
        nowait: bool = False, arguments: Mapping[str, Any] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        """Declare an exchange; raises 404 (passive) or 406 (it is different)."""
        if not exchange:
            return
        if passive:
            if not self.session.routes.exists(exchange):
                raise not_found(f"exchange {exchange!r}", (40, 10))
            return
        self.session.routes.declare(
            exchange, type or "direct", durable=bool(durable), auto_delete=bool(auto_delete), arguments=arguments or {}
        )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False, **_: Any) -> None:
        """Delete an exchange; raises 406 where it has bindings and ``if_unused``."""
        self.session.routes.delete(exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Lead what ``source`` gets on to ``destination``."""
        self.session.routes.bind(source, destination, routing_key or "", arguments or {}, to_exchange=True)

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Do not any more."""
        self.session.routes.unbind(source, destination, routing_key or "", arguments or {}, to_exchange=True)

    # -- queues

    def queue_declare(
        self, queue: str = "", passive: bool = False, durable: bool = False, exclusive: bool = False, auto_delete: bool = False,
        nowait: bool = False, arguments: Mapping[str, Any] | None = None, **_: Any,
    ) -> Any:  # fmt: skip
        """Declare a queue; returns its name, ready messages and live consumers. Raises 404, 405, 406."""
        session = self.session
        if passive:
            return self._declared(queue, self._look(queue, declarations.DECLARE))
        queue = queue or f"amq.gen-{uuid.uuid4()}"
        if is_reserved(queue):
            raise reserved(queue, declarations.DECLARE)
        read = declarations.read(queue, arguments or {}, session.options, short_lived=bool(auto_delete or exclusive))
        settings = dict(read.settings)
        # A queue of Celery's remote control is shared, as on redis://: Celery warns of two workers of one name by itself, and
        # one that was killed must not keep its successor from starting for as long as its lease lasts.
        exclusive = exclusive and not queue.endswith(".pidbox")
        if auto_delete or exclusive:
            settings["auto_delete"] = "1"
        if exclusive:
            settings["exclusive"] = session.name
            session.claim(queue, settings)
        try:
            session.expect_queue(queue, read.expires)
            found = self._own(
                lambda instead: session.routing.queue_declare(
                    queue, read.text, settings, read.expires, who=session.name, instead=instead
                )
            )
            if found.state == "locked":
                raise locked(queue, declarations.DECLARE)
            self._same(queue, read.text, found)
        except Exception:
            session.disclaim(queue)
            raise
        session.declared_queue(queue, settings)
        if read.expires is not None:
            session.unused_at, session.unused_soon = min(session.unused_at, clock.now() + read.expires / 1000), True
        if "dead_letter_exchange" in settings:
            session.sweep_at = 0.0
            session.relaying.add(queue)
        if read.max_priority is not None:
            session.max_priorities[queue] = read.max_priority
        if queue.endswith(".pidbox") and found.consumers:
            found = found._replace(consumers=min(found.consumers, self._living(queue)))
        return self._declared(queue, found)

    def _declared(self, queue: str, found: Declared) -> Any:
        reader = self.session.readers.get(queue)
        silent = reader is not None and not reader.subscriptions  # registered, and no consumer in AMQP's sense
        return queue_declare_ok_t(queue, found.ready, max(0, found.consumers - silent))

    def _living(self, queue: str) -> int:
        """Consumers of a queue, but those that are known to be gone: a worker that was killed and is started again would warn for a
        lease that there are two of its name.
        """
        keys = self.session.routing.queue(queue)
        found = self.session.run(command("HGETALL", keys.of("consumer_info"), parse=list, doing="ask who consumes"))
        return sum(not processes.is_gone(info) for info in found[1::2])

    def _same(self, queue: str, text: str, found: Declared) -> None:
        """Raise 406, or warn, where a queue is there with other arguments."""
        if found.state != "differs":
            return
        differ = f"queue {queue!r} was declared with {found.told} and now with {text}; "
        if self.session.options.redeclare == "keep":
            log.warning("%sit goes on as it was", differ)
            return
        raise precondition_failed(
            f"{differ}nothing was changed; declare it as before, delete it first, or set the transport option 'redeclare' to "
            "'keep'", declarations.DECLARE,
        )  # fmt: skip

    def _own(self, call: Callable[[str], Call[Declared]]) -> Declared:
        """Run a call; once more where what it is refused for is exclusive to a session of this process that left."""
        found = self.session.run(call(""))
        if found.state == "locked" and found.told in self.session.left:
            return self.session.run(call(found.told))
        return found

    def _look(self, queue: str, method: tuple[int, int]) -> Declared:
        """How much is in a queue; raises 404, 405."""
        session = self.session
        found = self._own(lambda instead: session.routing.queue_look(queue, who=session.name, instead=instead))
        if found.state == "absent":
            raise not_found(f"queue {queue!r}", method)
        if found.state == "locked":
            raise locked(queue, method)
        return found

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Bind a queue to an exchange; to the default exchange it is bound already."""
        if exchange:
            self.session.routes.bind(exchange, queue, routing_key or "", arguments or {}, to_exchange=False)

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Any = None,
        **_: Any,
    ) -> None:
        """Take a binding away."""
        if exchange:
            self.session.routes.unbind(exchange, queue, routing_key or "", arguments or {}, to_exchange=False)

    def queue_purge(self, queue: str, nowait: bool = False, **_: Any) -> int:
        """Remove what is ready; what is in flight, or not due yet, stays. Returns how many. Raises 404, 405."""
        session = self.session
        self._look(queue, (50, 30))
        verbs = Verbs(session.routing.queue(queue), counting=session.counting)
        removed, more = 0, True
        while more:
            n, more = session.run(verbs.purge())
            removed += n
        return removed

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False, **_: Any
    ) -> int:
        """Delete a queue and its bindings; returns how many ready messages it held. Raises 405, 406."""
        session = self.session
        reader = session.readers.get(queue)
        if reader is not None and not reader.subscriptions and not reader.known:
            session.release(reader)
        held = session.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)
        if held == -3:
            raise locked(queue, (50, 40))
        if held == -1:
            raise precondition_failed(f"queue {queue!r} is in use; it was not deleted; cancel its consumers", (50, 40))
        if held == -2:
            raise precondition_failed(f"queue {queue!r} is not empty; it was not deleted; purge it", (50, 40))
        session.exclusive.discard(queue)
        session.routes.forget_all()
        return max(held, 0)

    def after_reply_message_received(self, queue: str) -> None:
        """The one reply that a queue was made for came: it goes, and later ones to it are dropped."""
        session = self.session
        reader = session.readers.get(queue)
        if reader is not None and not reader.subscriptions:
            session.release(reader)
        session.delete_queue(queue, tombstone=True)
        session.routes.forget_all()

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """(queue, exchange, routing key) of every binding."""
        return [(each.destination, each.source, each.key) for each in self.session.routes.bindings()]

    get_bindings = list_bindings

    def prepare_queue_arguments(self, arguments: Any, **given: Any) -> Any:
        """Kombu's names of queue arguments as RabbitMQ's."""
        return base.to_rabbitmq_queue_arguments(arguments or {}, **given)
