"""The tool that writes the sync shell."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

from tests.waiting import ROOT


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("async_to_sync", ROOT / "tools" / "async_to_sync.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turned(tool, source):
    header, _, text = tool.convert(textwrap.dedent(source), "shell.py").partition("\n")
    assert header == "# Generated from elkmq/_aio/shell.py by tools/async_to_sync.py; edit that."
    return text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f(): await g()", "def f(): g()"),
        ("async with a as b, c: pass", "with a as b, c: pass"),
        ("x = [y async for y in z if await y]", "x = [y for y in z if y]"),
        ("x = (await f()).g(await h(await i()))", "x = (f()).g(h(i()))"),
        ("return await   f()", "return f()"),
        ("async def __aiter__(self) -> AsyncIterator[int]: yield 1", "def __iter__(self) -> Iterator[int]: yield 1"),
        ("def f(g: Callable[[int], Awaitable[None] | None]): pass", "def f(g: Callable[[int], None | None]): pass"),
        ("x: Awaitable[dict[str, list[int]]]", "x: dict[str, list[int]]"),
        ("from elkmq._aio.link import Channel", "from elkmq._sync.link import Channel"),
        ("await stack.enter_async_context(x)", "stack.enter_context(x)"),
        ("class C:\n    async def __aenter__(self): pass\n", "class C:\n    def __enter__(self): pass\n"),
        ("x = 'await, async with and _aio in a string stay'", "x = 'await, async with and _aio in a string stay'"),
        ("x = 1  # await f() of elkmq.aio", "x = 1  # f() of elkmq"),
        ('"""Use ``async with`` and ``await x``, see `_aio`; awaited asynchronous things."""',
         '"""Use ``with`` and ``x``, see `_sync`; awaited asynchronous things."""'),
        ("awaiting = asyncify = 1", "awaiting = asyncify = 1"),
        ("x = await \\\n    f()", "x = f()"),
    ],
)  # fmt: skip
def test_what_becomes_of_asyncio_code(tool, source, expected):
    assert turned(tool, source) == expected


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\nasyncio.sleep(1)", "shell.py:2: asyncio by name"),
        ("import asyncio", "shell.py:1: asyncio by name"),
    ],
)
def test_what_it_refuses(tool, source, words):
    with pytest.raises(tool.Unfit, match=words):
        tool.convert(source, "shell.py")


def test_an_f_string_with_await(tool):
    if sys.version_info >= (3, 12):  # there its parts are tokens
        assert turned(tool, "x = f'{await y}'") == "x = f'{y}'"
    else:
        with pytest.raises(tool.Unfit, match="await in an f-string"):
            tool.convert("x = f'{await y}'", "shell.py")


def test_the_sync_shell_is_fresh():
    pytest.importorskip("ruff")
    done = subprocess.run(
        [sys.executable, "tools/async_to_sync.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_twin_and_one_without_a_source_are_found_and_mended(tool, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ruff")
    source, target = tmp_path / "_aio", tmp_path / "_sync"
    for folder in (source, target):
        folder.mkdir()
        (folder / "link.py").write_text("by hand\n")
    (source / "shell.py").write_text("from typing import Any, Awaitable\nasync def f() -> Any:\n  await g()\n")
    (target / "orphan.py").write_text("")
    monkeypatch.setattr(tool, "SOURCE", source)
    monkeypatch.setattr(tool, "TARGET", target)
    monkeypatch.setattr(sys, "argv", ["async_to_sync", "--check"])
    assert tool.main() == 1
    assert not (target / "shell.py").exists()
    output = capsys.readouterr().out
    assert "shell.py is out of date" in output
    assert "orphan.py (has no source)" in output
    monkeypatch.setattr(sys, "argv", ["async_to_sync"])
    assert tool.main() == 0
    assert (target / "shell.py").read_text() == (
        "# Generated from elkmq/_aio/shell.py by tools/async_to_sync.py; edit that.\n"
        "from typing import Any\n\n\ndef f() -> Any:\n    g()\n"
    )
    assert not (target / "orphan.py").exists()
    assert (target / "link.py").read_text() == "by hand\n"
    monkeypatch.setattr(sys, "argv", ["async_to_sync", "--check"])
    assert tool.main() == 0
