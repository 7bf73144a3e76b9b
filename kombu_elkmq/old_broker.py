"""The broker that messages come from: a server as a Kombu app on ``redis://`` names it, and a client of redis-py for it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import redis

from elkmq._core.recovery import FROM_BELOW
from elkmq._endpoint import Endpoint, _connection_class
from elkmq.errors import EventQueueError, InvalidOption, translate

FATE = "what was moved is on the new queues, the rest is where it was"

FORMS = "redis://, rediss://, redis+socket:// (or unix://) and sentinel://"


class OldBroker:
    """The server at a url of the stock transport.

    :param url: as in ``broker_url``; several Sentinels with ``;`` between them
    :param master_name: of ``sentinel://``, as in ``broker_transport_options``
    :raises InvalidOption: this makes no sense, or is nothing that messages can be taken from; no password is in the message
    """

    def __init__(self, url: str, master_name: str | None = None) -> None:
        try:
            self._endpoint = Endpoint.from_url(_as_ours(url, master_name))
        except InvalidOption as error:
            raise InvalidOption(f"--from: {error}") from None

    def connect(self) -> Any:
        """Return a client, once the server was reached.

        :raises EventQueueError: it was not, or refused the login
        """
        try:
            self._endpoint.connect().disconnect()
            address = self._endpoint._locate(None)
        except FROM_BELOW as error:
            raise self.failed(error) from error
        arguments = self._endpoint._arguments(address, True)
        # Something has to be asked at once: over TLS the session's tickets come first, and redis-py takes those for a left-over reply.
        arguments["client_name"] = arguments["client_name"] or "elkmq-migrate"
        pool = redis.ConnectionPool(
            connection_class=_connection_class(redis.connection, self._endpoint.url),
            socket_timeout=self._endpoint.options.socket_timeout,
            **arguments,
        )
        return redis.Redis(connection_pool=pool)

    def failed(self, error: Exception) -> EventQueueError:
        """What it means for the move that the server, or the connection to it, failed."""
        return translate(
            error, server=self._endpoint.describe(), doing="take messages off the old broker", fate=FATE, maybe_ran=True
        )


def _as_ours(url: str, master_name: str | None) -> str:
    first, *others = [each.strip() for each in url.split(";")]
    scheme, separator, rest = first.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix", "redis+socket", "sentinel"):
        raise InvalidOption(f"the url does not begin with one of {FORMS}; nothing was moved; correct it.")
    place, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "sentinel":
        if not master_name:
            raise InvalidOption(
                "a url of Sentinels needs the name of the service; nothing was moved; give it with --master-name."
            )
        options["service"] = master_name
        place = _with_hosts(place, others)
    elif others:
        raise InvalidOption(
            "the url names several servers; nothing was moved; name the one that has the messages (that of Sentinels: sentinel://)."
        )
    elif master_name:
        raise InvalidOption("--master-name goes with sentinel:// only; nothing was moved; leave it out.")
    if "virtual_host" in options:
        options["db"] = options.pop("virtual_host").strip("/")
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].removeprefix("CERT_").lower()
    ours = {"redis+socket": "unix", "sentinel": "redis+sentinel"}.get(scheme, scheme)
    return f"{ours}://{place}" + (f"?{urlencode(options)}" if options else "")


def _with_hosts(place: str, others: list[str]) -> str:
    """The place of the first url, with the hosts of the others: user, password and database are the first's, as for Kombu."""
    if not all(each.startswith("sentinel://") for each in others):
        raise InvalidOption("the urls are not all of Sentinels; nothing was moved; begin each with sentinel://.")
    first, slash, db = place.partition("/")
    more = [each.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[0] for each in others]
    return ",".join((first, *more)) + slash + db
