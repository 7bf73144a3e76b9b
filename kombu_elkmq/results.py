"""``elkmq://`` as a result backend: Celery's own for Redis, which stores a result in one round trip instead of two.

Celery looks at what is stored of a task before it stores something, so that a success is never replaced, and nearly always
finds nothing. Here one script looks, stores and publishes. And who awaits a task that he called himself listened before the
task was sent: he waits a moment for what he will be told before he looks whether he missed it. All else is Celery's: keys,
expiry, groups, chords; so each of the two backends reads what the other one stored.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from celery import states
from celery._state import task_join_will_block
from celery.backends.asynchronous import Drainer
from celery.backends.redis import RedisBackend, ResultConsumer
from celery.exceptions import ImproperlyConfigured
from celery.result import AsyncResult

from kombu_elkmq.options import TransportOptions

__all__ = ["ResultBackend"]

_STORE = """
local there = redis.call('GET', KEYS[1])
if there then return there end
if ARGV[2] ~= '0' then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return false
"""
"""Returns what was there, in which case nothing has changed. Asked again after a lost reply, it finds its own result."""

_SCHEMES = {"elkmq": "redis", "elkmqs": "rediss", "redis": "redis", "rediss": "rediss", "socket": "socket"}


_OF_BROKERS = {each.name for each in fields(TransportOptions)} | {"visibility_timeout"}


FIRST = 0.05
"""Seconds for which somebody who listened before he called waits before he looks whether the result is stored."""

MOST_CALLED = 10_000
"""Calls of which it is known that they were listened for; who awaits an older one looks first, as ever."""


class _Storing(threading.local):
    task_id: Any = None
    """The task whose result this thread stores."""


class _Consumer(ResultConsumer):  # type: ignore[misc]
    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.called: OrderedDict[str, bool] = OrderedDict()
        """Tasks that were subscribed to before they were sent, whose results are still to be told and not awaited yet."""

    def listened(self, task_id: str) -> None:
        """A task is about to be sent."""
        self.called[task_id] = True
        if len(self.called) > MOST_CALLED:
            self.called.popitem(last=False)

    def cancel_for(self, task_id: str) -> None:
        """Celery's own: it was told, or nobody asks any more. No lock: it is called where an `AsyncResult` is collected."""
        self.called.pop(task_id, None)
        super().cancel_for(task_id)

    def on_after_fork(self) -> None:
        self.called.clear()  # the child's subscriptions begin after the fork
        super().on_after_fork()

    def _wait_for_pending(
        self, result: Any, timeout: float | None = None, on_interval: Any = None, on_message: Any = None, **given: Any
    ) -> Iterable[None]:
        # What else is told while somebody listens for it is Celery's to pass on, and so is waiting among green threads.
        if isinstance(result, AsyncResult) and on_message is None and type(self.drainer) is Drainer:
            listened = self.called.pop(result.id, False)
            if result.on_ready.ready or (listened and self._is_told(result, timeout, on_interval)):
                return ()
        waiting: Iterable[None] = super()._wait_for_pending(
            result, timeout=timeout, on_interval=on_interval, on_message=on_message, **given
        )
        return waiting

    def _is_told(self, result: Any, timeout: float | None, on_interval: Any) -> bool:
        """Whether a result comes within `FIRST` seconds, or those that its caller waits."""
        seconds = FIRST if timeout is None else min(FIRST, timeout)
        if seconds > 0:
            with suppress(TimeoutError):
                for _ in self.drainer.drain_events_until(
                    result.on_ready, timeout=seconds, interval=seconds, on_interval=on_interval
                ):
                    pass
        return bool(result.on_ready.ready)


class ResultBackend(RedisBackend):  # type: ignore[misc]
    """See the module. ``elkmq://`` and ``elkmqs://`` (TLS, verified unless the url's ``ssl_cert_reqs`` or ``redis_backend_use_ssl``
    say otherwise) take what Celery's ``redis://`` and ``rediss://`` take; ``elkmq+socket://PATH`` is a unix socket.

    :raises ImproperlyConfigured: the url is one of Sentinels or of a Cluster, or has an option of brokers
    """

    ResultConsumer = _Consumer

    def __init__(self, host: Any = None, *args: Any, url: Any = None, **options: Any) -> None:
        self._storing = _Storing()
        self._store: Any = None
        scheme = ""
        if url:
            scheme = url.partition("://")[0]
            _check_options(url)
            url = _as_redis(url, verified=not options["app"].conf.get("redis_backend_use_ssl"))
        super().__init__(host, *args, url=url, **options)
        self._scheme = scheme if scheme.startswith("elkmq") else ""

    def as_uri(self, include_password: bool = False) -> str:
        """The url, as it may be shown."""
        shown = str(super().as_uri(include_password))
        return self._scheme + shown[shown.index("://") :] if self._scheme else shown

    def on_task_call(self, producer: Any, task_id: Any) -> None:
        """A task is about to be sent: subscribe to its result, as Celery does."""
        super().on_task_call(producer, task_id)
        if not task_join_will_block():
            self.result_consumer.listened(task_id)

    def _store_result(self, task_id: Any, *args: Any, **given: Any) -> Any:
        self._storing.task_id = task_id
        try:
            return super()._store_result(task_id, *args, **given)
        finally:
            self._storing.task_id = None

    def _get_task_meta_for(self, task_id: Any) -> Any:
        if self._storing.task_id == task_id:
            return {"status": states.PENDING, "result": None}  # the script looks
        return super()._get_task_meta_for(task_id)

    def _set(self, key: Any, value: Any, *expires: Any) -> None:
        if self._storing.task_id is None:
            super()._set(key, value, *expires)
            return
        seconds = expires[0] if expires and expires[0] is not None else self.expires
        there = self._script()(keys=(key,), args=(value, int(seconds or 0)))
        if there is not None and self.decode_result(there)["status"] != states.SUCCESS:
            super()._set(key, value, *expires)

    def _script(self) -> Any:
        if self._store is None or self._store.registered_client is not self.client:
            self._store = self.client.register_script(_STORE)
        return self._store


def _check_options(url: str) -> None:
    """Refuse options of the broker's, with which a url may have been taken over: nobody would know them at the first result."""
    for name in dict(parse_qsl(urlsplit(url).query)):
        if name in _OF_BROKERS:
            instead = "give it in result_backend_transport_options" if name == "global_keyprefix" else "leave it out"
            raise ImproperlyConfigured(
                f"the url of the result backend has {name!r}, which is an option of brokers; nothing was stored; {instead}."
            )


def _as_redis(url: str, *, verified: bool) -> str:
    """The url for Celery's Redis backend. ``verified``: of TLS, where the url does not say how far."""
    scheme, colon, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise ImproperlyConfigured(
            f"a result backend elkmq+{scheme}:// is not offered; nothing was stored; use Celery's own {scheme}:// for results."
        )
    if scheme == "elkmqs" and verified and "ssl_cert_reqs=" not in rest:
        rest += ("&" if "?" in rest else "?") + "ssl_cert_reqs=required"
    return _SCHEMES[scheme] + colon + rest
