"""gevent and eventlet, where they are in use."""

from __future__ import annotations

import sys
import threading
from typing import Any

__all__ = ["cannot_wait"]


def cannot_wait(waiting: int | None) -> bool:
    """Whether this runs where nothing can wait for what others wait for, as a signal's handler does: in the very loop that would have to
    go on, or in whichever green thread was running.

    :param waiting: who waits, as `threading.get_ident` numbers it; None: nobody
    """
    hub = _hub()
    me = threading.get_ident()  # of a green thread, the `id` of its greenlet
    return hub is not None and (me == id(hub) or waiting not in (None, me))


def _hub() -> Any:
    """The greenlet of the loop; None where sockets are the system's own."""
    patched: Any = sys.modules.get("gevent.monkey")
    if patched is not None and patched.is_module_patched("socket"):
        return sys.modules["gevent"].get_hub()
    patched = sys.modules.get("eventlet.patcher")
    if patched is not None and patched.is_monkey_patched("socket"):
        return sys.modules["eventlet.hubs"].get_hub().greenlet
    return None
