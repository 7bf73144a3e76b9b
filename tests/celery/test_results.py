"""``elkmq://`` as a result backend: what it does otherwise than Celery's for Redis, which it is for all else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery, states
from celery._state import _set_task_join_will_block
from celery.exceptions import ImproperlyConfigured
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult

from tests.servers import Server
from tests.waiting import Program, eventually


@pytest.fixture
def backend(make_server: Callable[..., Server], closing: ExitStack) -> Any:
    """One on a server of its own, with what Celery's Redis backend reads there as ``celery_s``."""
    url = make_server().url
    found = app_with(url.replace("redis", "elkmq", 1), closing).backend
    found.celery_s = app_with(url, closing).backend
    return found


def app_with(url: str, closing: ExitStack, **conf: Any) -> Celery:
    app = Celery("results", backend=url, set_as_current=False)
    app.conf.update({"result_expires": 60, **conf})
    closing.callback(app.close)
    return app


def commands(backend: Any) -> dict[str, int]:
    stats = backend.client.info("commandstats")
    found = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
    return {name: calls for name, calls in found.items() if not name.startswith(("config", "info"))}


def test_a_result_is_stored_and_told_in_one_step(backend: Any) -> None:
    backend.store_result("warm", 1, states.SUCCESS)
    told = backend.client.pubsub()
    told.subscribe(backend.get_key_for_task("t"))
    assert told.get_message(timeout=5)["type"] == "subscribe"
    backend.client.config_resetstat()
    backend.store_result("t", 42, states.SUCCESS)
    assert commands(backend) == {"evalsha": 1, "get": 1, "set": 1, "publish": 1}
    assert backend.decode_result(told.get_message(timeout=5)["data"])["result"] == 42
    assert backend.celery_s.get_result("t") == 42
    assert 0 < backend.client.ttl(backend.get_key_for_task("t")) <= 60
    told.close()


def test_a_success_is_never_replaced_and_anything_else_is(backend: Any) -> None:
    for state, result in ((states.STARTED, {"pid": 1}), (states.RETRY, ValueError("again")), (states.SUCCESS, 1)):
        backend.store_result("t", result, state)
        assert backend.celery_s.get_state("t") == state
    for state, result in ((states.FAILURE, ValueError("late")), (states.STARTED, {"pid": 2})):
        backend.store_result("t", result, state)
        assert backend.celery_s.get_state("t") == states.SUCCESS
    backend.celery_s.store_result("u", 1, states.SUCCESS)
    backend.store_result("u", 2, states.SUCCESS)
    assert backend.get_result("u") == 1


def called(backend: Any, task_id: str) -> AsyncResult:
    """A task that is about to be sent by this process, as Celery tells its backend."""
    backend.on_task_call(None, task_id)
    return AsyncResult(task_id, backend=backend, app=backend.app)


def test_who_listened_before_he_called_is_told_and_does_not_look(backend: Any) -> None:
    backend.store_result("warm", 1, states.SUCCESS)
    assert called(backend, "warm").get(timeout=5) == 1
    good, bad = called(backend, "good"), called(backend, "bad")
    backend.celery_s.store_result("good", 42, states.SUCCESS)
    backend.celery_s.store_result("bad", ValueError("no"), states.FAILURE)
    backend.client.config_resetstat()
    waits = list[None]()
    assert good.get(timeout=5, on_interval=lambda: waits.append(None)) == 42
    assert waits
    with pytest.raises(ValueError, match="no"):
        bad.get(timeout=5)
    assert commands(backend).keys() == {"unsubscribe"}
    assert not backend.result_consumer.called
    assert good.get(timeout=5) == 42


@pytest.mark.parametrize("missed", ["unsubscribed", "hung up"])
def test_what_was_not_told_is_looked_for(backend: Any, missed: str) -> None:
    result, consumer = called(backend, "t"), backend.result_consumer
    if missed == "hung up":
        assert backend.client.client_kill_filter(_type="pubsub") == 1
    else:
        consumer._pubsub.unsubscribe(backend.get_key_for_task("t"))
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    assert result.get(timeout=5) == 42


def test_a_result_of_somebody_else_s_task_is_looked_for_at_once(backend: Any) -> None:
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    backend.client.config_resetstat()
    assert AsyncResult("t", backend=backend, app=backend.app).get(timeout=5) == 42
    found = commands(backend)
    assert found["get"] == 1 or found["mget"] == 1


@pytest.mark.parametrize("seconds", [0.001, 0.2])
def test_nothing_came_in_time(backend: Any, seconds: float) -> None:
    result = called(backend, "t")
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=seconds)
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    assert result.get(timeout=5) == 42


def test_a_result_that_is_stored_is_had_without_waiting(backend: Any) -> None:
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    assert called(backend, "t").get(timeout=5) == 42


def test_whoever_wants_each_message_gets_each(backend: Any) -> None:
    result, told = called(backend, "t"), list[Any]()
    backend.celery_s.store_result("t", {"done": 1}, "PROGRESS")
    backend.client.config_resetstat()

    def finish() -> None:
        eventually(lambda: commands(backend.celery_s).get("get"), 5, "the caller to look what is stored")
        backend.celery_s.store_result("t", 42, states.SUCCESS)

    task = threading.Thread(target=finish)
    task.start()
    assert result.get(timeout=5, on_message=told.append) == 42
    task.join()
    assert [each["status"] for each in told] == ["PROGRESS", states.SUCCESS]


def test_what_was_told_while_another_one_was_awaited_is_had_at_once(backend: Any) -> None:
    first, second = called(backend, "first"), called(backend, "second")
    for n, task_id in enumerate(("second", "first")):
        backend.celery_s.store_result(task_id, n, states.SUCCESS)
    assert first.get(timeout=5) == 1
    assert not backend.result_consumer.called
    backend.client.config_resetstat()
    assert second.get(timeout=5) == 0
    assert commands(backend).keys() <= {"unsubscribe"}  # of the first one


def test_a_result_that_was_let_go_is_looked_for_at_once(backend: Any) -> None:
    backend.remove_pending_result(called(backend, "dropped"))  # as `AsyncResult` does when it is collected
    called(backend, "forgotten").forget()
    assert not backend.result_consumer.called
    backend.celery_s.store_result("dropped", 42, states.SUCCESS)
    assert AsyncResult("dropped", backend=backend, app=backend.app).get(timeout=5) == 42


def test_calls_that_nobody_asks_after_are_forgotten(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu_elkmq.results.MOST_CALLED", 3)
    results = [called(backend, f"t{n}") for n in range(5)]
    assert list(backend.result_consumer.called) == ["t2", "t3", "t4"]
    for n, result in enumerate(results):
        backend.celery_s.store_result(f"t{n}", n, states.SUCCESS)
        assert result.get(timeout=5) == n


def test_inside_of_a_task_nobody_listens_before_he_calls(backend: Any) -> None:
    _set_task_join_will_block(True)
    try:
        result = called(backend, "t")
    finally:
        _set_task_join_will_block(False)
    assert not backend.result_consumer.called
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    assert result.get(timeout=5) == 42


GREEN = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()
from celery import Celery, states
from celery.result import AsyncResult
app = Celery("results", backend=sys.argv[2], set_as_current=False)
app.backend.on_task_call(None, "t")
result = AsyncResult("t", app=app)
app.backend.store_result("t", 42, states.SUCCESS)
print("got", result.get(timeout=5), flush=True)
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_green_threads_wait_as_celery_has_them_wait(make_server: Callable[..., Server], kind: str) -> None:
    pytest.importorskip(kind)
    with Program(GREEN, kind, make_server().url.replace("redis", "elkmq", 1)) as program:
        assert program.wait_for("got") == "got 42"


def test_a_forked_child_looks(backend: Any) -> None:
    result = called(backend, "t")
    backend.result_consumer._after_fork()
    assert not backend.result_consumer.called
    backend.celery_s.store_result("t", 42, states.SUCCESS)
    assert result.get(timeout=5) == 42


def test_a_lost_script_is_loaded_again(backend: Any) -> None:
    backend.store_result("t", 1, states.SUCCESS)
    backend.client.script_flush()
    backend.store_result("u", 2, states.SUCCESS)
    assert (backend.get_result("t"), backend.get_result("u")) == (1, 2)


def test_results_that_do_not_expire(make_server: Callable[..., Server], closing: ExitStack) -> None:
    backend = app_with(make_server().url.replace("redis", "elkmq", 1), closing, result_expires=None).backend
    backend.store_result("t", 1, states.SUCCESS)
    assert backend.client.ttl(backend.get_key_for_task("t")) == -1
    backend.forget("t")
    assert backend.get_state("t") == states.PENDING


def test_forms_of_the_url(closing: ExitStack) -> None:
    def parameters(url: str, **conf: Any) -> dict[str, Any]:
        found: dict[str, Any] = app_with(url, closing, **conf).backend.connparams
        return found

    plain = parameters("elkmq://me:secret@there:7000/3")
    assert [plain[name] for name in ("host", "port", "db", "username", "password")] == [
        "there",
        7000,
        3,
        "me",
        "secret",
    ]
    assert "secret" not in app_with("elkmq://me:secret@there/3", closing).backend.as_uri()
    required, none = parameters("elkmqs://there/1"), parameters("elkmqs://there/1?ssl_cert_reqs=none")
    assert (required["ssl_cert_reqs"].name, none["ssl_cert_reqs"].name) == ("CERT_REQUIRED", "CERT_NONE")
    assert required["connection_class"] is none["connection_class"]
    assert parameters("elkmq+socket:///tmp/a.sock?virtual_host=2")["path"] == "/tmp/a.sock"
    for scheme in ("sentinel", "cluster"):
        with pytest.raises(ImproperlyConfigured, match=f"elkmq\\+{scheme}:// is not offered"):
            _ = app_with(f"elkmq+{scheme}://there", closing).backend


def test_the_url_is_shown_with_its_scheme(closing: ExitStack) -> None:
    for url, shown in (
        ("elkmq://me:secret@there:7000/3", "elkmq://me:**@there:7000/3"),
        ("elkmqs://there:7000/1?ssl_cert_reqs=none", "elkmqs://there:7000/1"),
    ):
        assert app_with(url, closing).backend.as_uri() == shown
    assert "secret" in app_with("elkmq://me:secret@there/3", closing).backend.as_uri(include_password=True)


@pytest.mark.parametrize("option", ["lease=10", "visibility_timeout=3600", "global_keyprefix=a-"])
def test_options_of_the_broker_s_url_are_refused_at_once(closing: ExitStack, option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(ImproperlyConfigured, match=rf"'{name}', which is an option of brokers; nothing was stored; "):
        _ = app_with(f"elkmq://there/1?{option}", closing).backend
