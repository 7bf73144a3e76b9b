"""gevent and eventlet, where they are in use."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["in_hub"]


def in_hub() -> bool:
    """Whether this runs where nothing can wait: in the very loop that would have to go on, as a signal's handler does there."""
    gevent: Any = sys.modules.get("gevent")
    patched: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and patched is not None and patched.is_module_patched("socket"):
        return gevent.getcurrent() is gevent.get_hub()
    hubs: Any = sys.modules.get("eventlet.hubs")
    patched = sys.modules.get("eventlet.patcher")
    if hubs is not None and patched is not None and patched.is_monkey_patched("socket"):
        return hubs.greenlet.getcurrent() is hubs.get_hub().greenlet
    return False
