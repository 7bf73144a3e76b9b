"""The process's own clock for spans of time: it goes on while the machine sleeps, where the system has such a clock.

A lease must not seem to hold because a laptop was shut or a virtual machine was suspended. Server time is the only clock
of the queue; this one only measures how long ago something was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

now: Callable[[], float] = time.monotonic
"""Seconds since some moment in the past."""

if hasattr(time, "CLOCK_BOOTTIME"):  # Linux
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
