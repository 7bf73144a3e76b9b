"""What a user may write into broker_transport_options, and what is said to one who errs."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from elkmq.errors import InvalidOption
from kombu_elkmq import options as module
from kombu_elkmq.options import LegacyOptionWarning, TransportOptions


def load(**options: Any) -> TransportOptions:
    return TransportOptions.load(options)


def test_defaults() -> None:
    assert load() == TransportOptions()
    assert TransportOptions().lease == 30


def test_the_query_is_text_and_options_win_over_it() -> None:
    found = TransportOptions.load(
        {"lease": 12.5}, {"lease": "60", "fetch_limit": "10", "eta_in_broker": "no", "socket_timeout": "3"}
    )
    assert (found.lease, found.fetch_limit, found.eta_in_broker) == (12.5, 10, False)
    assert found.connect == {"socket_timeout": "3"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leese": 1}, "no transport option 'leese'.*'lease' is probably meant"),
        ({"global_key_prefix": "x"}, "'global_keyprefix' is probably meant"),
        ({"socket_timeot": 1}, "'socket_timeout' is probably meant"),
        ({"zzz": 1}, "the options are: .*delivery_limit.*lease"),
        ({"lease": "soon"}, "'lease' is 'soon'.*seconds, above 0"),
        ({"lease": -1}, "'lease' is -1"),
        ({"lease": float("nan")}, "'lease' is nan"),
        ({"lease": float("inf")}, "'lease' is inf"),
        ({"lease": True}, "'lease' is True"),
        ({"lease": 0.5}, "at least 1 second"),
        ({"retry_for": 3}, "no transport option 'retry_for'"),
        ({"redeclare": "perhaps"}, "'refuse' or 'keep'"),
        ({"fetch_limit": 0}, "above 0"),
        ({"fetch_limit": 1.5}, "'fetch_limit' is 1.5"),
        ({"max_priority": 256}, "0 to 255"),
        ({"eta_in_broker": "maybe"}, "true or false"),
        ({"global_keyprefix": 7}, "text"),
        ({"unroutable_queue": "a{b}"}, "'unroutable_queue' is 'a{b}'.*a name that a queue can have"),
        ({"unroutable_queue": ""}, "'unroutable_queue' is ''"),
        ({"queue_order_strategy": "random"}, "round_robin"),
        ({"sentinel_kwargs": 1}, "mapping"),
        ({"sentinel_kwargs": {"ssl": True}}, "'ssl'"),
    ],
)
def test_a_mistake_is_named_with_what_is_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"(?s){message}") as caught:
        TransportOptions.load(options)
    assert "nothing was started" in str(caught.value)


def test_every_option_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "celery.md").read_text("utf-8")
    table = page.partition("## Options")[2].partition("## What is different")[0]
    listed = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    )
    assert listed == {*module._TABLE, *module._OF_CONNECTIONS}


def test_a_password_is_not_shown() -> None:
    found = load(sentinel_kwargs={"username": "u", "password": "hush"}, ssl_password="hush2")
    assert found.connect == {"sentinel_username": "u", "sentinel_password": "hush", "ssl_password": "hush2"}
    assert "hush" not in repr(found)


def test_what_kombu_puts_there_itself_is_accepted() -> None:
    assert load(max_retries=3, interval_start=0, interval_step=0.2, interval_max=0.2, retry_errors=None) == load()
    assert load(confirm_publish=True, errback=print) == load()


def test_options_of_redis_are_accepted_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_warned", set())
    old = {"visibility_timeout": 3600, "fanout_patterns": True, "priority_steps": [0, 5], "deadletter_queue": "rest"}
    with pytest.warns(LegacyOptionWarning) as caught:
        found = TransportOptions.load({**old, "global_keyprefix": "app:"})
    assert len(caught) == 1
    text = str(caught[0].message)
    assert all(repr(name) in text for name in old)
    assert "'lease', in seconds" in text
    assert "priority_lowest_first" in text
    assert (found.global_keyprefix, found.unroutable_queue) == ("app:", "rest")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TransportOptions.load(old)


def test_the_schemes_are_known_after_an_import_and_redis_is_not_loaded() -> None:
    program = (
        "import sys, kombu_elkmq; from kombu.transport import TRANSPORT_ALIASES as known\n"
        "assert set(kombu_elkmq.SCHEMES) <= set(known), known\n"
        "assert 'redis' not in sys.modules\n"
        "kombu_elkmq.register()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", ["password", "username", "port", "db"])
def test_what_belongs_into_the_url_is_said_to(name: str) -> None:
    with pytest.raises(InvalidOption, match="write it in the url, elkmq://"):
        load(**{name: "x"})


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("elkmq://localhost/0", {"sentinel_password": "x"}, r"goes with elkmq\+sentinel:// only"),
        ("elkmq://localhost/0", {"ssl_ca_certs": "/x"}, "goes with elkmqs:// only"),
        ("elkmq://localhost/0", {"master_name": "x"}, r"use elkmq\+sentinel://"),
        ("elkmq://localhost/0?service=x", {}, r"use elkmq\+sentinel://"),
        ("elkmq://localhost/x", {}, "elkmq://"),
        ("elkmq://localhost:99999/0", {}, "the port of the url"),
    ],
)
def test_errors_speak_of_the_url_that_was_written(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says) as error:
        Connection(url, transport_options=options).connect()
    assert "redis" not in str(error.value)
