"""Redis' own account of the commands it was sent, byte for byte."""

from __future__ import annotations

import re
import socket
import uuid
from itertools import groupby
from types import TracebackType
from typing import Any

_LINE = re.compile(rb"^\+[\d.]+ \[\d+ ([^\]]+)\] (.*)$", re.DOTALL)
_PART = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes.fromhex(code[1:].decode()) if code[:1] == b"x" else _NAMED.get(code, code)


class Monitor:
    """Collects what a server is sent from ``with`` on; `commands` gives it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Monitor:
        self._socket = socket.create_connection(("127.0.0.1", self._port), 30)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(b"MONITOR\r\n")
        assert self._file.readline() == b"+OK\r\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def commands(self) -> list[dict[str, Any]]:
        """All commands so far: number of the connection, the command's words, and how often it came in a row."""
        mark = uuid.uuid4().hex.encode()
        with socket.create_connection(("127.0.0.1", self._port), 30) as other:
            other.sendall(b"ECHO %b\r\n" % mark)
            other.recv(100)
        rows: list[tuple[int, list[str]]] = []
        numbers: dict[bytes, int] = {}
        for line in iter(self._file.readline, b""):
            found = _LINE.match(line.rstrip(b"\r\n"))
            assert found, line
            words = [_ESCAPE.sub(_unescaped, part) for part in _PART.findall(found[2])]
            if words[-1] == mark:
                break
            number = numbers.setdefault(found[1], len(numbers) + 1)
            rows.append((number, [word.decode() for word in words]))
        return [
            {"connection": number, "command": words, "times": sum(1 for _ in group)}
            for (number, words), group in groupby(rows)
        ]
