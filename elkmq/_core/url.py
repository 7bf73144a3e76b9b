"""Urls of servers: which ones make sense, what they say, and how to show one without its password. No I/O.

==========================================  =====================================================================
url                                         server
==========================================  =====================================================================
``redis://[user:password@]host[:port][/db]``    one Redis or Valkey (``valkey://`` is the same)
``rediss://...``                            the same over TLS, verified by default (``valkeys://`` is the same)
``unix://[user:password@]/path[?db=0]``     a unix socket
``redis+sentinel://h1:p1,h2:p2/db?service=NAME``  the primary that these Sentinels name (``rediss+`` for TLS)
``redis+cluster://h1:p1,h2:p2``             the node that owns the queue's slot (``rediss+`` for TLS)
==========================================  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from elkmq.errors import InvalidOption
from elkmq.options import encodable, path_of

Address = tuple[str, int]
"""Host and port; port 0 means that the host is the path of a unix socket."""

_SCHEMES = {
    "redis": ("single", False, 6379),
    "rediss": ("single", True, 6379),
    "valkey": ("single", False, 6379),
    "valkeys": ("single", True, 6379),
    "unix": ("unix", False, 0),
    "redis+sentinel": ("sentinel", False, 26379),
    "rediss+sentinel": ("sentinel", True, 26379),
    "redis+cluster": ("cluster", False, 6379),
    "rediss+cluster": ("cluster", True, 6379),
}
_SHAPE = "use the form redis://[user:password@]host[:port][/db]"
_ENCODE = "write special characters of user and password percent-encoded (@ is %40, / is %2F)"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A url, taken apart. ``options`` are its query options as text, except ``db``, ``service``, user and password."""

    kind: str
    """``single``, ``unix``, ``sentinel`` or ``cluster``."""
    tls: bool
    addresses: tuple[Address, ...]
    db: int = 0
    service: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    def describe(self) -> str:
        """The server in words, without secrets: ``127.0.0.1:6379/0``."""
        places = ",".join(show_address(address) for address in self.addresses)
        if self.kind == "sentinel":
            return f"{self.service} of sentinels {places}/{self.db}"
        if self.kind == "cluster":
            return f"cluster {places}"
        return f"{places}?db={self.db}" if self.kind == "unix" else f"{places}/{self.db}"


def show_address(address: Address) -> str:
    """``host:port``, an IPv6 host in brackets, or the path of a unix socket."""
    host, port = address
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(url: str) -> ServerUrl:
    """Take a url apart.

    :raises InvalidOption: it makes no sense. The message never quotes the part that can hold a password.
    """
    if not isinstance(url, str):
        raise InvalidOption(f"the url is a {type(url).__name__}, not text; nothing was sent; {_SHAPE}.")
    if not encodable(url):
        raise InvalidOption(f"the url has half a surrogate pair; nothing was sent; {_SHAPE}.")
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise InvalidOption(f"the url does not begin with one of {known}; nothing was sent; {_SHAPE}.")
    kind, tls, default_port = _SCHEMES[scheme.lower()]
    if "#" in rest:
        raise InvalidOption(f"the url holds a '#'; nothing was sent; {_ENCODE}.")
    rest, _, query = rest.partition("?")
    options = _query(query)
    username, password, rest = _userinfo(rest)
    if kind == "unix":
        if not rest.startswith("/") or rest == "/":
            raise InvalidOption(
                "the url names no path of a unix socket; nothing was sent; use the form unix:///run/redis.sock?db=0."
            )
        addresses: tuple[Address, ...] = ((path_of("the path of the url", unquote(rest)), 0),)
        path = ""
    else:
        hosts, _, path = rest.partition("/")
        addresses = tuple(_address(host, default_port) for host in hosts.split(","))
        if kind == "single" and len(addresses) > 1:
            raise InvalidOption(
                "the url names several hosts; nothing was sent; use redis+sentinel:// or redis+cluster:// for those."
            )
    db = _database(options.pop("db", "") or unquote(path).strip("/") or "0")
    service = options.pop("service", "")
    if kind == "sentinel" and not service:
        raise InvalidOption("the url of Sentinels names no service; nothing was sent; add ?service=NAME to it.")
    if kind != "sentinel" and service:
        raise InvalidOption("the url has the option service; nothing was sent; it goes with redis+sentinel:// only.")
    if kind == "cluster" and db:
        raise InvalidOption(f"the url asks for database {db}; nothing was sent; a cluster has only database 0.")
    username = options.pop("username", "") or username
    password = options.pop("password", "") or password
    return ServerUrl(kind, tls, addresses, db, service, username, password, options)


def sanitised(url: str) -> str:
    """The server of a url in words, with no password, whatever the url looks like."""
    try:
        return parse_url(url).describe()
    except InvalidOption:
        return "the server of a malformed url"


def _userinfo(rest: str) -> tuple[str | None, str | None, str]:
    userinfo, at, rest_after = rest.rpartition("@")
    if not at:
        return None, None, rest
    if "/" in userinfo or "@" in userinfo:
        raise InvalidOption(f"user or password of the url hold a '/' or '@'; nothing was sent; {_ENCODE}.")
    username, _, password = userinfo.partition(":")
    return unquote(username) or None, unquote(password) or None, rest_after


def _address(text: str, default_port: int) -> Address:
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise InvalidOption("the IPv6 address of the url is malformed; nothing was sent; write it as [::1]:6379.")
        port = after[1:]
    else:
        host, _, port = text.partition(":")
    host = unquote(host) or "localhost"
    if not _can_be_a_host(host):
        raise InvalidOption(f"the host of the url cannot be a host's name; nothing was sent; {_SHAPE}.")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and len(port) < 10 and 0 < int(port) < 65536):
        # Not quoted: with an unencoded '/' in the password this is a part of it.
        raise InvalidOption(f"the port of the url is not a number from 1 to 65535; nothing was sent; {_ENCODE}.")
    return host, int(port)


def _can_be_a_host(host: str) -> bool:
    if any(letter.isspace() or not letter.isprintable() or letter in "\\<>^`{|}\"'" for letter in host):
        return False
    try:
        host.encode("idna")  # as Python does to look it up: labels of 1 to 63 bytes
    except UnicodeError:
        return ":" in host
    return True


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidOption(f"the database of the url is not a number; nothing was sent; {_SHAPE}, such as .../0.")
    return int(text)


def _query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise InvalidOption(
            "the options of the url are malformed; nothing was sent; write them as ?name=value&name=value."
        ) from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise InvalidOption("the url gives an option twice; nothing was sent; give it once.")
    return dict(pairs)
