"""Who consumes: what a process says of itself when it registers, and whether one that did so is known to be gone."""

from __future__ import annotations

import functools
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["about_this", "is_gone"]


def about_this() -> dict[str, Any]:
    """For the server. ``pids`` tells whose process numbers can be compared; None: nobody's, where the system does not say."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "kind": "kombu", "pids": _numbering()}


def is_gone(info: bytes) -> bool:
    """Whether a process that said this of itself does not consume any more: it has ended, or it is this one, which begins anew."""
    try:
        found = json.loads(info)
        pid, numbering = found.get("pid"), found.get("pids")
    except (ValueError, AttributeError):
        return False
    if numbering is None or numbering != _numbering() or type(pid) is not int or pid < 1:
        return False
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@functools.cache
def _numbering() -> str | None:
    """The machine's boot and the namespace of process numbers, of which containers have one each (Linux, ``proc(5)``)."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() + os.readlink("/proc/self/ns/pid")
    return None
