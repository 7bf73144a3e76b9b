"""A call on its way, and what comes out of it. No I/O; used by the sync and the asyncio driver alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from elkmq._core.call import Call, Script, bulks
from elkmq.errors import EventQueueError, QueueClosed, translate

T = TypeVar("T")
Done = Callable[[Any], None]
"""Called with what the call's ``parse`` made of the reply, or with an `EventQueueError`."""

log = logging.getLogger("elkmq.link")

LAST_PATIENCE = 2.0
"""Seconds that whoever closes something tries to reach a server for, all in all: what it cannot be told the lease settles."""

NOT_SENT = "nothing was sent"
REFUSED = "the server did not carry it out"


class Sending(Generic[T]):
    """One call between being asked for and being answered."""

    # Most of them never change: as the class's own they cost nothing to begin with.
    future: Any = None
    """asyncio: what its caller awaits."""
    outcome: T | Exception | None = None
    answered = False
    written = False
    """Whether it was given to a socket at least once."""
    maybe_ran = False
    """Whether a connection broke between its sending and its answer."""
    abandoned = False
    """Whether its caller went away: a reply is read and dropped, but it is not sent, or sent again."""
    sendings = 0
    """How often it was sent in vain, for lack of its script."""
    give_up_at: float | None = None
    """When its time to be repeated is over; None: nothing went wrong so far."""

    def __init__(self, call: Call[T], done: Done | None = None) -> None:
        self.call = call
        self.packed = call.packed()
        """Here, so that an argument which cannot be written hits its own caller."""
        self.done = done

    def until(self, otherwise: float) -> float:
        """When it is not repeated any more."""
        until = self.call.until
        return otherwise if until is None else min(until, otherwise)

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.abandoned or (self.future is not None and self.future.done())


def read(call: Call[T], reply: Any, raised: Callable[[Exception], bool] = lambda _: False) -> T | Exception:
    """What the call makes of a reply. An error of its ``parse`` is that call's outcome and hits no other one.

    ``raised`` says of which exceptions that is not so, and they go on.
    """
    try:
        return call.parse(reply)
    except Exception as error:  # raised where the call was made
        if raised(error):
            raise
        return error


def from_outside(error: BaseException) -> bool:
    """Whether an exception that came out of code of ours was raised elsewhere: by a signal's handler, for our caller."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not trace.tb_frame.f_code.co_filename.startswith(_HERE)


_HERE = str(Path(__file__).parent.parent)


def refusal(call: Call[Any], error: Exception, server: str) -> EventQueueError:
    """The outcome of a call that the server answered with an error."""
    return _ours(error, server, call.doing, REFUSED, maybe_ran=False)


def surrender(sending: Sending[Any], error: Exception, server: str) -> EventQueueError:
    """The outcome of a call that is not repeated any more."""
    fate = sending.call.fate if sending.maybe_ran else NOT_SENT
    return _ours(error, server, sending.call.doing, fate, maybe_ran=sending.maybe_ran)


def _ours(error: Exception, server: str, doing: str, fate: str, *, maybe_ran: bool) -> EventQueueError:
    if isinstance(error, EventQueueError):
        return type(error)(*error.args)  # each call raises one of its own
    ours = translate(error, server=server, doing=doing, fate=fate, maybe_ran=maybe_ran)
    ours.__cause__ = error
    return ours


UNREACHED = "%s; it is tried for up to %g s"
REACHED = "%s is there again"


def say_reach(error: Exception | None, server: str, retry_for: float) -> None:
    """Log that calls wait for a server, or (None) no longer do. No warning: whether it matters, the calls' outcomes tell."""
    if error is None:
        log.info(REACHED, server, extra={"server": server})
        return
    ours = translate(error, server=server, doing="connect", fate="", maybe_ran=False)
    log.info(UNREACHED, str(ours).partition(";")[0], retry_for, extra={"server": server})


def pack(sendings: Iterable[Sending[Any]]) -> bytes:
    """The calls as one piece of bytes."""
    return b"".join([sending.packed for sending in sendings])


def load(script: Script) -> Call[None]:
    """The call that makes a server know a script."""
    prefix = bulks(("SCRIPT", "LOAD"))
    return Call(_nothing, (script.source,), None, True, 0.0, prefix, 2, f"load the script {script.name}")


def _nothing(_: Any) -> None:
    return None


def ignore(outcome: Any) -> None:
    """Take the outcome of a call that nobody asks after: an error is logged."""
    if isinstance(outcome, Exception):
        log.warning("%s", outcome)


def loaded(outcome: Any) -> None:
    """Mark, as ``done``, the sending of a script, whose outcome nobody asked for."""


def closed() -> QueueClosed:
    """The outcome of calls on a channel that its owner closed."""
    return QueueClosed("the connection was closed here; what was under way may have been carried out; open a new one.")


def call_back(sending: Sending[Any], raised: Callable[[Exception], bool] = lambda _: False) -> None:
    """Report the outcome of a posted call. An error in the callback is logged and hits nobody else; but for those that go on,
    of which ``raised`` says so.
    """
    try:
        (sending.done or ignore)(sending.outcome)
    except Exception as error:
        if raised(error):
            raise
        log.exception("a callback failed that was told what became of a call (could not %s)", sending.call.doing)


def raise_first(outcomes: Iterable[T | EventQueueError]) -> list[T]:
    """Return the outcomes of ``run_many`` if all calls went well.

    :raises EventQueueError: the first error among them
    """
    results = list(outcomes)
    for outcome in results:
        if isinstance(outcome, Exception):
            raise outcome
    return cast("list[T]", results)


def checked(outcomes: list[Any]) -> list[Any]:
    """Let an error of a ``parse`` that is no `EventQueueError`, which is a bug, surface where it can be seen."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, EventQueueError):
            raise outcome
    return outcomes
