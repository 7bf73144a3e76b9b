"""The example that calls a Celery task, in Rust and in Python, with a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import Server
from tests.waiting import ROOT, Program

EXAMPLES = Path(ROOT) / "examples"
BUILT = EXAMPLES / "rust" / "target" / "release" / "call-a-celery-task"

CALLS = [
    (["shop.add", "[2, 3]"], 0, "5"),
    (["shop.add", '{"x": 40, "y": 2}', "10", "celery"], 0, "42"),
    (["shop.greet", '{"args": ["Ö \U0001f98c"]}'], 0, '"Hello, Ö \U0001f98c!"'),
    (["shop.divide", "[1, 0]"], 1, "ZeroDivisionError: division by zero"),
    (["shop.slow", "[30]", "1"], 2, "did not answer within 1 s"),
    (["shop.add", "[1, 1]"], 0, "2"),  # the slow one was stopped by its limit; the worker goes on
    (["shop.add", "[1, 1]", "1", "nobody-there"], 2, "did not answer within 1 s"),
    (["shop.add", "[1, 1]", "soon"], 64, "SECONDS is a whole number"),
    (["shop.add", "[1, 1]", "0"], 64, "SECONDS is a whole number"),
    (["shop.add", "[1, 1]", "1", "celery", "more"], 64, "usage:"),
    (["--help"], 64, "usage:"),
]


@pytest.mark.parametrize("language", ["python", "rust"])
def test_a_task_is_called_with_a_deadline(
    language: str, make_server: Callable[..., Server], make_program: Callable[..., Program]
) -> None:
    command = [sys.executable, str(EXAMPLES / "call_a_celery_task.py")]
    if language == "rust":
        binary = os.environ.get("ELKMQ_RUST_EXAMPLE", str(BUILT))
        if "ELKMQ_RUST_EXAMPLE" not in os.environ and not BUILT.exists():
            pytest.skip("the example is not built: cargo build --release --manifest-path examples/rust/Cargo.toml")
        command = [binary]
    env = {"ELKMQ_URL": make_server().url}
    worker = make_program(
        command=[sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "1", "-l", "INFO"],
        env={**env, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(ROOT)])},
        merge=True,
    )
    worker.wait_for(" ready.", timeout=40)
    for arguments, status, text in CALLS:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env={**os.environ, **env}, timeout=60, check=False
        )
        assert (done.returncode, text in done.stdout + done.stderr) == (status, True), (arguments, done)
        assert status or done.stdout == text + "\n"
