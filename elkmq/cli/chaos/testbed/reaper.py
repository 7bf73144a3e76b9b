"""Ends whatever the test run started, also when the run itself is killed.

A child process of its own session reads ``+PID``, ``-PID`` and ``/FOLDER`` lines from a pipe; when the pipe closes,
which the kernel sees to however the run ends, it kills and deletes what is still on its lists. ``atexit`` alone would leave servers behind a SIGKILL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

_CODE = """
import os, shutil, signal, sys
alive, folders = set(), []
for line in sys.stdin:
    if line[0] == "/":
        folders.append(line.rstrip("\\n"))
    else:
        (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
for pid in alive:
    for kill in (os.killpg, os.kill):  # with what it started, where it leads a group
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""
_lock = threading.Lock()
_reaper: tuple[int, subprocess.Popen[str]] | None = None


def watch(pid: int) -> None:
    """Kill this process, and the group it leads, when the test run ends, unless `forget` comes first."""
    _tell(f"+{pid}\n")


def forget(pid: int) -> None:
    """The process is gone and waited for; its number may be somebody else's from now on."""
    _tell(f"-{pid}\n")


def watch_folder(path: str) -> None:
    """Delete this folder (an absolute path) when the test run ends, if it is still there."""
    _tell(f"{path}\n")


def _tell(line: str) -> None:
    global _reaper  # noqa: PLW0603 - one reaper for one process
    with _lock:
        if _reaper is None or _reaper[0] != os.getpid():
            child = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _CODE], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            _reaper = (os.getpid(), child)
        pipe = _reaper[1].stdin
        assert pipe is not None
        pipe.write(line)
        pipe.flush()
