"""The end of an event loop, for a connection's tasks. `asyncio.run` cancels them with all others, but what is tidied up then (a
delivery's block, `close`) needs answers. So they go on, and end in the loop's last moments.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress

from elkmq._aio._concurrency import last_things

MOST_CANCELLINGS = 2
"""How often in a row tasks go on although somebody has cancelled them: who keeps on doing it is heeded."""


def hang_up(descriptor: int) -> None:
    """Tell the other side that a connection ends, whoever holds the socket and closes it later."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as twin:
        twin.shutdown(socket.SHUT_RDWR)


class Ending:
    """Of one connection in one event loop. ``hang_up`` breaks it off and returns the tasks that are at work for it."""

    def __init__(self, hang_up: Callable[[], Iterable[asyncio.Task[None] | None]]) -> None:
        self.over = False
        """Whether the end has come: nothing is begun any more."""
        self._hang_up = hang_up
        self._asked = False
        """Whether its owner ends it, and not the loop."""
        self._cancellings = 0
        self._until: AsyncGenerator[None, None] | None = None

    async def watch(self) -> None:
        """Have the loop end the tasks at its end: it closes all asynchronous generators then."""
        if self._until is None:
            self._until = self._until_the_end()
            await anext(self._until)

    async def come(self) -> None:
        """End them now."""
        self._asked = True
        if self._until is not None:
            await self._until.aclose()

    def goes_on(self) -> bool:
        """Whether a task that was cancelled, and not from here, is to be followed by another."""
        self._cancellings += 1
        return not self.over and self._cancellings <= MOST_CANCELLINGS

    def answered(self) -> None:
        """A server answered: the loop is alive."""
        self._cancellings = 0

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self._asked:
                await last_things()
            self.over = True
            tasks = [task for task in self._hang_up() if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
