"""Requests: their responses, between clients of ours and those of elk-mq 0.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elkmq._core.call import HOLE, Call, Form, command
from elkmq._core.entry import Entry
from elkmq._core.verbs.bound import Bound, OfQueue


class RequestVerbs(OfQueue):
    """Respond, and wait for responses."""

    _respond: Bound[tuple[str, int]] = Bound(
        "respond",
        lambda raw: (raw[0].decode(), int(raw[1].partition(b"-")[0])),
        doing="send the response",
        fate="it is not known whether it was sent; sent again, it is sent once",
    )

    def respond(
        self, request_uuid: str, timeout: int, response: bytes, asked: int | None = None
    ) -> Call[tuple[str, int]]:
        """Answer a request known by its event only; returns (sent | late | nobody, server ms).

        A request is answered once: a second response is not sent and reported as the first was.
        """
        return self._respond(request_uuid, timeout, response, "" if asked is None else asked)

    def wait_for_responses(self, inbox: str) -> Form[list[tuple[bytes, bytes, bytes]]]:
        """Block for responses: (id, request's uuid, response JSON), ...; to be given ms at most, and after which id."""
        return Form(
            command("XREAD", "COUNT", 1000, "BLOCK", HOLE, "STREAMS", self.keys.replies(inbox), HOLE, parse=_responses)
        )

    def wait_for_originals(self, last: bytes, block: int) -> Call[list[tuple[bytes, bytes, bytes]]]:
        """Block up to ``block`` ms for what responders of elk-mq 0.1 write after ``last``: (id, request's uuid, response's id)."""
        return command(
            "XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", self.keys.of("response_stream"), last,
            parse=_originals, block=block / 1000,
        )  # fmt: skip

    _forward: Bound[str] = Bound(
        "forward", bytes.decode, doing="read the response", fate="it may be lost to its requester"
    )

    def forward(self, uuid: bytes, pointer: bytes, response: bytes) -> Call[str]:
        """Move the response of such a responder to its requester's inbox; returns sent | late | nobody."""
        return self._forward(uuid, pointer, response, self.counting)

    def forget_responses(self, inbox: str, ids: Sequence[bytes]) -> Call[int]:
        """Remove responses that were read."""
        return command("XDEL", self.keys.replies(inbox), *ids, parse=int)

    def forget_inbox(self, inbox: str) -> Call[int]:
        """Remove an inbox with all that is in it."""
        return command("UNLINK", self.keys.replies(inbox), parse=int)

    _keep_response: Bound[int] = Bound("keep_response", int)

    def keep_response(self, entry: Entry) -> list[Call[int]]:
        """Leave a response between clients of elk-mq 0.1 where it is, until nobody can be waiting for it any more."""
        return [self._keep_response(entry.id, entry.fields[b"response"])]


def _responses(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> list[tuple[bytes, bytes, bytes]]:
    if not raw:
        return []
    return [
        (id_, fields[3], fields[1])
        if fields[0] == b"response" and fields[2] == b"uuid"  # as complete.lua and respond.lua write it
        else (id_, fields[fields.index(b"uuid") + 1], fields[fields.index(b"response") + 1])
        for id_, fields in raw[0][1]
    ]


def _originals(raw: Sequence[tuple[bytes, Sequence[Any]]] | None) -> list[tuple[bytes, bytes, bytes]]:
    return [(id_, fields[0], fields[1]) for id_, fields in raw[0][1]] if raw else []
