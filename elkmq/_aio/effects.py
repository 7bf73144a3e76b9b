"""Effects of the user's own that happen once, however often a handler runs: claim, do, record the result."""

from __future__ import annotations

import json
import logging
import secrets
from types import TracebackType
from typing import TYPE_CHECKING, Any

from elkmq.errors import EffectBusy, EventQueueError, JSONDumpError, LeaseLost
from elkmq.options import Seconds, milliseconds

if TYPE_CHECKING:
    from elkmq._aio.session import Session


log = logging.getLogger("elkmq")


class Once:
    """One effect, named by a key.

    As a context manager it claims on the way in and records on the way out::

        with queue.once(delivery.unique_id) as effect:
            if not effect.done:
                effect.result = charge_the_card()

    A block that raises gives the claim back, so that the next try may do it. A process that dies in the block leaves the
    claim until ``hold`` seconds are over; whether the effect had happened nobody knows then, which is why effects in
    the user's own database belong into `elkmq.sql.first_time`.
    """

    def __init__(self, session: Session, key: str, hold: Seconds, keep: Seconds) -> None:
        self.key = key
        self.done = False
        """Whether it was done before; ``result`` is what was recorded then."""
        self.result: Any = None
        """What to record; anything JSON can carry."""
        self._session = session
        self._hold = milliseconds("hold", hold, least=0.001)
        self._keep = milliseconds("keep", keep, least=0.001)
        self._owner = secrets.token_hex(8)
        self._claimed = False

    async def claim(self) -> bool:
        """Claim it; False: it was done before.

        Raises:
            EffectBusy: Somebody else has claimed it and neither finished nor let go.
        """
        pool, verbs = await self._session.open()
        claim = await pool.run(verbs.claim(self.key, self._owner, self._hold))
        if claim.state == "busy":
            raise EffectBusy(
                f"the effect {self.key!r} is being done by somebody else, whose claim holds for {int(claim.value) / 1000:g} s; "
                "nothing was done; send the delivery back with a delay."
            )
        self.done = claim.state == "done"
        if self.done:
            self.result = json.loads(claim.value)
        return not self.done

    async def finish(self) -> None:
        """Record the result.

        Raises:
            LeaseLost: The claim ran out and somebody else has it; the effect may have been done twice.
            JSONDumpError: The result cannot be written as JSON; the claim stays.
        """
        try:
            data = json.dumps(self.result, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise JSONDumpError(
                f"the result of {self.key!r} cannot be written as JSON ({exc}); it was not recorded."
            ) from None
        pool, verbs = await self._session.open()
        if not await pool.run(verbs.finish(self.key, self._owner, data, self._keep)):
            raise LeaseLost(
                f"the claim on the effect {self.key!r} ran out after {self._hold / 1000:g} s and somebody else has it; the "
                "effect may be done twice; hold it for longer."
            )
        self.done = True

    async def release(self) -> None:
        """Give the claim back, nothing having been done."""
        pool, verbs = await self._session.open()
        await pool.run(verbs.release(self.key, self._owner))

    async def __aenter__(self) -> Once:
        await self.claim()
        self._claimed = not self.done
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._claimed:
            return
        if error is None:
            await self.finish()
            return
        try:
            await self.release()
        except EventQueueError as second:
            # The block's own error says more; the claim ends with its time.
            log.warning("the claim on the effect %r could not be given back: %s", self.key, second)
