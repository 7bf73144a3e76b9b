"""Where a server is and how to get a raw connection of redis-py to it, sync or asyncio.

redis-py does what belongs to a connection: addresses, TLS, login, parsing. What belongs to a call (retries, timeouts,
pipelining) is done by the drivers, so its own retries, health checks and ``CLIENT SETINFO`` are switched off.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import select
from collections.abc import Callable, Generator, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from redis import connection as sync_connections
from redis.asyncio import connection as async_connections
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from elkmq import embedded
from elkmq._core import discovery
from elkmq._core.connecting import ConnectOptions, keepalive
from elkmq._core.url import Address, ServerUrl, parse_url
from elkmq.errors import InvalidOption

T = TypeVar("T")

Raw = Any
"""A connection of redis-py. Its classes have no common type over the supported releases and both flavours."""


def receive(raw: Raw) -> Any:
    """Read the next reply from a sync connection.

    What redis-py's own ``read_response`` adds (the peer's name for errors, hanging up) its caller does, where it is needed.

    Raises: What redis-py and the socket raise.
    """
    reply = raw._parser.read_response()
    if isinstance(reply, ResponseError):
        raise reply
    return reply


def poller(descriptor: int) -> Callable[[int], object]:
    """What tells, given 0, whether there may be something to read at a socket, its end included.

    Where the system, or what was put in its place (eventlet), has no ``poll``, it says that there may be.
    """
    if descriptor < 0 or not hasattr(select, "poll"):
        return lambda _: True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


class Endpoint:
    """One server, Sentinel service or cluster, with the login and the options to connect to it. Immutable, thread-safe.

    ::

        endpoint = Endpoint.from_url("rediss://worker:secret@redis.example:6380/0", socket_timeout=2)
        connection = endpoint.connect()
    """

    def __init__(self, url: ServerUrl, options: ConnectOptions) -> None:
        """From a url that was taken apart; use `from_url`."""
        self.url = url
        self.options = options
        self.cluster = url.kind == "cluster"
        """Whether keys are spread over slots, so that a queue's name goes in braces and a connection needs its key."""
        self._nodes: tuple[Address, ...] = ()  # of a cluster, as last seen

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Endpoint:
        """Read a url; see `elkmq._core.url` for its forms and `ConnectOptions` for the options.

        :param options: the same as in the url's query, as Python values, and stronger than those; besides
            ``credential_provider``, which only fits here
        :raises InvalidOption: url or options make no sense; the message shows no password
        """
        parsed = parse_url(url)
        found = ConnectOptions.read(parsed, options)
        for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
            path = getattr(found, name)
            if path is not None and not Path(path).exists():
                # Where it is opened, that would be taken for a server that cannot be reached.
                raise InvalidOption(
                    f"the option {name} names nothing that is there; nothing was sent; correct the path."
                )
        return cls(parsed, found)

    def hurried(self, seconds: float) -> Endpoint:
        """The same server, for whom connecting and answers may take so many seconds at most."""
        options = replace(
            self.options,
            socket_timeout=min(self.options.socket_timeout, seconds),
            socket_connect_timeout=min(self.options.socket_connect_timeout, seconds),
        )
        return Endpoint(self.url, options)

    def describe(self) -> str:
        """The server in words, for messages and logs: ``127.0.0.1:6379/0``. Shows no user and no password."""
        return self.url.describe()

    def __repr__(self) -> str:
        return f"<Endpoint {self.describe()}>"

    @functools.cached_property
    def key(self) -> Hashable:
        """The same for endpoints that reach the same server with the same rights, so that they can share connections."""
        secrets = repr((self.url.password, self.options.sentinel_password, self.options.ssl_password)).encode()
        url, options = self.url, self.options
        return (
            url.kind, url.tls, url.addresses, url.db, url.service, url.username, hashlib.sha256(secrets).hexdigest(),
            options.client_name, options.sentinel_username, id(options.credential_provider),
            tuple(sorted((name, value) for name, value in options.tls_arguments().items() if name != "ssl_password")),
        )  # fmt: skip

    def connect(self, slot_key: bytes | None = None) -> Raw:
        """Return a connected, logged-in ``redis.Connection``.

        :param slot_key: on a cluster, a key whose slot's owner to connect to; without effect elsewhere
        :raises redis.exceptions.RedisError: it cannot be reached, or refuses the login
        """
        address = self._locate(slot_key)
        try:
            raw = self._sync(address)
        except RedisConnectionError:
            if self.url.kind != "unix" or not embedded.revive(address[0]):
                raise
            raw = self._sync(address)
        try:
            if self.url.kind == "sentinel":
                raw.send_command("ROLE", check_health=False)
                _check_primary(raw.read_response())
        except BaseException:
            raw.disconnect()
            raise
        return raw

    async def aconnect(self, slot_key: bytes | None = None) -> Raw:
        """Return a connected, logged-in ``redis.asyncio.Connection``; otherwise as `connect`.

        Its reads have no time limit, since the driver has one watchdog for all of them.
        """
        address = await self._alocate(slot_key)
        try:
            raw = await self._async(address)
        except RedisConnectionError:
            if self.url.kind != "unix" or not await asyncio.to_thread(embedded.revive, address[0]):
                raise
            raw = await self._async(address)
        try:
            if self.url.kind == "sentinel":
                _check_primary(await self._ask_async(raw, ("ROLE",)))
        except BaseException:
            await raw.disconnect(nowait=True)
            raise
        return raw

    # -- which server

    def _locate(self, slot_key: bytes | None) -> Address:
        search = self._search(slot_key)
        return self._ask(search) if search is not None else self.url.addresses[0]

    def slots(self) -> discovery.SlotMap:
        """Ask a cluster which node owns which slot.

        :raises redis.exceptions.RedisError: no node answers
        """
        return self._ask(discovery.read_slots(self._seen()))

    def _ask(self, search: Generator[discovery.Question, Any, T]) -> T:
        """Ask the servers what a search wants to know; returns what it found."""
        try:
            question = next(search)
            while True:
                try:
                    raw = self._sync(question.address, data=self.cluster)
                    try:
                        raw.send_command(*question.command, check_health=False)
                        reply = raw.read_response()
                    finally:
                        raw.disconnect()
                except RedisError as error:
                    question = search.throw(error)
                else:
                    self._learn(reply)
                    question = search.send(reply)
        except StopIteration as found:
            return found.value  # type: ignore[no-any-return]

    def _seen(self) -> dict[Address, None]:
        # The nodes seen last come after the given ones, for the day when none of those is left.
        return dict.fromkeys(self.url.addresses + self._nodes)

    async def _alocate(self, slot_key: bytes | None) -> Address:
        search = self._search(slot_key)
        if search is None:
            return self.url.addresses[0]
        try:
            question = next(search)
            while True:
                try:
                    raw = await self._async(question.address, data=self.cluster)
                    try:
                        reply = await self._ask_async(raw, question.command)
                    finally:
                        await raw.disconnect(nowait=True)
                except RedisError as error:
                    question = search.throw(error)
                else:
                    self._learn(reply)
                    question = search.send(reply)
        except StopIteration as found:
            return found.value  # type: ignore[no-any-return]

    def _search(self, slot_key: bytes | None) -> discovery.Search | None:
        if self.url.kind == "sentinel":
            return discovery.find_primary(self.url.addresses, self.url.service)
        if self.cluster:
            return discovery.find_slot_owner(self._seen(), slot_key)
        return None

    def _learn(self, reply: Any) -> None:
        if self.cluster:
            self._nodes = discovery.owners(reply)

    async def _ask_async(self, raw: Raw, command: tuple[str, ...]) -> Any:
        async def ask() -> Any:
            await raw.send_command(*command, check_health=False)
            return await raw.read_response()

        return await _in_time(ask(), self.options.socket_timeout)

    # -- raw connections

    def _sync(self, address: Address, *, data: bool = True) -> Raw:
        raw = _connection_class(sync_connections, self.url)(
            **self._arguments(address, data), socket_timeout=self.options.socket_timeout, retry=Retry(NoBackoff(), 0)
        )
        raw.connect()
        return raw

    async def _async(self, address: Address, *, data: bool = True) -> Raw:
        arguments = self._arguments(address, data)
        if self.url.tls:
            _check_supported(arguments)
        raw = _connection_class(async_connections, self.url)(
            **arguments, socket_timeout=None, retry=AsyncRetry(NoBackoff(), 0)
        )
        try:
            # Connecting has a limit of its own; this one is for a server that accepts and then says nothing.
            await _in_time(raw.connect(), self.options.socket_connect_timeout + self.options.socket_timeout)
        except BaseException:
            await raw.disconnect(nowait=True)
            raise
        return raw

    def _arguments(self, address: Address, data: bool) -> dict[str, Any]:
        """What redis-py's connections take; ``data`` is False for a Sentinel, which has its own login and no db."""
        url, options = self.url, self.options
        arguments: dict[str, Any] = {
            "socket_connect_timeout": options.socket_connect_timeout,
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
            "client_name": options.client_name,
            **_quiet(),
        }
        if data:
            # As text: hiredis brings the process down if a signal handler raises while it writes out a number.
            arguments |= {"db": str(url.db) if url.db else 0, "username": url.username, "password": url.password}
            arguments["credential_provider"] = options.credential_provider
        else:
            arguments |= {"username": options.sentinel_username, "password": options.sentinel_password}
        if url.kind == "unix":
            return arguments | {"path": address[0]}
        if url.tls:
            arguments |= options.tls_arguments()
        host, port = address
        return arguments | {
            "host": host, "port": port, "socket_keepalive": True, "socket_keepalive_options": keepalive(),
        }  # fmt: skip


async def _in_time(coroutine: Any, seconds: float) -> Any:
    try:
        return await asyncio.wait_for(coroutine, seconds)
    except asyncio.TimeoutError:
        raise RedisTimeoutError("Timeout reading from server while connecting") from None


def _check_primary(role: Any) -> None:
    if not role or role[0] != b"master":
        # A Sentinel has not noticed yet, or an old primary came back as one and is about to learn better.
        raise ReadOnlyError("the server that Sentinel names is no primary")


def _connection_class(flavour: Any, url: ServerUrl) -> Any:
    if url.kind == "unix":
        return flavour.UnixDomainSocketConnection
    return flavour.SSLConnection if url.tls else flavour.Connection


def _check_supported(arguments: dict[str, Any]) -> None:
    """redis-py's asyncio connections learnt some options of TLS later than the sync ones."""
    known = inspect.signature(async_connections.SSLConnection.__init__).parameters
    for name in arguments:
        if name.startswith("ssl_") and name not in known:
            raise InvalidOption(
                f"redis-py of this release does not know the option {name} in asyncio; nothing was sent; "
                "leave it out or install a newer redis-py."
            )


@functools.cache
def _quiet() -> dict[str, Any]:
    """The arguments that keep redis-py from sending ``CLIENT SETINFO``: one command less in every ACL."""
    known = inspect.signature(sync_connections.AbstractConnection.__init__).parameters
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
