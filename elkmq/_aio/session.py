"""One queue at one server: connections, verbs, and what is known of the server. Every other part of the shell stands on it."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Sequence
from typing import Any

from elkmq import embedded
from elkmq._aio._concurrency import Lock, in_thread
from elkmq._aio.link import Channel, Pool, Waiter
from elkmq._attendant import Attendant
from elkmq._core.call import command
from elkmq._core.fork import forget_in_child
from elkmq._core.verbs import Verbs
from elkmq._endpoint import Endpoint
from elkmq._heart import heart
from elkmq.errors import QueueClosed, ServerTooOld
from elkmq.keys import QueueKeys
from elkmq.options import Options, check_name

log = logging.getLogger("elkmq")

_counting: dict[Hashable, bool] = {}


class Session:
    """Opened at its first use; see `EventQueue` for what the arguments mean."""

    def __init__(
        self, name: str, url: str | Endpoint | None, options: Options, data: str | None, connection: dict[str, Any]
    ) -> None:
        self.name = check_name(name)
        self.options = options
        self._data = data
        self._connection = connection
        self._server: embedded.EmbeddedServer | None = None
        self._endpoint = Endpoint.from_url(url, **connection) if isinstance(url, str) else url
        if url is None:
            Endpoint.from_url(
                "redis://", **connection
            )  # what makes no sense is said now, not when the server has started
        self._opening = Lock()
        self._closed = False
        self._pool: Pool | None = None
        self._verbs: Verbs | None = None
        self._joined = self._looked = False
        self._attendant: Attendant | None = None
        self._warned = False
        self.closing_until: float | None = None
        """Until when those that are closed with the queue try to reach the server (`elkmq._core.clock`)."""
        forget_in_child(self)

    def forget_parent(self) -> None:
        """In a forked child: whoever was opening it is not here."""
        self._opening = Lock()
        self._attendant = None

    @property
    def endpoint(self) -> Endpoint:
        """The server; known once the session is open."""
        assert self._endpoint is not None
        return self._endpoint

    @property
    def slot_key(self) -> bytes:
        """A key of the queue, whose slot all its keys are in."""
        return self.keys(self.name).lane(0)

    def describe(self) -> str:
        """The queue and its server, with no password."""
        where = self._endpoint.describe() if self._endpoint else "embedded server"
        return f"{self.name!r} at {where}"

    def keys(self, name: str) -> QueueKeys:
        """The keys of a queue at this server."""
        return QueueKeys(name, self.options.global_keyprefix, self.endpoint.cluster)

    async def open(self, *, look: bool = False) -> tuple[Pool, Verbs]:
        """The connections and the verbs. ``look``: for a look at a queue, which makes none.

        Raises:
            EmbeddedServerError: No url was given and no server can be had.
            ServerConnectionError, AuthenticationError, ServerTooOld: as they say.
            QueueClosed: `close` was called.
        """
        if self._pool is not None and self._verbs is not None and (self._joined or (look and self._looked)):
            return self._pool, self._verbs
        async with self._opening:
            self._refuse_if_closed()
            if self._pool is None or self._verbs is None:
                if self._endpoint is None:
                    self._server = await in_thread(embedded.server, self._data)
                    self._endpoint = Endpoint.from_url(self._server.url, **self._connection)
                    if self._closed:  # in the meantime
                        await in_thread(self._server.close)
                self._refuse_if_closed()
                pool = self._pool = self._pool or Pool(self._endpoint, slot_key=self.slot_key)
                verbs = Verbs(
                    self.keys(self.name),
                    counting=await counts(pool, self._endpoint),
                    window=round(float(self.options.dedupe_window) * 1000),
                    delivery_limit=self.options.delivery_limit,
                )
                self._verbs = verbs
            if not (self._joined or (look and self._looked)):
                served = (await self._pool.run(self._verbs.join(look=look))).served
                self._looked, self._joined = True, not look
                if served and not look:
                    self.attend()
            return self._pool, self._verbs

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise QueueClosed(f"the queue {self.name!r} was closed; nothing was sent; make a new EventQueue.")

    def attend(self, due: float | None = None) -> None:
        """Do the chores of a queue that consumers of elk-mq 0.1 consume, also in ``due`` seconds."""
        assert self._verbs is not None
        beats = heart(self.endpoint, self.slot_key)
        if self._attendant is None:
            self._attendant = Attendant(self._verbs, float(self.options.lease))
            beats.add(self._attendant)
            beats.sooner(self._attendant, 0.0)
        if due is not None:
            beats.sooner(self._attendant, due)

    def met(self, found: Sequence[object]) -> None:
        """Who consumes read responses of clients of elk-mq 0.1; ``found`` is 1 for those that no client of ours wrote."""
        if 1 in found and not self._warned:
            self._warned = True
            log.warning(
                "a consumer of elk-mq 0.1 answers requests on the queue %s, from which this process consumes as well: both are "
                "handed each of its events; stop one of them, or set the queue to serve it (serve_elkmq01).",
                self.describe(),
            )

    def channel(self) -> Channel:
        """A connection for one consumer."""
        return Channel(self.endpoint, slot_key=self.slot_key)

    def waiter(self) -> Waiter:
        """A connection for blocking reads."""
        return Waiter(self.endpoint, slot_key=self.slot_key)

    async def close(self) -> None:
        """Hang up; the embedded server goes with its last user."""
        self._closed = True
        attendant, self._attendant = self._attendant, None
        if attendant is not None:
            heart(self.endpoint, self.slot_key).remove(attendant)
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(self.closing_until)
        server, self._server = self._server, None
        if server is not None:
            await in_thread(server.close)


async def counts(pool: Pool, endpoint: Endpoint) -> bool:
    """Whether the scripts have to count, because the server (before 7.0) does not count a stream's entries.

    Asked by HELLO (6.0), which needs no permission of its own and also tells servers that are too old.
    """
    key = endpoint.key
    if key not in _counting:
        found = await pool.run(command("HELLO", "2", parse=server_version, doing="ask for the server's version"))
        if found < (6,):
            raise ServerTooOld(
                f"the server {endpoint.describe()} is version {'.'.join(map(str, found))} and ElkMQ needs Redis 6.0; "
                "nothing was sent; upgrade it."
            )
        _counting[key] = found < (7,)
    return _counting[key]


def server_version(reply: Any) -> tuple[int, int]:
    """Read HELLO's reply: major and minor version; (6, 0), the first that has HELLO, where it does not say."""
    pairs = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=False))
    for name, value in pairs:
        if name == b"version" and (found := re.match(rb"(\d+)(?:\.(\d+))?", value)):
            return int(found[1]), int(found[2] or 0)
    return (6, 0)
