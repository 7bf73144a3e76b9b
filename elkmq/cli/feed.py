"""Events from standard input, as fast as they come: many at once from a file, one by one from a slow pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click

from elkmq import EventQueueError, Send, ServiceEvent
from elkmq._core.outgoing import outgoing
from elkmq.cli.output import shown

CHUNK = 256 * 1024
"""Bytes read at once: what is there is sent, nobody waits for a batch to fill."""

_EVENT = ("action", "payload", "timeout", "uuid")
_HOW = ("delay", "priority", "ttl", "headers", "dedupe_id")
_IGNORED = ("id", "unique_id", "timestamp", "handed_out", "failed", "awaited", "queue")
"""What `elkmq listen --json` says besides, so that its output can be sent on."""


@dataclass(frozen=True)
class Defaults:
    """What holds for every event where its line does not say otherwise."""

    action: str | None
    timeout: int
    delay: float = 0.0
    priority: int = 0
    ttl: float | None = None
    headers: dict[str, Any] | None = None
    dedupe_id: str | None = None
    """With lines: the line's number follows it."""

    def send(self, payload: str | None, number: int | None = None) -> Send:
        """The event with this payload; ``number``: of its line."""
        event = ServiceEvent(self.timeout, self.action or "", payload)
        known_by = self.dedupe_id if self.dedupe_id is None or number is None else f"{self.dedupe_id}-{number}"
        return Send(event, None, self.delay, self.priority, self.ttl, self.headers, known_by)


def chunks_of_lines() -> Iterator[list[bytes]]:
    """The lines of standard input, as many at a time as are there."""
    rest = b""
    while data := os.read(sys.stdin.fileno(), CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def feed(read: Callable[[bytes, int], Send], accept: Callable[[list[Send]], None]) -> None:
    """Read every line as an event and hand over as many at a time as are there.

    Raises:
        click.ClickException: A line is no event, or could not be enqueued; the message says how far it came.
    """
    before = 0
    for lines in chunks_of_lines():
        sends: list[Send] = []
        for number, line in enumerate(lines, before + 1):
            try:
                send = read(line.removesuffix(b"\r"), number)
                outgoing(send)  # checks everything that would be checked after others were sent
                sends.append(send)
            except (ValueError, EventQueueError) as error:
                accept(sends)
                text = str(error).removesuffix(".")
                raise click.ClickException(
                    f"line {number} is no event: {text}; {_said(number - 1)}; correct it and send the rest."
                ) from None
        try:
            accept(sends)
        except EventQueueError as error:
            raise click.ClickException(f"{str(error).removesuffix('.')} ({_said(before)}).") from error
        before += len(lines)


def _said(lines: int) -> str:
    return f"the {lines:,} lines before it are in the queue" if lines else "no line was sent before"


def text_line(defaults: Defaults) -> Callable[[bytes, int], Send]:
    """Reads a line as a payload."""

    def read(line: bytes, number: int) -> Send:
        return defaults.send(_decoded(line), number)

    return read


def json_line(defaults: Defaults) -> Callable[[bytes, int], Send]:
    """Reads a line as a JSON object."""

    def read(line: bytes, number: int) -> Send:
        try:
            found = json.loads(_decoded(line))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004 - the line is at fault, not a caller
        for key in found:
            if key not in _EVENT + _HOW + _IGNORED:
                raise ValueError(f"{shown(key)[:40]!r} is no field of an event ({', '.join(_EVENT + _HOW)})")
        action = found.get("action", defaults.action)
        if action is None:
            raise ValueError("it has no action, and none was given for all")
        payload = found.get("payload")
        if payload is not None and not isinstance(payload, str):
            payload = json.dumps(payload, ensure_ascii=False)  # an object in place of its text is what is meant
        uuid = UUID(str(found["uuid"])) if "uuid" in found else None
        event = ServiceEvent(found.get("timeout", defaults.timeout), action, payload, uuid=uuid)
        base = defaults.send(None, number)
        how = {name: found.get(name, getattr(base, name)) for name in _HOW}
        return Send(event, **how)

    return read


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def whole_input() -> str:
    """Standard input as one payload."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.ClickException("standard input is not UTF-8; nothing was sent; encode it first.") from None
