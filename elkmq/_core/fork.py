"""What a forked child must not do: speak, read or hang up on the connections of its parent."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgets(Protocol):
    """An object that holds connections."""

    def forget_parent(self) -> None:
        """Drop, in a forked child, whatever belongs to the parent, and be as new."""


_objects: weakref.WeakSet[Forgets] = weakref.WeakSet()


def forget_in_child(thing: Forgets) -> None:
    """Have ``thing.forget_parent()`` called in each child that this process forks from now on."""
    _objects.add(thing)


def disarm(descriptor: int) -> None:
    """Put ``/dev/null`` in the place of a child's copy of a socket.

    The parent's connection stays as it is: no byte, no FIN, no change to the event loop's poller. And the object that
    holds the descriptor, which may close it at any later time, closes something harmless.
    """
    if descriptor < 0:
        return
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor, inheritable=False)
    except OSError:
        pass
    finally:
        os.close(null)


def _in_child() -> None:
    for thing in list(_objects):
        thing.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
