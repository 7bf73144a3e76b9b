"""What the command line says when something is wrong, and what it never says."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.library.cli import ELKMQ, elkmq
from tests.servers import free_port
from tests.waiting import ROOT


def one_sentence(ended):
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("elkmq: ")
    assert lines[0].endswith(".")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nope"], "No such command 'nope'"),
        (["stats", "q", "--nope"], "No such option"),
        (["enqueue", "q"], "missing argument ACTION"),
        (["enqueue", "q", "a", "p", "--lines"], "exclude each other"),
        (["enqueue", "q", "a", "--header", "k"], "NAME=VALUE"),
        (["enqueue", "q", "a", "--priority", "256"], "priority is 256"),
        (["enqueue", "q", "a", "--timeout", "0"], "timeout is 0"),
        (["enqueue", "two words", "a"], "white space"),
        (["listen", "q", "--lease", "0.1"], "lease"),
        (["listen", "q", "--run", "/no/such/program"], "no program"),
        (["listen", "q", "--run", "'"], "cannot be read"),
        (["request", "q", "a", "--timeout", "nan"], "timeout"),
        (["dead", "show", "q", "nonsense"], "no id of a dead letter"),
        (["log", "q", "--start", "yesterday"], "no place in the log"),
        (["stats", "q", "--data", "x", "--url", "redis://localhost"], "exclude each other"),
        (["stats", "q", "--url", "http://u:SECRET@localhost"], "url"),
        (["stats", "q", "--url", "redis://u:SECRET@localhost:port/0"], "url"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_2(arguments, why, fast_url):
    said = one_sentence(elkmq(*arguments, url=None if "--data" in arguments else fast_url, status=2))
    assert why in said
    assert "SECRET" not in said


def test_a_server_that_is_not_there(name):
    url = f"redis://user:SECRET@127.0.0.1:{free_port()}/0?retry_for=0"
    said = one_sentence(elkmq("stats", name, url=url, status=1))
    assert "cannot be reached" in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    "command", [("stats", "{}"), ("enqueue", "{}", "a"), ("request", "{}", "a"), ("listen", "{}", "--timeout", "0"), ("stats",)],
    ids=" ".join,
)  # fmt: skip
def test_what_waits_for_a_server_says_so_and_goes_on(make_program, make_server, name, command):
    server = make_server()
    server.stop()
    env = {"ELKMQ_URL": server.url.replace("redis://", "redis://user:SECRET@", 1)}
    program = make_program(command=[*ELKMQ, *(word.format(name) for word in command)], env=env, merge=True)
    said = program.wait_for("cannot be reached")
    assert (
        said
        == f"elkmq: could not connect: 127.0.0.1:{server.port}/0 cannot be reached: Connection refused; it is tried for up to 30 s"
    )
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGINT)
    program.wait(status=None)
    assert sum("cannot be reached" in line for line in program.lines) == 1
    assert "SECRET" not in "".join(program.lines)


def test_who_listens_is_told_once_of_each_outage_and_of_its_end(make_program, make_server, name):
    server = make_server()
    program = make_program(command=[*ELKMQ, "listen", name, "--url", server.url], merge=True)
    for payload in ("first", "second"):
        elkmq("enqueue", name, "a", payload, url=server.url)
        program.wait_for(payload)
        since = len(program.lines)
        server.stop()
        program.wait_for("cannot be reached", since=since)
        server.start()
        program.wait_for("is there again", since=since)
        assert sum("cannot be reached" in line for line in program.lines[since:]) == 1


def test_a_wrong_password(make_server, name):
    server = make_server(password="RIGHT-SECRET")
    ended = elkmq("enqueue", name, "a", url=server.url.replace("RIGHT-SECRET", "WRONG-SECRET"), status=1)
    assert "password" in one_sentence(ended)
    assert "SECRET" not in ended.err
    elkmq("enqueue", name, "a", url=server.url)


def test_a_server_out_of_memory(make_server, name):
    server = make_server(maxmemory="3mb")
    ended = elkmq("enqueue", name, "a", "--lines", url=server.url, stdin=("x" * 50_000 + "\n") * 100, status=1)
    said = one_sentence(ended)
    assert "out of memory" in said


def test_a_data_folder_that_cannot_be_used(name, tmp_path):
    (tmp_path / "file").write_text("")
    said = one_sentence(elkmq("stats", name, "--data", str(tmp_path / "file" / "data"), status=1))
    assert "the folder cannot be used" in said


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_how_to_get_it(missing):
    # A module that is None in sys.modules counts as not installed.
    source = f"import sys; sys.modules[{missing!r}] = None; from elkmq.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"needs {missing}," in ended.stderr
    assert "`pip install elkmq[cli]`" in ended.stderr


@pytest.mark.parametrize("command", [[], ["enqueue"], ["dead"], ["dead", "list"], ["demo"], ["stats"], ["settings"]])
def test_every_command_has_help(command):
    out = elkmq(*command, "--help").out
    assert out.startswith("Usage: elkmq")
    assert "Options of every command:" in out
    assert "--url URL" in out


def terminal(*arguments, **env):
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    full_env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "COLUMNS": "100", **env}
    full_env = {k: v for k, v in full_env.items() if v is not None}
    process = subprocess.Popen([*ELKMQ, *arguments], stdout=child, stderr=child, stdin=child, env=full_env)
    os.close(child)
    out = b""
    try:
        while data := os.read(parent, 65536):
            out += data
    except OSError:
        pass  # how a terminal ends on Linux
    os.close(parent)
    assert process.wait(30) == 0
    return out.decode()


def test_colours_and_no_colours(fast_url, name):
    elkmq("enqueue", name, "a", url=fast_url)
    elkmq("enqueue", name + "-2", "a", url=fast_url)
    names = (name, name + "-2")
    assert "\x1b[" in terminal("stats", *names, ELKMQ_URL=fast_url, NO_COLOR=None)
    assert "\x1b[3" not in terminal("stats", *names, ELKMQ_URL=fast_url, NO_COLOR="1")
    assert "\x1b" not in elkmq("stats", *names, url=fast_url).out
