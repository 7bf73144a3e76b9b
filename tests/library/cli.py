"""Running the command line as its users do: as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from tests.waiting import ROOT

ELKMQ = [sys.executable, "-m", "elkmq.cli"]


@dataclass
class Ended:
    """What a program left behind."""

    status: int
    out: str
    err: str


def elkmq(*arguments, url=None, stdin="", status=0, env=None, timeout=60.0):
    """Run one command to its end and insist on its exit status."""
    full_env = {k: v for k, v in os.environ.items() if not k.startswith("ELKMQ_") or k == "ELKMQ_TEST_SERVERS"}
    full_env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if url is not None:
        full_env["ELKMQ_URL"] = url
    full_env.update(env or {})
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    ended = subprocess.run(
        [*ELKMQ, *arguments], input=data, capture_output=True, env=full_env, timeout=timeout, check=False
    )
    found = Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert found.status == status, found
    assert "Traceback" not in found.err, found.err
    return found
