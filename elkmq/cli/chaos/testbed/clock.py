"""Processes that see another time of day: by a small library that is compiled where there is a compiler, and preloaded."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def compiler() -> str | None:
    """The C compiler; None where there is none, or where nothing can be preloaded this way."""
    if not sys.platform.startswith("linux"):
        return None
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


class Clock:
    """A time of day that can be set; give `environment` to the processes that are to see it.

    Args:
        folder: Where its two files are made.
        name: Of them, for more than one in a folder.
        offset: Whole seconds that it is ahead of the machine's.
    """

    def __init__(self, folder: str, name: str = "clock", offset: int = 0) -> None:
        self._file = Path(folder, name)
        self._library = Path(folder, "clock.so")
        self.set(offset)
        found = compiler()
        assert found is not None, "there is no compiler: see `compiler`"
        if not self._library.exists():
            source = str(Path(__file__).with_name("clock.c"))
            command = [found, "-shared", "-fPIC", "-O2", "-o", str(self._library), source]
            subprocess.run(command, check=True, capture_output=True, timeout=60)

    def set(self, offset: int) -> None:
        """Set it, at once, for whoever sees it."""
        # In place: the processes have the file mapped.
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", offset))

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with that is to see it."""
        return {"LD_PRELOAD": str(self._library), "ELKMQ_CLOCK": str(self._file)}
