#!/usr/bin/env python3
"""Set up ElkMQ in a virtual environment beside the sources, and run it.

    python3 tools/run.py demo [ARGUMENTS]    the demo, on a server of its own
    python3 tools/run.py tests [ARGUMENTS]   the tests; arguments go to pytest

It needs a Python of at least 3.10 with venv and a way to PyPI, nothing else. The environment (.venv, or --venv FOLDER
before the command) is made once and again when setup.cfg changes. This file keeps to what Python 3.6 can read, so that
an old one can say what is wrong.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 10)
NEWEST_TO_TRY = 14
WORKERS = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup"]
COMMANDS = {
    "demo": ("embedded,cli,celery", ["elkmq", "demo"]),
    "tests": ("tests", ["pytest", *WORKERS]),
}


class Trouble(Exception):
    """Something a person has to put right; one sentence."""


def main(arguments: "list[str]") -> int:
    """Do what the command line says and return the exit status."""
    venv = os.path.join(ROOT, ".venv")
    if len(arguments) > 1 and arguments[0] == "--venv":
        venv = os.path.abspath(arguments[1])
        arguments = arguments[2:]
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    require_new_enough_python()
    extras, command = COMMANDS[arguments[0]]
    python = prepared(venv, extras)
    # The environment's Python also takes over the terminal: Ctrl-C reaches it alone, and its exit status is ours.
    os.chdir(ROOT)
    sys.stdout.flush()
    program = os.path.join(os.path.dirname(python), command[0])
    return os.execv(program, [program, *command[1:], *arguments[1:]])


def require_new_enough_python() -> None:
    """Go on under a newer Python if this one is too old; fail if there is none."""
    if sys.version_info[:2] >= OLDEST:
        return
    for minor in range(NEWEST_TO_TRY, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, *sys.argv])
    here = f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
    raise Trouble(
        f"ElkMQ needs Python 3.{OLDEST[1]} or newer; this is {here}, and there is no newer one on the PATH: install one "
        "and run this file with it, for example `python3.12 tools/run.py demo`."
    )


def prepared(venv: str, extras: str) -> str:
    """Path of the environment's Python, with ElkMQ and these extras installed."""
    python = os.path.join(venv, "bin", "python")
    stamp = os.path.join(venv, "elkmq-" + extras.replace(",", "-"))
    with open(os.path.join(ROOT, "setup.cfg"), "rb") as file:
        wanted = f"{sys.version} {ROOT} {hashlib.sha256(file.read()).hexdigest()}"
    if os.path.exists(python) and read(stamp) == wanted:
        return python
    print(f"Setting up {venv}; this happens once and takes about a minute.", flush=True)
    if not os.path.exists(python) or sys.version not in read(os.path.join(venv, "elkmq-python")):
        make_environment(venv)
        write(os.path.join(venv, "elkmq-python"), sys.version)
    run(
        [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{extras}]"],
        "pip could not install what ElkMQ needs (its words are above); check the way to PyPI and run this again.",
    )
    write(stamp, wanted)
    return python


def make_environment(venv: str) -> None:
    """Make a virtual environment with pip in it."""
    shutil.rmtree(venv, ignore_errors=True)
    run(
        [sys.executable, "-m", "venv", venv],
        f"this Python ({sys.executable}) cannot make a virtual environment; on Debian and Ubuntu "
        "`apt install python3-venv` helps, and any Python from python.org, uv or pyenv can.",
    )


def run(command: "list[str]", otherwise: str) -> None:
    """Run a command; on failure raise `Trouble` with the sentence given."""
    if subprocess.call(command) != 0:
        raise Trouble(otherwise)


def read(path: str) -> str:
    """The file's text, or nothing if there is no such file."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Write the file anew."""
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        sys.exit(f"run.py: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
