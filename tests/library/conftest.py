"""Fixtures of the library's tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.library.drivers import AioDriver, SyncDriver


@pytest.fixture(params=[SyncDriver, AioDriver], ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Each driver in turn: ``async with driver() as d: channel = d.channel(url)``; closes what was opened."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        made = request.param()
        try:
            yield made
        finally:
            await made.close()

    opened.name = request.param.name  # type: ignore[attr-defined]
    return opened
