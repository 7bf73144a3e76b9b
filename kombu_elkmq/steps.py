"""What a session does in one step on one server, and `kombu_elkmq.cluster` in several: publishing, declaring, deleting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elkmq._core.call import Call
from elkmq._core.entry import Outgoing as Event
from elkmq._core.routing import Routing
from elkmq._core.sending import raise_first
from kombu_elkmq.wires import Wires

WINDOW = 120_000
"""Milliseconds for which the server knows a message that is published again."""


class Steps(Wires):
    """The part of a session that does it."""

    name: str
    routing: Routing

    def spread(
        self,
        queues: Sequence[str],
        versions: Sequence[tuple[str, str]],
        events: Sequence[tuple[int, Event]],
        window: int | None = None,
    ) -> list[bytes] | None:
        """Publish (index of the queue, event) if every exchange still has its version; else return None.

        :param window: ms for which a repetition adds nothing; None: `WINDOW`
        :raises EventQueueError: nothing was published, or it is not known whether it was
        """
        if len(queues) == 1 and not versions:
            return self.run(self.routing.enqueue(queues[0], [event for _, event in events], window=window))
        return self.run(self.routing.publish(queues, versions, events, window=window))

    def hold(self, versions: Sequence[tuple[str, str]]) -> bool:
        """Whether every exchange still has its version.

        :raises EventQueueError: nobody could say
        """
        found = self.run_all([self.routing.exchange_version(name) for name, _ in versions])
        return found == [version for _, version in versions]

    def run_all(self, calls: list[Call[Any]]) -> list[Any]:
        """Send calls in one piece and wait for their answers."""
        if len(calls) == 1:
            return [self.run(calls[0])]
        self.usable()
        return raise_first(self.command.run_many(calls))

    def expect_queue(self, queue: str, expires: int | None) -> None:
        """A queue is about to be declared that outlives its last use by so many ms (None: for ever)."""

    def declared_queue(self, queue: str, settings: Mapping[str, str]) -> None:
        """It was, with these settings."""

    def delete_queue(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False, tombstone: bool = False
    ) -> int:
        """Delete a queue and its bindings; see `Routing.queue_delete`."""
        return self.run(self._delete_call(queue, if_unused=if_unused, if_empty=if_empty, tombstone=tombstone))

    def _delete_call(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False, tombstone: bool = False
    ) -> Call[int]:
        return self.routing.queue_delete(
            queue, if_unused=if_unused, if_empty=if_empty, tombstone=tombstone, who=self.name
        )
