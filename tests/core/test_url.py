"""Urls and options of connections: what they mean, and what a malformed one is told without its password."""

from __future__ import annotations

import ssl
import traceback

import pytest

from elkmq._core.connecting import ConnectOptions
from elkmq._core.url import parse_url, sanitised
from elkmq._endpoint import Endpoint
from elkmq.errors import InvalidOption


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "localhost:6379/0"),
        ("redis://example", "example:6379/0"),
        ("valkey://example:1/2", "example:1/2"),
        ("redis://user:secret@example:7000/3?socket_timeout=2", "example:7000/3"),
        ("redis://:secret@example?db=4", "example:6379/4"),
        ("REDIS://example", "example:6379/0"),
        ("redis://[::1]:6380/1", "[::1]:6380/1"),
        ("redis://[fe80::1]", "[fe80::1]:6379/0"),
        ("unix:///run/redis.sock", "/run/redis.sock?db=0"),
        ("unix://user:secret@/run/my%20redis.sock?db=2", "/run/my redis.sock?db=2"),
        ("redis+sentinel://a,b:2,[::1]:3/5?service=mymaster", "mymaster of sentinels a:26379,b:2,[::1]:3/5"),
        ("redis+cluster://:secret@a:1,b", "cluster a:1,b:6379"),
    ],
)
def test_urls_that_make_sense(url, shown):
    assert parse_url(url).describe() == sanitised(url) == shown
    assert "secret" not in repr(parse_url(url)) + repr(Endpoint.from_url(url)) + repr(Endpoint.from_url(url).key)


def test_user_and_password_are_percent_decoded():
    url = parse_url("redis://a%40b:p%2Fw%3A%23%25@example")
    assert (url.username, url.password) == ("a@b", "p/w:#%")
    url = parse_url("redis://example?username=u&password=p%20w")
    assert (url.username, url.password) == ("u", "p w")
    assert parse_url("redis://:p:q@example").password == "p:q"


def test_tls_is_verified_unless_told_otherwise():
    for url in ("rediss://example", "valkeys://example", "rediss+cluster://example", "rediss+sentinel://a?service=s"):
        arguments = Endpoint.from_url(url).options.tls_arguments()
        assert arguments == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    off = Endpoint.from_url("rediss://example?ssl_cert_reqs=none").options.tls_arguments()
    assert off == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "does not begin with one of"),
        ("localhost:6379", "does not begin with one of"),
        ("http://:hunter2@example", "does not begin with one of"),
        (None, "is a NoneType, not text"),
        (b"redis://example", "is a bytes, not text"),
        ("redis://example:notaport", "port"),
        ("redis://example:0", "port"),
        ("redis://example:65536", "port"),
        ("redis://example:²", "port"),
        ("redis://:hun/ter2@example", "'/' or '@'"),
        ("redis://:hun@ter2@example", "'/' or '@'"),
        ("redis://:hunter#2@example", "'#'"),
        ("redis://:hunter?2@example", "malformed"),
        ("redis://exa mple", "host"),
        ("redis://[::1", "IPv6"),
        ("redis://[::1]x", "IPv6"),
        ("redis://example/x", "database"),
        ("redis://example/-1", "database"),
        ("redis://example/1/2", "database"),
        ("redis://a,b", "several hosts"),
        ("redis://example?service=x", "redis\\+sentinel"),
        ("redis+sentinel://example", "service"),
        ("redis+cluster://example/1", "only database 0"),
        ("unix://", "no path"),
        ("unix://relative/path", "no path"),
        ("redis://example?x", "malformed"),
        ("redis://example?socket_timeout=1&socket_timeout=2", "twice"),
        ("redis://example?sockettimeout=1", "did you mean socket_timeout"),
        ("redis://example?credential_provider=x", "there is no option"),
        ("redis://example?socket_timeout=soon", "not a number of seconds"),
        ("redis://example?socket_timeout=0", "positive"),
        ("redis://example?socket_timeout=nan", "positive"),
        ("redis://example?retry_for=-1", "positive"),
        ("redis://example?max_connections=0", "whole number from 1"),
        ("redis://example?max_connections=1.5", "whole number"),
        ("redis://example?client_name=a%20b", "space"),
        ("redis://example?ssl_ca_certs=x", "rediss"),
        ("rediss://example?ssl_cert_reqs=maybe", "none of required"),
        ("rediss://example?ssl_check_hostname=maybe", "neither true nor false"),
        ("rediss://example?ssl_cert_reqs=none&ssl_check_hostname=true", "needs a certificate"),
        ("rediss://example?ssl_min_version=SSLv3", "TLSv1.2"),
        ("rediss://example?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs names nothing"),
        ("rediss://example?ssl_certfile=/nowhere/own.pem", "ssl_certfile names nothing"),
        ("redis://example?sentinel_password=hunter2", "redis\\+sentinel"),
    ],
)
def test_urls_that_make_no_sense(url, words):
    with pytest.raises(InvalidOption, match=words) as caught:
        Endpoint.from_url(url)
    message = str(caught.value)
    assert "nothing was sent" in message
    assert "hunter" not in message
    assert "ter2" not in message
    assert "hun" not in sanitised(url)


def test_arguments_are_stronger_than_the_urls_options():
    endpoint = Endpoint.from_url("redis://example?socket_timeout=1&retry_for=2", socket_timeout=3)
    assert (endpoint.options.socket_timeout, endpoint.options.retry_for) == (3, 2)
    assert Endpoint.from_url("redis://example").options == ConnectOptions()


def test_arguments_may_be_python_values():
    endpoint = Endpoint.from_url(
        "rediss://example",
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
        ssl_min_version=ssl.TLSVersion.TLSv1_3,
        ssl_check_hostname=True,
    )
    assert endpoint.options.ssl_cert_reqs == "optional"
    assert endpoint.options.ssl_min_version is ssl.TLSVersion.TLSv1_3
    assert Endpoint.from_url("rediss://example", ssl_cert_reqs=None).options.ssl_cert_reqs == "none"
    assert Endpoint.from_url("rediss://example", ssl_cert_reqs="CERT_REQUIRED").options.ssl_cert_reqs == "required"


@pytest.mark.parametrize("options", [{"socket_timeout": True}, {"max_connections": True}, {"client_name": 1},
                                     {"credential_provider": object()}, {"nonsense": 1}])  # fmt: skip
def test_arguments_that_make_no_sense(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        Endpoint.from_url("redis://example", **options)


def test_endpoints_of_the_same_rights_at_the_same_server_share_a_key():
    def key(url, **options):
        return Endpoint.from_url(url, **options).key

    assert key("redis://a/0") == key("valkey://a:6379")
    assert key("redis://a", socket_timeout=1) == key("redis://a", socket_timeout=2)
    different = [
        key("redis://a"), key("redis://b"), key("redis://a:1"), key("redis://a/1"), key("rediss://a"), key("redis://u@a"),
        key("redis://:p@a"), key("redis://:q@a"), key("redis+cluster://a"), key("rediss://a?ssl_cert_reqs=none"),
        key("unix:///a"), key("redis://a?client_name=x"),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("tail", ["", "=x", "=1&b=2"])
@pytest.mark.parametrize("mark", ["?", "#", "/", "@", "?a=", "?db=", "&x=", "?retry_fo=", "?x=1&x="])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster", "unix"])
def test_no_part_of_a_password_that_is_not_encoded_is_shown(scheme, mark, tail):
    url = f"{scheme}://user:hunter{mark}secret2{tail}@example/0"
    try:
        shown = Endpoint.from_url(url).describe()
    except InvalidOption as error:
        shown = "".join(traceback.format_exception(error))
    assert "hunter" not in shown
    assert "secret2" not in shown


def test_a_password_that_looks_like_a_port_and_an_option_is_not_shown():
    url = "redis://user:6379?secret2=x@example/0"
    with pytest.raises(InvalidOption) as caught:
        Endpoint.from_url(url)
    assert "%3F" in str(caught.value)
    assert "secret2" not in "".join(traceback.format_exception(caught.value))
