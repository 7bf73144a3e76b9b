"""What a wheel of this tree holds, and what installing it does to others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email import message_from_string
from importlib import metadata

import pytest

from tests.waiting import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ("elkmq", "kombu_elkmq", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        target,
        source,
    ]
    subprocess.run(command, check=True, timeout=120)
    with zipfile.ZipFile(next(target.glob("elkmq-*.whl"))) as archive:
        yield archive


def test_every_module_script_and_marker_is_in_the_wheel(wheel):
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("elkmq", "kombu_elkmq")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".lua") or path.name == "py.typed"
    }
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"elkmq/py.typed", "kombu_elkmq/py.typed"} <= wanted
    assert wanted <= inside
    assert not [name for name in inside if not name.startswith(("elkmq/", "kombu_elkmq/"))]


def test_the_base_install_needs_redis_py_alone(wheel):
    path = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    wants = message_from_string(wheel.read(path).decode()).get_all("Requires-Dist")
    assert [want for want in wants if "extra ==" not in want] == ["redis>=5.3"]


def test_the_entry_points_lead_somewhere(wheel):
    points = ConfigParser()
    points.read_string(
        wheel.read(next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))).decode()
    )
    assert points["console_scripts"]["elkmq"] == "elkmq.cli:main"
    point = metadata.EntryPoint("elkmq", points["kombu.serializers"]["elkmq"], "kombu.serializers")
    encoder, decoder, content_type = point.load()  # Kombu unpacks it; a function here would break Kombu's import
    assert (encoder, decoder) == (None, None)
    assert content_type == "application/x-elkmq"


def test_a_registration_that_fails_does_not_break_kombu(make_program):
    program = make_program("""
import kombu_elkmq
def fails(): raise RuntimeError("no luck today")
kombu_elkmq.register = fails
import kombu_elkmq._entry_point
print("LOADED", kombu_elkmq._entry_point.SERIALIZER)
""")
    program.wait_for("LOADED")
    program.wait()
    assert "no luck today" in program.errors
