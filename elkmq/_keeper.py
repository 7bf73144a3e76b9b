"""The process that starts the embedded server, restarts it if it dies, and stops it when its last user is gone.

Users hold a shared ``flock`` on ``users.lock`` in the data folder. The kernel takes it from them however they end, also by
SIGKILL, and leaves it with the parent when a forked child ends. This process waits for the exclusive lock: having it
means that nobody is left and, until the server is down, that nobody new comes in. It holds ``keeper.lock`` all its life,
so that there is one of it. Should it be killed itself, Linux ends the server with it, which so never stays without
anybody who would stop it, and the first user to miss it starts the next keeper (`embedded.revive`); elsewhere the server
goes on and the next keeper adopts it. What the server accepted is in its append-only file either way.

It runs by its path, with nothing but the standard library, and is told ``FOLDER BINARY``. It reports one line on its
standard output: ``ready``, or ``failed`` and why.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

USERS, STARTING, KEEPER, ADDRESS, LOG = "users.lock", "starting.lock", "keeper.lock", "address", "server.log"
START_TIMEOUT = 30.0
"""Seconds within which a server must answer; one that says it is loading its data may take as long as it needs."""
STOP_TIMEOUT = 10.0
"""Seconds that a server has for an orderly shutdown."""
_PAUSE = 0.01
_LONGEST_PATH = 100  # of a unix socket: the kernel's limit is 107 bytes on Linux and 103 on macOS
_LARGEST_LOG = 1_000_000
_PR_SET_PDEATHSIG = 1
_LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ \S ")  # process, date and level before each line of a server


def open_lock(folder: str, name: str) -> int:
    """Open a lock file, made if need be; closing the descriptor gives up the lock."""
    return os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def state(address: str, timeout: float = 1.0) -> str:
    """``ready``, ``loading`` its data, or ``silent``: there is no server, or none that answers."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout)
        try:
            link.connect(address)
            link.sendall(b"PING\r\n")
            answer = link.recv(64)
        except OSError:
            return "silent"
    if answer.startswith(b"-LOADING"):
        return "loading"
    return "ready" if answer else "silent"  # also with an error: a busy script or a full disk is its clients' matter


def read_address(folder: str) -> str:
    """Where the folder's server listens, or last listened; empty if it never did."""
    try:
        with open(os.path.join(folder, ADDRESS), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def last_words(folder: str, since: int = 0) -> str:
    """The last line of the server's log after this many bytes, without process number and date."""
    with contextlib.suppress(OSError), open(os.path.join(folder, LOG), "rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").split("\n")
        return next((_LOG_PREFIX.sub("", line).strip() for line in reversed(lines) if line.strip()), "")
    return ""


class Keeper:
    """One server's life."""

    def __init__(self, folder: str, binary: str) -> None:
        self.folder = folder
        self.binary = binary
        self.address = ""
        self.server: subprocess.Popen[bytes] | None = None
        self.stopping = threading.Event()
        self.alone = False

    def run(self) -> None:
        """Start or adopt the server, say so, and see it through to its end."""
        self.address = read_address(self.folder)
        problem = self._await_answer() if self.address and _listens(self.address) else "there is no server"
        if problem and not (self.address and _listens(self.address)):
            if not os.path.isdir(os.path.dirname(self.address)):
                self.address = self._new_address()  # else clients of one that was killed find the next where it was
            if problem := self._start():
                self._forget_address()
        if problem:
            _report(f"failed {problem}")
            return
        _report("ready")
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        threading.Thread(target=self._await_last_user, daemon=True).start()
        while True:
            started = time.monotonic()
            self._await_end()
            if self.stopping.wait(max(0.0, started + 1.0 - time.monotonic())):  # not more than once a second
                break
            if self._start():
                break  # why is in the log; whoever asks for the server next starts another keeper
            if self.stopping.is_set():
                self._stop()  # the first time there was nothing to stop
        if self.server is not None:
            self.server.wait()
        if self.alone:
            self._forget_address()

    def _new_address(self) -> str:
        address = os.path.join(self.folder, "server.sock")
        if len(os.fsencode(address)) > _LONGEST_PATH:
            parent = tempfile.gettempdir()
            if len(os.fsencode(parent)) > _LONGEST_PATH - 40:
                parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder in it that is ours alone
            address = os.path.join(tempfile.mkdtemp(prefix="elkmq-", dir=parent), "server.sock")
        path = os.path.join(self.folder, ADDRESS)
        with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(address)
        os.replace(path + ".new", path)  # whoever reads it reads all of it
        return address

    def _forget_address(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, ADDRESS))
        with contextlib.suppress(OSError):
            os.unlink(self.address)
        if os.path.dirname(self.address) != self.folder:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self.address))

    def _start(self) -> str:
        """Start the server and wait until it answers; return what went wrong, or nothing."""
        path = os.path.join(self.folder, LOG)
        with contextlib.suppress(OSError):
            if os.path.getsize(path) > _LARGEST_LOG:
                os.replace(path, path + ".1")
        options = {
            "--port": "0",
            "--unixsocket": self.address,
            "--unixsocketperm": "700",
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--maxmemory-policy": "noeviction",
        }
        end_with_us = _ending_with(os.getpid())
        with open(path, "ab") as log:
            before = log.tell()
            command = [self.binary, *(word for option in options.items() for word in option)]
            try:
                self.server = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                    preexec_fn=end_with_us,  # noqa: PLW1509 - it calls into the kernel and nothing else
                )  # fmt: skip
            except OSError as error:
                return f"{self.binary} cannot be run: {error.strerror}"
        return self._await_answer(before)

    def _await_answer(self, log_start: int = 0) -> str:
        """Wait until the server has loaded its data; return what went wrong, or nothing."""
        deadline = time.monotonic() + START_TIMEOUT
        while (now := state(self.address)) != "ready":
            status = self.server.poll() if self.server else None
            if self.server is None and not _listens(self.address):
                return "it ended"  # one that was adopted, and was just ending
            if status is not None:
                return last_words(self.folder, log_start) or f"it ended with status {status} and said nothing"
            if now == "loading":
                deadline = time.monotonic() + START_TIMEOUT
            if time.monotonic() > deadline:
                if self.server is not None:
                    self.server.kill()
                    self.server.wait()
                return (
                    f"it did not answer within {START_TIMEOUT:g} s; its log ends: {last_words(self.folder, log_start)}"
                )
            time.sleep(_PAUSE)
        return ""

    def _await_last_user(self) -> None:
        descriptor = open_lock(self.folder, USERS)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # kept to the end of the process
        self.alone = True
        self._stop()

    def _stop(self) -> None:
        """Shut the server down, by force if it does not go; `run` notices."""
        self.stopping.set()
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(STOP_TIMEOUT)
            pid = 0
            try:
                link.connect(self.address)
                pid = _peer(link)
                link.sendall(b"SHUTDOWN\r\n")
                if not link.recv(64):
                    return
            except ConnectionError:
                return
            except OSError:
                pass
        if self.server is not None:
            self.server.kill()
        elif pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _await_end(self) -> None:
        """Wait until the server is gone."""
        if self.server is not None:
            self.server.wait()
            return
        while _listens(self.address):  # adopted, so not our child; a connection to it ends with it
            with socket.socket(socket.AF_UNIX) as link, contextlib.suppress(OSError):
                link.connect(self.address)
                link.recv(1)  # or with a CLIENT KILL, hence the loop


def _listens(address: str) -> bool:
    """Whether there is a process behind the socket, be it one that does not answer."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(address)
        except OSError:
            return False
        return True


def _ending_with(keeper: int) -> Callable[[], None] | None:
    """What a child calls before it becomes the server, so that the kernel kills it when the keeper dies; None: it cannot."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: the child may no longer load anything

    def end_with_keeper() -> None:
        # By SIGKILL: the file has what was accepted, and the next server finds nobody that is still tidying up.
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)  # it died before that

    return end_with_keeper


def _peer(link: socket.socket) -> int:
    """The number of the process at the other end, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    answer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", answer)[0])


def _report(line: str) -> None:
    """Tell whoever started this process, if it is still there, and no more after that."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode(errors="replace"))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def main(folder: str, binary: str) -> None:
    """Keep the folder's server, unless another keeper does."""
    if os.fork():
        os._exit(0)  # whoever started this has nothing to wait for, and no child that it does not know of
    os.umask(0o077)
    os.chdir("/")
    lock = open_lock(folder, KEEPER)
    fcntl.flock(lock, fcntl.LOCK_EX)
    Keeper(folder, binary).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
