"""Move messages from a broker on ``redis://`` to ``elkmq://``, while both are in use.

::

    python -m kombu_elkmq.migrate --from redis://host:6379/0 --to elkmq://host:6379/0 [--unacked] [QUEUE ...]

Queued messages of every priority are moved, oldest first. Each is taken off the old queue into a list of this command's, and
off that once the new queue has it, by an id of its own: a run that is interrupted is simply started again. With ``--unacked``, to be used once
the old workers are stopped, what they held is moved too, tasks with an ETA or a countdown among it; those wait in the
broker from then on.

A queue that nobody has declared at the new broker is moved only where it is named: how to declare it is for its programs to
say, and what looks like a queue may be a priority of one (``--sep``).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import redis
from amqp.exceptions import AMQPError, NotFound
from kombu.connection import Connection

import kombu_elkmq
from elkmq.errors import EventQueueError, InvalidOption
from kombu_elkmq.old_broker import FORMS, OldBroker

kombu_elkmq.register()

SEPARATOR = "\x06\x16"
"""Between a queue's name and its priority, in the keys of ``redis://``; its option ``sep``."""

BINDINGS = "_kombu.binding."
"""Before an exchange's name: the set of its bindings, routing key, pattern and queue with `SEPARATOR` between them."""


class Move:
    """The move of one database.

    :param source: connected to the old broker's database
    :param target: to the new one
    :param prefix: ``global_keyprefix`` of the old broker
    """

    def __init__(
        self,
        source: Any,
        target: Connection,
        prefix: str = "",
        *,
        sep: str = SEPARATOR,
        unacked: str = "unacked",
        unacked_index: str = "unacked_index",
    ) -> None:
        self._source = source
        self._target = target
        self._prefix = prefix
        self._sep = sep
        self._unacked, self._unacked_index = prefix + unacked, prefix + unacked_index
        self.left: dict[str, str] = {}
        """What was not moved, and why."""

    def queues(self) -> list[str]:
        """The queues that hold something: lists of messages."""
        found = set()
        for key in self._source.scan_iter(f"{self._prefix}*", _type="list"):
            head = self._source.lindex(key, 0)
            if head is not None and _looks_like_a_message(head):
                found.add(self._queue_of(key.decode(errors="replace").removeprefix(self._prefix)))
        return sorted(found)

    def _queue_of(self, key: str) -> str:
        for sep in {SEPARATOR, self._sep}:
            name, found, tail = key.rpartition(sep)
            if found and (sep == SEPARATOR or tail.isdecimal()):
                return name
        return key

    def declared(self, queue: str) -> bool:
        """Whether the new broker has the queue; where it has not, that is noted."""
        channel: Any = self._target.default_channel
        try:
            channel.queue_declare(queue, passive=True)
        except NotFound:
            self.left[queue] = (
                "the new broker has no such queue: start its workers there first, or name it in the command (what looks like a "
                "queue may be a priority of one: then give --sep)"
            )
            return False
        return True

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
                aside = self._beside(queue, "not_messages")
                self._source.rpoplpush(hands, aside)
                self.left[aside.replace(SEPARATOR, "\\x06\\x16")] = "what is in this list is no message of Kombu's"
        return moved

    def _beside(self, queue: str, what: str) -> str:
        """A list of this command's, named as if for a priority: no worker reads it, and `queues` finds it."""
        return f"{self._prefix}{queue}{SEPARATOR}{what}"

    def unacked(self, queues: Iterable[str] = ()) -> int:
        """Move what stopped workers held; returns how many."""
        wanted, moved = set(queues), 0
        for tag, held in self._source.hgetall(self._unacked).items():
            try:
                message, exchange, routing_key = json.loads(held)
                raw = json.dumps(message).encode()
            except ValueError:
                raw, exchange, routing_key = b"", "", ""
            if not _looks_like_a_message(raw):
                self.left[f"{self._unacked} {tag.decode(errors='replace')}"] = "it is no message; it stays there"
                continue
            bound = self._bound(exchange, routing_key)
            found = [queue for queue in bound if not wanted or queue in wanted]
            if len(found) == 1:
                if wanted or self.declared(found[0]):
                    self._publish(raw, found[0])
                    with self._source.pipeline() as pipeline:
                        pipeline.hdel(self._unacked, tag).zrem(self._unacked_index, tag).execute()
                    moved += 1
            elif not wanted or found:
                among = (
                    f"one of {', '.join(bound)}: name the one"
                    if bound
                    else "no queue that is known: publish it again by hand"
                )
                self.left[f"what workers held of exchange {exchange!r}, routing key {routing_key!r}"] = (
                    f"it was in {among}"
                )
        return moved

    def _bound(self, exchange: str, routing_key: str) -> list[str]:
        """The queues that the old broker leads a message to, by its bindings, as its workers put back what they held."""
        if not exchange:
            return [routing_key]
        found = set()
        for binding in self._source.smembers(f"{self._prefix}{BINDINGS}{exchange}"):
            key, pattern, queue = binding.decode(errors="replace").split(self._sep, 2)
            if re.match(pattern, routing_key) if pattern else key == routing_key:
                found.add(queue)
        return sorted(found)

    def _keys(self, queue: str) -> Iterator[str]:
        yield self._prefix + queue
        for priority in range(1, 256):
            key = f"{self._prefix}{queue}{self._sep}{priority}"
            if self._source.exists(key):
                yield key

    def _publish(self, raw: bytes, queue: str) -> None:
        channel: Any = self._target.default_channel
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
        properties = found["properties"]
        if properties.get("body_encoding") == "base64":
            b64decode(found["body"])
        return "body" in found and isinstance(found.get("headers") or {}, dict)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A sentence, as the `elkmq` command has it."""
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` shows how it is used.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m kombu_elkmq.migrate", description="Move messages from redis:// to elkmq://.")
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help=f"the old broker: {FORMS}")
    parser.add_argument("--master-name", metavar="NAME", help="the service, where the old broker is sentinel://")
    parser.add_argument("--to", dest="target", required=True, metavar="URL", help="the new one, elkmq://")
    parser.add_argument("--prefix", default="", help="the old broker's global_keyprefix")
    parser.add_argument("--sep", default=SEPARATOR, help="its option sep, between a queue's name and a priority")
    parser.add_argument("--unacked", action="store_true", help="also what the old workers held; stop them first")
    parser.add_argument("--unacked-key", default="unacked", metavar="KEY", help="its option unacked_key")
    parser.add_argument("--unacked-index-key", default="unacked_index", metavar="KEY", help="its option of this name")
    parser.add_argument("queues", nargs="*", metavar="QUEUE", help="default: every queue that holds something")
    return parser


def _run(given: argparse.Namespace, old: OldBroker) -> int:
    try:
        target = Connection(given.target)  # type: ignore[no-untyped-call]
    except ValueError as error:  # of Kombu, which takes urls apart before any transport sees them
        raise InvalidOption(f"--to: the url makes no sense ({error}); nothing was moved; correct it.") from None
    with target:
        target.connect()  # type: ignore[no-untyped-call]
        move = Move(
            old.connect(),
            target,
            given.prefix,
            sep=given.sep,
            unacked=given.unacked_key,
            unacked_index=given.unacked_index_key,
        )
        if given.unacked:
            print(f"{move.unacked(given.queues)} moved that workers held", flush=True)  # noqa: T201
        for queue in given.queues or [queue for queue in move.queues() if move.declared(queue)]:
            print(f"{move.queued(queue)} moved from {queue}", flush=True)  # noqa: T201
    for what, why in move.left.items():
        print(f"not moved: {what}; {why}", file=sys.stderr)  # noqa: T201
    return 1 if move.left else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its exit status: 0, 1 where something was left, 2 where it could not be done."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.target.startswith(("elkmq://", "elkmqs://", "elkmq+", "elkmqs+")):
        parser.error("--to is not an elkmq:// url")
    try:
        old = OldBroker(given.source, given.master_name)
        try:
            return _run(given, old)
        except redis.RedisError as error:
            raise old.failed(error) from error
    except (EventQueueError, AMQPError) as error:
        sentence = error.reply_text if isinstance(error, AMQPError) else str(error)
        print(f"{parser.prog}: {sentence}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
