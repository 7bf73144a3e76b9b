"""The README's quick start for Celery: its files, its command, what it prints."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.docs.test_examples import ROOT
from tests.servers import Server
from tests.waiting import Program

pytestmark = pytest.mark.docs

BLOCK = re.compile(r"^```([\w. ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_celery_quick_start(make_server, make_program, tmp_path: Path) -> None:
    server: Server = make_server()
    section = (ROOT / "README.md").read_text("utf-8").partition("## Celery\n")[2].partition("\n## ")[0]
    blocks = dict(BLOCK.findall(section))
    for name in ("shop.py", "call.py"):
        (tmp_path / name).write_text(blocks[f"python {name}"].replace("localhost:6379", server.url.split("/")[2]))
    command, *arguments = shlex.split(blocks["console"])
    assert command == "celery"
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "C_FORCE_ROOT": "1"}
    worker: Program = make_program(command=[sys.executable, "-m", "celery", *arguments], env=env, merge=True)
    caller: Program = make_program(command=[sys.executable, str(tmp_path / "call.py")], env=env)
    caller.wait(60)
    assert "\n".join(caller.lines) + "\n" == blocks["out"]
    assert not any("Traceback" in line for line in worker.lines)
