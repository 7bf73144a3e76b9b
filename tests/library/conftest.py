"""Fixtures of the library's tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.library.drivers import AioDriver, SyncDriver
from tests.library.flavours import FLAVOURS


@pytest.fixture(params=[SyncDriver, AioDriver], ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Each driver in turn: ``async with driver() as d: channel = d.channel(url)``; closes what was opened."""
    return _closing(request.param)


@pytest.fixture(params=FLAVOURS, ids=lambda kind: kind.name)
def library(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Each flavour in turn: ``async with library() as lib: queue = lib.queue(name, url)``; closes what was opened."""
    return _closing(request.param)


def _closing(kind: Any) -> Callable[[], Any]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        made = kind()
        try:
            yield made
        finally:
            await made.close()

    opened.name = kind.name  # type: ignore[attr-defined]
    return opened
