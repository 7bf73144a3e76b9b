"""What every group of verbs stands on: the queue they are bound to, and its scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from elkmq._core.call import DOING, FATE, Prepared
from elkmq.keys import QueueKeys

T = TypeVar("T")


class OfQueue:
    """The queue, and what its owner's options say. ``window``: dedupe window in ms.

    ``counting`` is for servers before 7.0, which do not count a stream's entries themselves.
    """

    def __init__(
        self, keys: QueueKeys, *, counting: bool = False, window: int = 120_000, delivery_limit: int = 20
    ) -> None:
        self.keys = keys
        self.window = window
        self.delivery_limit = delivery_limit
        self.counting = int(counting)


class Bound(Generic[T]):
    """A script that each queue has bound to its main lane, from its first use on: declared beside the verb that calls it."""

    def __init__(
        self, script: str, parse: Callable[[Any], T], *, retry: bool = True, doing: str = DOING, fate: str = FATE
    ) -> None:
        self._script = script
        self._parse = parse
        self._retry = retry
        self._doing = doing
        self._fate = fate

    def __set_name__(self, owner: type[OfQueue], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, queue: None, owner: type[OfQueue]) -> Bound[T]: ...

    @overload
    def __get__(self, queue: OfQueue, owner: type[OfQueue]) -> Prepared[T]: ...

    def __get__(self, queue: OfQueue | None, owner: type[OfQueue]) -> Bound[T] | Prepared[T]:
        if queue is None:
            return self
        prepared = self.on((queue.keys.lane(0),))
        # From now on the attribute is found in the instance, ahead of this.
        vars(queue)[self._name] = prepared
        return prepared

    def on(self, lanes: tuple[bytes, ...]) -> Prepared[T]:
        """The script on further queues' main lanes as well."""
        return Prepared(self._script, lanes, self._parse, retry=self._retry, doing=self._doing, fate=self._fate)
