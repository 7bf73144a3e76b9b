"""Fixtures for every layer: servers, names, faults, and ``async def`` tests."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import Certificates
from tests.proxy import Proxy
from tests.servers import Binary, Server, binaries
from tests.topology import Cluster, Sentinel
from tests.waiting import Program

# What every run does, the same each time; and what a person asks for with --hypothesis-profile=thorough.
_unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
settings.register_profile(
    "bounded", _unhurried, max_examples=60, stateful_step_count=30, derandomize=True, database=None
)
settings.register_profile("thorough", _unhurried, max_examples=1000, stateful_step_count=50)
settings.load_profile("bounded")


def pytest_configure() -> None:
    """A shell starts its background jobs with SIGINT ignored, and so would start whatever they start. Tests press Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return "servers: " + ", ".join(binary.label for binary in binaries())


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test in an event loop of its own; its fixtures are the plain ones."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


SHARED = "/shared/"
"""Folders whose modules share what is dear to start: each module runs in one test process."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread single tests over the processes, and modules of `SHARED` folders as a whole.

    pytest-xdist's own marks for that do nothing under pytest 9.2 (xdist 3.8), which computes the ids they are put into.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0] if SHARED in nodeid.partition("::")[0] else nodeid

    return Scheduler(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def _shared_servers() -> Iterator[Callable[[Binary], Server]]:
    """One server per binary and test process, started when first asked for."""
    running: dict[Binary, Server] = {}
    with ExitStack() as stack:

        def get(binary: Binary) -> Server:
            if binary not in running:
                running[binary] = stack.enter_context(Server(binary))
            return running[binary]

        yield get


@pytest.fixture(params=binaries(), ids=lambda binary: binary.label)
def server(request: pytest.FixtureRequest, _shared_servers: Callable[[Binary], Server]) -> Server:
    """Each server in turn. It is shared with other tests: no FLUSHALL, no CONFIG SET, keys under `name` only."""
    return _shared_servers(request.param)


@pytest.fixture
def server_url(server: Server) -> str:
    """The url of each server in turn, for conformance tests."""
    return server.url


@pytest.fixture
def fast_server(_shared_servers: Callable[[Binary], Server]) -> Server:
    """The default server, shared with other tests."""
    return _shared_servers(binaries()[0])


@pytest.fixture
def fast_url(fast_server: Server) -> str:
    """The url of the default server, for tests of what does not depend on the server."""
    return fast_server.url


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A queue name that no other test, run or test process uses."""
    test = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name)
    return f"{test[:40].strip('-')}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """An `ExitStack` that ends with the test, for whatever a test opens."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_server(closing: ExitStack) -> Callable[..., Server]:
    """``make_server(binary=None, **options)``: a running `Server` of this test's own."""
    return lambda *args, **options: closing.enter_context(Server(*args, **options))


@pytest.fixture
def make_proxy(closing: ExitStack) -> Callable[[str], Proxy]:
    """``make_proxy(url)``: a `Proxy` before that server."""
    return lambda url: closing.enter_context(Proxy(url))


@pytest.fixture
def make_program(closing: ExitStack) -> Callable[..., Program]:
    """``make_program(source, *args)``: a running `Program`, killed at the end of the test if it still runs."""
    return lambda *args, **options: closing.enter_context(Program(*args, **options))


@pytest.fixture
def make_sentinel(closing: ExitStack) -> Callable[..., Sentinel]:
    """``make_sentinel(primary, **options)``: a running `Sentinel`."""
    return lambda *args, **options: closing.enter_context(_started(Sentinel(*args, **options)))


def _started(sentinel: Sentinel) -> Sentinel:
    sentinel.start()
    return sentinel


@pytest.fixture
def make_cluster(closing: ExitStack) -> Callable[..., Cluster]:
    """``make_cluster(size=3)``: a running `Cluster`."""
    return lambda *args, **options: closing.enter_context(Cluster(*args, **options))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for 127.0.0.1, ``localhost`` and ::1, made for this run."""
    return Certificates(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def tls_binary() -> Binary:
    """The first server that speaks TLS; the test is skipped where there is none."""
    found: Any = next((binary for binary in binaries() if binary.has_tls), None)
    if found is None:
        pytest.skip("no server here was built with TLS: name a folder with one in ELKMQ_TEST_SERVERS")
    return found
