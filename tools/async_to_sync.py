#!/usr/bin/env python3
"""Write the sync shell, ``elkmq/_sync``, from the asyncio shell, ``elkmq/_aio``.

    python tools/async_to_sync.py            write what is out of date, remove what has no source any more
    python tools/async_to_sync.py --check    write nothing; exit status 1 if something would be written

It works on tokens: ``async`` and ``await`` go, names with an asynchronous and a plain form change to the plain one, and
``Awaitable[T]`` becomes ``T``. Comments and docstrings follow, everything else stays as it was written. Ruff then sorts
the imports, drops those that nothing needs any more, and formats. A shell takes what differs beyond that from
``_concurrency``; so a source that names ``asyncio`` itself is an error here.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "elkmq" / "_aio"
TARGET = ROOT / "elkmq" / "_sync"

BY_HAND = {"__init__.py", "_concurrency.py", "channel.py", "ending.py", "inbox.py", "line.py", "link.py", "mending.py"}
"""What is written twice, since the two flavours have nothing but the names in common; ``ending.py`` is asyncio's alone."""

HEADER = "# Generated from elkmq/_aio/{name} by tools/async_to_sync.py; edit that.\n"

NAMES = {
    "AsyncExitStack": "ExitStack",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "_aio": "_sync",
    "aclosing": "closing",
    "aconnect": "connect",
    "aiter": "iter",
    "anext": "next",
    "asynccontextmanager": "contextmanager",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "push_async_exit": "push",
}
"""Names that have another form in sync code. A name that asyncio code gives its own meaning must not be among them."""

TEXT: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\b(?:async|await) (?=\w)"), ""),
    (re.compile(r"\belkmq\.aio\b"), "elkmq"),
    (re.compile(r"\b(" + "|".join(NAMES) + r")\b"), lambda found: NAMES[found.group(1)]),
]
"""What changes inside docstrings and comments."""

Token = tokenize.TokenInfo
Edit = tuple[tuple[int, int], tuple[int, int], str]


class Unfit(Exception):
    """A source that cannot be turned; the argument says where and why."""


def convert(source: str, name: str) -> str:
    """The sync form of a module's text, not yet formatted."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    for start, end, text in sorted(_edits(tokens, name), reverse=True):
        _replace(lines, start, end, text)
    return HEADER.format(name=name) + "".join(lines)


def _edits(tokens: list[Token], name: str) -> Iterator[Edit]:
    beginning = True  # of a statement: a string here is a docstring
    for at, token in enumerate(tokens):
        word = token.string
        if token.type == tokenize.NAME:
            if word in ("async", "await"):
                yield token.start, tokens[at + 1].start, ""
            elif word == "asyncio":
                raise Unfit(
                    f"elkmq/_aio/{name}:{token.start[0]}: asyncio by name; put what is needed into _concurrency"
                )
            elif word == "Awaitable" and tokens[at + 1].string == "[":
                closing = _closing(tokens, at + 1)
                yield token.start, tokens[at + 1].end, ""
                yield closing.start, closing.end, ""
            elif word in NAMES:
                yield token.start, token.end, NAMES[word]
        elif token.type == tokenize.COMMENT or (token.type == tokenize.STRING and beginning):
            yield token.start, token.end, _in_text(word)
        elif token.type == tokenize.STRING and "f" in word[:2].lower() and "await " in word:
            raise Unfit(f"elkmq/_aio/{name}:{token.start[0]}: await in an f-string; give the value a name before")
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            beginning = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)


def _closing(tokens: list[Token], at: int) -> Token:
    """The bracket that closes the one at this index."""
    depth = 0
    for token in tokens[at:]:
        depth += {"[": 1, "]": -1}.get(token.string, 0)
        if not depth:
            return token
    raise Unfit("a bracket is never closed")


def _in_text(text: str) -> str:
    for pattern, replacement in TEXT:
        text = pattern.sub(replacement, text)
    return text


def _replace(lines: list[str], start: tuple[int, int], end: tuple[int, int], text: str) -> None:
    (first, left), (last, right) = start, end
    lines[first - 1 : last] = [lines[first - 1][:left] + text + lines[last - 1][right:]]


def _ruff(text: str, path: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise Unfit(f"{path.name}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def generated(source: Path) -> str:
    """The whole text of a module's sync twin."""
    path = TARGET / source.name
    text = convert(source.read_text("utf-8"), source.name)
    text = _ruff(text, path, "check", "--fix-only", "--select", "I001,F401")
    return _ruff(text, path, "format")


def main() -> int:
    """Write the twins, or say which ones are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if something is out of date")
    check = parser.parse_args().check
    sources = {path.name: path for path in SOURCE.glob("*.py") if path.name not in BY_HAND}
    stale = []
    for name, source in sorted(sources.items()):
        target = TARGET / name
        text = generated(source)
        if not target.exists() or target.read_text("utf-8") != text:
            stale.append(name)
            if not check:
                target.write_text(text, "utf-8")
    for target in sorted(TARGET.glob("*.py")):
        if target.name not in sources and target.name not in BY_HAND:
            stale.append(f"{target.name} (has no source)")
            if not check:
                target.unlink()
    for name in stale:
        print(f"elkmq/_sync/{name}", "is out of date: run tools/async_to_sync.py" if check else "written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unfit as error:
        sys.exit(str(error))
