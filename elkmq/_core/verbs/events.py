"""Events in, and the simple form of events out."""

from __future__ import annotations

from collections.abc import Iterable

from elkmq._core import entry as read
from elkmq._core.call import HOLE, Arg, Call, Form
from elkmq._core.entry import Entry, Joined, Outgoing, Receipt, Taken
from elkmq._core.verbs.bound import Bound, OfQueue

_ENQUEUED = "it is not known whether the event is in the queue; enqueued again, the same event is added once"


class EventVerbs(OfQueue):
    """Enqueue and dequeue."""

    _join: Bound[Joined] = Bound("join", read.joined, doing="look at the queue")

    def join(self, *, look: bool = False) -> Call[Joined]:
        """The first contact with the queue: whether it is new, and serves consumers of elk-mq 0.1. ``look``: make nothing."""
        return self._join(int(look))

    _enqueue: Bound[list[Receipt]] = Bound("enqueue", read.receipts, doing="enqueue", fate=_ENQUEUED)

    def enqueue(self, events: Iterable[Outgoing]) -> Call[list[Receipt]]:
        """Accept events, each once, all or none. One round trip, however many.

        Where an event has no unique id, or none is remembered, the call is not repeated after a lost reply.
        """
        args: list[Arg] = [self.window]
        retry = self.window > 0
        for event in events:
            args += event.arguments()
            retry = retry and event.unique != ""
        return self._enqueue(*args, retry=retry)

    def ask(self, inbox: str) -> Form[list[Receipt]]:
        """A lone request with nothing special, as `enqueue` accepts it: to be given its unique id, its JSON and its ms to live."""
        return Form(self._enqueue(self.window, HOLE, inbox, HOLE, HOLE, retry=self.window > 0))

    _enqueue_plain: Bound[list[Receipt]] = Bound("enqueue_plain", read.receipts, doing="enqueue", fate=_ENQUEUED)

    def enqueue_plain(self, events: Iterable[tuple[str, bytes]]) -> Call[list[Receipt]]:
        """Accept events (unique id, JSON) of which nothing else is to be said, as `enqueue` does."""
        return self._enqueue_plain(self.window, *(part for event in events for part in event), retry=self.window > 0)

    # -- the simple form

    _dequeue: Bound[Taken] = Bound(
        "dequeue",
        read.dequeued,
        doing="dequeue",
        fate="if an event was handed out just then, this client's next dequeue gets it",
    )

    def dequeue(
        self,
        consumer: str = "",
        lease: int = 0,
        *,
        client: str = "",
        turn: int = 0,
        keep: int = 0,
        beside_originals: bool = False,
    ) -> Call[Taken]:
        """Hand out one event for good; where there is none, register ``consumer`` for a blocking read.

        ``client`` and ``turn``: who asks, for the how many-eth time; asked again within ``keep`` ms it gets the same answer.
        The state ``more`` means: ask again at once.
        """
        args = (self.counting, consumer, lease, self.delivery_limit, client, turn, keep, int(beside_originals))
        return self._dequeue(*args, retry=client != "")

    _undo_dequeue: Bound[bool] = Bound(
        "undo_dequeue",
        bool,
        doing="put a dequeued event back",
        fate="it is not known whether it was put back; if not, it is gone",
    )

    def undo_dequeue(self, client: str, turn: int, keep: int) -> Call[bool]:
        """Put back what the client's dequeue of that turn handed out; whether it was anything."""
        return self._undo_dequeue(client, turn, self.counting, keep)

    _bury: Bound[int] = Bound("bury", int, retry=False)

    def bury(self, entry: Entry, reason: str, error: str = "") -> Call[int]:
        """Put a dequeued entry that cannot be read among the dead letters."""
        fields = [part for item in entry.fields.items() for part in item]
        return self._bury(entry.lane, entry.id, reason, error, self.counting, *fields)
