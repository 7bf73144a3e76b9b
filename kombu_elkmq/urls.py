"""From what Kombu made of a url to our `Endpoint`, and back to a url that can be shown.

Kombu keeps the url whole for us. It is taken apart when the transport is made, since Celery shows the parts of a
connection (`celery inspect stats`) with only the part called password left out.
"""

from __future__ import annotations

import itertools
import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from elkmq._endpoint import Endpoint
from elkmq.errors import InvalidOption
from kombu_elkmq.options import TransportOptions

_FORMS = {
    "elkmq": "redis", "elkmqs": "rediss", "elkmq+socket": "unix", "elkmq+unix": "unix",
    "elkmq+sentinel": "redis+sentinel", "elkmqs+sentinel": "rediss+sentinel",
    "elkmq+cluster": "redis+cluster", "elkmqs+cluster": "rediss+cluster",
}  # fmt: skip
_REDIS_URL = re.compile(r"\bredis(s?)((?:\+[a-z]+)?://)")
"""In what the library says of urls."""


def take_apart(client: Any) -> None:
    """Put the parts of a Kombu connection's url where Kombu keeps them.

    :raises InvalidOption: the url makes no sense; no password is in the message
    """
    _clean_alternates(client)
    hostname = str(client.hostname or "")
    if "://" not in hostname:
        return
    scheme, _, rest = hostname.partition("://")
    prefix = getattr(client, "uri_prefix", None)
    if prefix and not scheme.startswith("elkmq"):
        scheme = f"{prefix}+{scheme}"
    if scheme not in _FORMS:
        raise InvalidOption(
            f"the scheme {scheme!r} is not one of {', '.join(_FORMS)}; nothing was sent; use one of them."
        )
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    userinfo, at, place = rest.rpartition("@")
    if at:
        name, _, password = userinfo.partition(":")
        client.userid = client.userid or unquote(name) or None
        client.password = client.password or unquote(password) or None
    client.userid = options.pop("username", None) or client.userid
    client.password = options.pop("password", None) or client.password
    if "db" in options:
        client.virtual_host = options.pop("db")
    service = options.pop("service", None)
    client.transport_options = {**options, **({"master_name": service} if service else {}), **client.transport_options}
    if _FORMS[scheme] in ("redis", "rediss"):
        hosts, _, path = place.partition("/")
        if path:
            client.virtual_host = unquote(path)
        client.hostname, client.port = _host_and_port(hosts, client.port)
        client.uri_prefix = None
        if scheme.startswith("elkmqs") and not client.ssl:
            client.ssl = True
    else:
        if _FORMS[scheme] != "unix":
            place, _, path = place.partition("/")
            if path:
                client.virtual_host = unquote(path)
        client.hostname = f"{scheme.partition('+')[2]}://{place}"
        client.uri_prefix = scheme.partition("+")[0]


def _host_and_port(text: str, port: Any) -> tuple[str, Any]:
    if "," in text:
        raise InvalidOption(
            "the url names several hosts; nothing was sent; separate urls with ';', or use elkmq+sentinel:// for Sentinels."
        )
    host, bracket, after = text[1:].partition("]") if text.startswith("[") else ("", "", "")
    if not bracket:
        host, colon, after = text.partition(":")
        after = colon + after
    found = after.removeprefix(":")
    if found:
        if not (found.isascii() and found.isdigit()):
            raise InvalidOption(
                "the port of the url is not a number from 1 to 65535; nothing was sent; write special characters of user and "
                "password percent-encoded (@ is %40, / is %2F)."
            )
        port = int(found)
    return unquote(host) or "localhost", port


def endpoint_of(client: Any, *, tls: bool) -> tuple[Endpoint, TransportOptions]:
    """Read a Kombu connection's parts and options.

    :raises InvalidOption: something makes no sense; no password is in the message
    """
    url, typed, options = address_of(client, tls=tls)
    try:
        return Endpoint.from_url(url, **typed), options
    except InvalidOption as error:
        raise InvalidOption(_REDIS_URL.sub(r"elkmq\1\2", str(error))) from None


def address_of(client: Any, *, tls: bool) -> tuple[str, dict[str, Any], TransportOptions]:
    """The same as a url (with the password), what cannot stand in a url, and the options.

    :raises InvalidOption: something makes no sense; no password is in the message
    """
    form, place, db = _form(client, tls=tls)
    given = {**client.transport_options, **_of_ssl(client)}
    query = {name: value for name, value in given.items() if isinstance(value, str)}
    options = TransportOptions.load(given)
    connect = {name: value for name, value in options.connect.items() if value is not None}
    provider = getattr(client, "credential_provider", None)
    if provider is not None:
        connect.setdefault("credential_provider", provider)
    text = {name: value for name, value in connect.items() if name in query}
    typed = {name: value for name, value in connect.items() if name not in text}
    if form.endswith("sentinel") and options.master_name:
        text["service"] = options.master_name
    elif options.master_name:
        raise InvalidOption(
            "transport option 'master_name' (in the url: service) is for Sentinels, and the url names a server; nothing was started; use "
            "elkmq+sentinel://, or leave the option out."
        )
    if form == "unix" and db:
        text["db"] = db
    extra = "&".join(f"{name}={quote(value, safe='')}" for name, value in text.items())
    path = f"/{db}" if db and form != "unix" else ""
    url = f"{form}://{_userinfo(client)}{place}{path}" + (f"?{extra}" if extra else "")
    return url, typed, options


def _form(client: Any, *, tls: bool) -> tuple[str, str, str]:
    """Our scheme, the place, the database."""
    hostname, db = str(client.hostname or ""), str(client.virtual_host or "").strip("/")
    if "://" in hostname:
        kind, _, place = hostname.partition("://")
        form = _FORMS.get(f"elkmq+{kind}", "redis+sentinel")
        if form == "unix":
            return form, "/" + quote(unquote(place).lstrip("/")), db
    else:
        form, place = "redis", f"[{hostname}]" if ":" in hostname else quote(hostname or "localhost", safe="")
        if client.port:
            place += f":{client.port}"
    if tls or client.ssl:
        form = form.replace("redis", "rediss", 1)
    return form, place, db


def _userinfo(client: Any) -> str:
    password = client.password() if callable(client.password) else client.password
    if not client.userid and not password:
        return ""
    return f"{quote(client.userid or '', safe='')}:{quote(password or '', safe='')}@"


def _of_ssl(client: Any) -> dict[str, Any]:
    """Celery's ``broker_use_ssl`` as our options: the names are those of redis-py, as ``redis://`` has them."""
    if not isinstance(client.ssl, dict):
        return {}
    names: dict[str, str] = {
        "keyfile": "ssl_keyfile",
        "certfile": "ssl_certfile",
        "ca_certs": "ssl_ca_certs",
        "cert_reqs": "ssl_cert_reqs",
    }
    found: dict[str, Any] = {names.get(str(name), str(name)): value for name, value in client.ssl.items()}
    required = found.get("ssl_cert_reqs")
    if required is not None and not isinstance(required, str):
        found["ssl_cert_reqs"] = {0: "none", 1: "optional"}.get(int(required), "required")
    elif required is not None:
        found["ssl_cert_reqs"] = required.removeprefix("CERT_").lower()
    return found


def as_uri(client: Any, *, include_password: bool = False, mask: str = "**") -> str:
    """The url of a connection that was taken apart."""
    hostname = str(client.hostname or "localhost")
    kind, _, place = hostname.partition("://")
    scheme = "elkmqs" if client.ssl or str(client.transport_cls).startswith("elkmqs") else "elkmq"
    if place:
        scheme += f"+{kind}"
    else:
        place = f"[{hostname}]" if ":" in hostname else hostname
        place += f":{client.port}" if client.port else ""
    userinfo = ""
    if client.userid or client.password:
        password = client.password() if callable(client.password) else client.password
        shown = quote(password or "", safe="") if include_password else mask
        userinfo = f"{quote(client.userid or '', safe='')}:{shown if password else ''}@"
    db = str(client.virtual_host or "").strip("/")
    if kind in ("socket", "unix"):
        return f"{scheme}://{userinfo}{place}" + (f"?db={db}" if db else "")
    return f"{scheme}://{userinfo}{place}/{db}"


def _clean_alternates(client: Any) -> None:
    """Kombu cannot take an alternate url with a query; all alternates share the options of the first anyway."""
    alternates = getattr(client, "alt", None)
    if not alternates or not any("?" in alternate for alternate in alternates):
        return
    client.alt = [alternate.partition("?")[0] for alternate in alternates]
    client.cycle = itertools.cycle(client.alt)
    next(client.cycle)
