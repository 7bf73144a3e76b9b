"""Move messages from a broker on ``redis://`` to ``elkmq://``, while both are in use.

::

    python -m kombu_elkmq.migrate --from redis://host:6379/0 --to elkmq://host:6379/0 [--unacked] [QUEUE ...]

Queued messages of every priority are moved, oldest first. Each is taken off the old queue into a list of this command's, and
off that once the new queue has it, by an id of its own: a run that is interrupted is simply started again. With ``--unacked``, to be used once
the old workers are stopped, what they held is moved too, tasks with an ETA or a countdown among it; those wait in the
broker from then on.
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from kombu.connection import Connection

import kombu_elkmq

kombu_elkmq.register()

SEPARATOR = "\x06\x16"
"""Between a queue's name and its priority, in the keys of ``redis://``."""

UNACKED, UNACKED_INDEX = "unacked", "unacked_index"


class Move:
    """The move of one database.

    :param source: connected to the old broker's database
    :param target: to the new one
    :param prefix: ``global_keyprefix`` of the old broker
    """

    def __init__(self, source: Any, target: Connection, prefix: str = "") -> None:
        self._source = source
        self._target = target
        self._prefix = prefix
        self._declared: set[str] = set()
        self.strange = 0
        """Entries that are no messages of Kombu, and were put aside."""

    def queues(self) -> list[str]:
        """The queues that hold something: lists of messages."""
        found = set()
        for key in self._source.scan_iter(f"{self._prefix}*", _type="list"):
            name = key.decode().removeprefix(self._prefix).partition(SEPARATOR)[0]
            head = self._source.lindex(key, 0)
            if head is not None and _looks_like_a_message(head):
                found.add(name)
        return sorted(found)

    def queued(self, queue: str) -> int:
        """Move what waits in a queue; returns how many."""
        hands = self._beside(queue, "migrating")
        moved = self._publish_held(hands, queue)  # of a run that was interrupted
        for key in self._keys(queue):
            while self._source.rpoplpush(key, hands) is not None:  # redis:// takes from the right
                moved += self._publish_held(hands, queue)
        return moved

    def _publish_held(self, hands: str, queue: str) -> int:
        """Publish what was taken off the old queue, where no old worker can take it meanwhile."""
        moved = 0
        while (raw := self._source.lindex(hands, -1)) is not None:
            if _looks_like_a_message(raw):
                self._publish(raw, queue)
                self._source.rpop(hands)
                moved += 1
            else:
                self.strange += 1
                self._source.rpoplpush(hands, self._beside(queue, "not_messages"))
        return moved

    def _beside(self, queue: str, what: str) -> str:
        """A list of this command's, named as if for a priority: no worker reads it, and `queues` finds it."""
        return f"{self._prefix}{queue}{SEPARATOR}{what}"

    def unacked(self, queues: Iterable[str] = ()) -> int:
        """Move what stopped workers held; returns how many."""
        wanted, moved = set(queues), 0
        for tag, held in self._source.hgetall(self._prefix + UNACKED).items():
            message, _exchange, routing_key = json.loads(held)
            if wanted and routing_key not in wanted:
                continue
            self._publish(json.dumps(message).encode(), routing_key)
            with self._source.pipeline() as pipeline:
                pipeline.hdel(self._prefix + UNACKED, tag).zrem(self._prefix + UNACKED_INDEX, tag).execute()
            moved += 1
        return moved

    def _keys(self, queue: str) -> Iterator[str]:
        yield self._prefix + queue
        for priority in range(1, 256):
            key = f"{self._prefix}{queue}{SEPARATOR}{priority}"
            if self._source.exists(key):
                yield key

    def _publish(self, raw: bytes, queue: str) -> None:
        channel: Any = self._target.default_channel
        if queue not in self._declared:
            channel.queue_declare(queue)
            self._declared.add(queue)
        old = json.loads(raw)
        properties = dict(old["properties"])
        body: Any = old["body"]
        if properties.pop("body_encoding", None) == "base64":
            body = b64decode(body)
        properties.pop("delivery_info", None)
        tag = properties.pop("delivery_tag", None)
        if tag:
            properties.setdefault("message_id", f"migrated-{tag}")
        message = channel.prepare_message(
            body, properties.pop("priority", 0), old.get("content-type"), old.get("content-encoding"), old.get("headers") or {},
            properties,
        )  # fmt: skip
        channel.basic_publish(message, exchange="", routing_key=queue)


def _looks_like_a_message(raw: bytes) -> bool:
    try:
        found = json.loads(raw)
    except ValueError:
        return False
    return isinstance(found, dict) and "body" in found and isinstance(found.get("properties"), dict)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kombu_elkmq.migrate", description="Move messages from redis:// to elkmq://."
    )
    parser.add_argument(
        "--from", dest="source", required=True, metavar="URL", help="the old broker, redis:// or rediss://"
    )
    parser.add_argument("--to", dest="target", required=True, metavar="URL", help="the new one, elkmq://")
    parser.add_argument("--prefix", default="", help="the old broker's global_keyprefix")
    parser.add_argument("--unacked", action="store_true", help="also what the old workers held; stop them first")
    parser.add_argument("queues", nargs="*", metavar="QUEUE", help="default: every queue that holds something")
    given = parser.parse_args(arguments)
    if urlsplit(given.source).scheme not in ("redis", "rediss", "unix"):
        parser.error("--from is not a redis:// url")
    source = redis.Redis.from_url(given.source)
    with Connection(given.target) as target:  # type: ignore[no-untyped-call]
        move = Move(source, target, given.prefix)
        if given.unacked:
            print(f"{move.unacked(given.queues)} moved that workers held", flush=True)  # noqa: T201
        for queue in given.queues or move.queues():
            print(f"{move.queued(queue)} moved from {queue}", flush=True)  # noqa: T201
    if move.strange:
        kept = f"{move.strange} are no messages; they are kept in lists named QUEUE\\x06\\x16not_messages"
        print(kept, file=sys.stderr)  # noqa: T201
    return 1 if move.strange else 0


if __name__ == "__main__":
    sys.exit(main())
