"""Fixtures of the scripts' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scripts.rig import Rig
from tests.servers import Server


@pytest.fixture
def q(server: Server, name: str) -> Iterator[Rig]:
    """A new queue at each server in turn."""
    rig = Rig(server, name)
    yield rig
    rig.close()
