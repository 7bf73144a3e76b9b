"""The command line: ``elkmq`` or ``python -m elkmq.cli``. Needs the extra ``cli``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 done, 1 it failed, 2 it was called wrongly, 130 Ctrl-C."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        sys.exit(
            f"elkmq: the command line needs {' and '.join(missing)}, which the library itself does without; nothing was "
            "done; `pip install elkmq[cli]` brings what it needs."
        )
    from elkmq.cli.app import run

    sys.exit(run())
