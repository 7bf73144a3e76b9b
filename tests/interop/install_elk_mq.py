"""Install the original, ``elk-mq`` 0.1.1, into the Python that runs this: ``python tests/interop/install_elk_mq.py``.

Needs Rust and crates.io. Its ``Cargo.toml`` takes the binding library ``cpython`` from a fork on GitHub. Where that cannot
be had, this builds the same sources with the ``cpython`` 0.7 that crates.io has; the queue's own code is not touched.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "elk-mq==0.1.1"
FORK = 'git="https://github.com/nemjit001/rust-cpython", '


def pip(*arguments: str) -> bool:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode == 0


def main() -> int:
    if pip("install", PACKAGE):
        return 0
    print("As published it does not build here; trying the binding library from crates.io.", flush=True)
    with tempfile.TemporaryDirectory(prefix="elkmq-") as name:
        folder = Path(name)
        if not pip("download", "--no-deps", "--no-binary", ":all:", "--dest", name, PACKAGE):
            return 1
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        manifest = next(folder.glob("*/Cargo.toml"))
        text = manifest.read_text("utf-8")
        if FORK not in text:
            print("Its Cargo.toml is not the one known: install it by hand.", file=sys.stderr)
            return 1
        manifest.write_text(text.replace(FORK, ""), "utf-8")
        return 0 if pip("install", str(manifest.parent)) else 1


if __name__ == "__main__":
    sys.exit(main())
