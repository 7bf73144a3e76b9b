"""gevent and eventlet, where they are in use."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["cannot_wait"]


def cannot_wait(waiting: int | None) -> bool:
    """Whether this runs where nothing can wait for what others wait for, as a signal's handler does: in the very loop that would have to
    go on, or in whichever green thread was running.

    :param waiting: who waits, as `threading.get_ident` numbers it; None: nobody
    """
    gevent: Any = sys.modules.get("gevent")
    patched: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and patched is not None and patched.is_module_patched("socket"):
        current, hub = gevent.getcurrent(), gevent.get_hub()
        return current is hub or waiting not in (None, id(current))
    hubs: Any = sys.modules.get("eventlet.hubs")
    patched = sys.modules.get("eventlet.patcher")
    if hubs is not None and patched is not None and patched.is_monkey_patched("socket"):
        current, hub = hubs.greenlet.getcurrent(), hubs.get_hub().greenlet
        return current is hub or waiting not in (None, id(current))
    return False
