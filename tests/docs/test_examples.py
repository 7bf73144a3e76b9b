"""Every example of the README and the docs runs as it stands and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.waiting import Program

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
URL = "redis://127.0.0.1"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.docs


def examples() -> list[tuple[str, str, str | None]]:
    """(name, source, what it prints) of each block of Python; the block ``out`` after it is what it prints."""
    found = []
    for page in PAGES:
        blocks = FENCE.findall(page.read_text("utf-8"))
        for n, (language, source) in enumerate(blocks):
            if language == "python":
                following = blocks[n + 1] if n + 1 < len(blocks) else ("", "")
                found.append((f"{page.stem}-{n}", source, following[1] if following[0] == "out" else None))
    return found


@pytest.mark.parametrize(("source", "expected"), [pytest.param(s, e, id=name) for name, s, e in examples()])
def test_an_example_runs_as_it_stands(
    source: str, expected: str | None, name: str, fast_url: str, make_program
) -> None:
    # Its queue gets a name of its own: examples share one server.
    queues = set(re.findall(r'EventQueue\("([^"]+)"', source))
    for queue in queues:
        source = source.replace(f'EventQueue("{queue}"', f'EventQueue("{queue}-{name}"')
    program: Program = make_program(source.replace(URL, fast_url))
    program.wait()
    if expected is not None:
        assert "\n".join(program.lines) + "\n" == expected


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
