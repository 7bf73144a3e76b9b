"""Options of a connection, typed and validated, whether they stand in the url or are given as arguments. No I/O."""

from __future__ import annotations

import difflib
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from elkmq._core.url import ServerUrl
from elkmq.errors import InvalidOption
from elkmq.options import LONGEST, encodable


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to connect. Times are in seconds."""

    socket_timeout: float = 5.0
    """How long an answer may take before the connection counts as broken (half-open sockets never say so)."""
    socket_connect_timeout: float = 5.0
    """How long connecting may take, per address."""
    retry_for: float = 30.0
    """How long a broken connection is mended, unnoticed, before a call fails."""
    max_connections: int = 64
    """How many connections one pool opens; who needs one more waits."""
    client_name: str | None = None
    """Name of the connections in ``CLIENT LIST``; None: none."""
    credential_provider: Any = field(default=None, repr=False)
    """redis-py's ``CredentialProvider``, asked at each connect, such as one for IAM tokens."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    """Login at the Sentinels; None: they want none."""
    ssl_cert_reqs: str = "required"
    """How to verify the server's certificate: ``required``, ``optional`` or ``none``."""
    ssl_check_hostname: bool | None = None
    """Whether the certificate has to name the host; None: if it is verified at all."""
    ssl_ca_certs: str | None = None
    ssl_ca_path: str | None = None
    ssl_ca_data: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)
    ssl_min_version: ssl.TLSVersion | None = None
    """Lowest version of TLS, in the url ``TLSv1.2`` or ``TLSv1.3``; None: what Python allows."""
    ssl_ciphers: str | None = None

    @classmethod
    def read(cls, url: ServerUrl, given: Mapping[str, Any]) -> ConnectOptions:
        """Read the url's options, overridden by those given as arguments.

        :raises InvalidOption: an option is unknown, has a value that it cannot have, or contradicts another.
        """
        values: dict[str, Any] = {}
        for name, value in {**url.options, **given}.items():
            if name not in _READERS or (name == "credential_provider" and name not in given):
                _unknown(name, secret=name not in given)
            values[name] = _READERS[name](name, value)
        options = cls(**values)
        if not url.tls:
            pointless = sorted(name for name in values if name.startswith("ssl_"))
            if pointless:
                _wrong(pointless[0], "goes with rediss:// only")
        if url.kind != "sentinel" and (options.sentinel_username or options.sentinel_password):
            _wrong("sentinel_password", "goes with redis+sentinel:// only")
        if options.credential_provider is not None and (url.username or url.password):
            _wrong("credential_provider", "and a user or password in the url exclude each other")
        if options.ssl_keyfile and not options.ssl_certfile:
            _wrong("ssl_keyfile", "needs ssl_certfile")
        if options.ssl_check_hostname and options.ssl_cert_reqs == "none":
            _wrong("ssl_check_hostname", "needs a certificate that is verified, and ssl_cert_reqs is none")
        return options

    def tls_arguments(self) -> dict[str, Any]:
        """The arguments of redis-py's ``SSLConnection``; those that were not set are left out."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self) if f.name.startswith("ssl_")}
        if self.ssl_check_hostname is None:
            arguments["ssl_check_hostname"] = self.ssl_cert_reqs != "none"
        return {name: value for name, value in arguments.items() if value is not None}


def keepalive() -> dict[int, int]:
    """TCP options that find a peer gone on an idle connection in about a minute, as far as this system has them."""
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _wrong(name: str, why: str) -> NoReturn:
    raise InvalidOption(f"the option {name} {why}; nothing was sent; correct it.") from None


def _unknown(name: str, *, secret: bool) -> NoReturn:
    close = difflib.get_close_matches(name, _READERS, 1)
    hint = f"did you mean {close[0]}?" if close else "the options are " + ", ".join(sorted(_READERS)) + "."
    if secret:  # not quoted: with an unencoded '?' in the password this is a part of it
        raise InvalidOption(
            f"there is no option of that name in a url; nothing was sent; write a '?' in user or password as %3F; {hint}"
        )
    raise InvalidOption(f"there is no option {name}; nothing was sent; {hint}")


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        _wrong(name, "is not a number of seconds")
    if isinstance(value, bool) or not 0 <= seconds <= LONGEST or (seconds == 0 and name != "retry_for"):
        _wrong(name, "is not a positive number of seconds")
    return seconds


def _count(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        _wrong(name, "is not a whole number from 1 on")
    return value


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        _wrong(name, "is not text")
    if not value:
        _wrong(name, "is empty")
    if not encodable(value) or "\0" in value:
        _wrong(name, "has half a surrogate pair or a zero byte")
    return value


def _certificates(name: str, value: Any) -> str | None:
    text = _text(name, value)
    if text is not None and not text.isascii():
        _wrong(name, "is not certificates in PEM")
    return text


def _client_name(name: str, value: Any) -> str | None:
    text = _text(name, value)
    if text is not None and not all("!" <= letter <= "~" for letter in text):
        _wrong(name, "holds a space or a character that Redis does not take in a connection's name")
    return text


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in known:
        _wrong(name, "is neither true nor false")
    return known[value.lower()]


def _verify(name: str, value: Any) -> str:
    if value is None:
        return "none"
    text = value.name if isinstance(value, ssl.VerifyMode) else value
    text = text.lower().removeprefix("cert_") if isinstance(text, str) else ""
    if text not in ("required", "optional", "none"):
        _wrong(name, "is none of required, optional and none")
    return text


def _tls_version(name: str, value: Any) -> ssl.TLSVersion | None:
    if value is None or isinstance(value, ssl.TLSVersion):
        return value
    known = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
    if not isinstance(value, str) or value.lower() not in known:
        _wrong(name, "is neither TLSv1.2 nor TLSv1.3")
    return known[value.lower()]


def _as_it_is(name: str, value: Any) -> Any:
    if value is not None and not callable(getattr(value, "get_credentials", None)):
        _wrong(name, "has no method get_credentials; give an instance of redis-py's CredentialProvider")
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "retry_for": _seconds,
    "max_connections": _count,
    "client_name": _client_name,
    "credential_provider": _as_it_is,
    "sentinel_username": _text,
    "sentinel_password": _text,
    "ssl_cert_reqs": _verify,
    "ssl_check_hostname": _flag,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _certificates,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_min_version": _tls_version,
    "ssl_ciphers": _text,
}
