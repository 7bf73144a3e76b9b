"""Rubbish in the queue, as a broken program writes it, with workers on it."""

from __future__ import annotations

import json
import random

from elkmq import EventQueue
from elkmq.cli.chaos.faults.base import Fault
from elkmq.cli.chaos.faults.servers import client_of
from elkmq.cli.chaos.plan import with_scheme
from elkmq.cli.chaos.records import now
from elkmq.cli.chaos.stage import Stage

PIECES = 60
"""Unreadable entries for each strike and queue."""

HUGE = 1_000_000
"""Bytes of a huge one."""

FIELDS = (
    "v",
    "ttl",
    "first",
    "unique",
    "reply_to",
    "headers",
    "kombu",
    "handed_out",
    "failed",
    "error",
    "priority",
    "x",
)


def unreadable(rng: random.Random) -> dict[bytes, bytes]:
    """An entry whose event cannot be read, with whatever else."""
    whole = json.dumps(
        {"request_uuid": rng.getrandbits(128), "timeout": rng.randrange(65536), "action": "chaos", "payload": "1"}
    ).encode()
    event = rng.choice((
        whole[: rng.randrange(len(whole))],
        rng.randbytes(rng.randrange(200)) + b"\xff",
        b"[" * rng.randrange(1, 5000),
        b'{"request_uuid": 1}',
        b"null",
        b"x" * HUGE if rng.random() < 0.05 else b"x",
        whole.replace(b"chaos", b"\xed\xa0\x80"),
    ))  # fmt: skip
    entry = {b"event": event} if rng.random() < 0.9 else {b"nothing": event}
    for name in rng.sample(FIELDS, rng.randrange(4)):
        entry[name.encode()] = rng.choice((b"", b"-1", b"NaN", b"9" * 40, rng.randbytes(20), event[:300]))
    return entry


def wire(stage: Stage) -> None:
    """Write what nobody can read into every queue, while messages go on."""
    written = dict.fromkeys(stage.settings.kinds, 0)
    with client_of(stage) as client:
        stage.begin()
        for _ in range(stage.settings.rounds):
            stage.run(stage.settings.pause / 2)
            for lane in stage.lanes:
                pipe = client.pipeline(transaction=False)
                for _ in range(PIECES):
                    pipe.xadd(f"{lane.queue}(event_stream)", unreadable(stage.rng))
                pipe.execute()
                written[lane.kind.name] += PIECES
            at = now()
            stage.recovered(at)

        def buried() -> dict[str, int]:
            found = {}
            for lane in stage.lanes:
                with EventQueue(lane.queue, with_scheme(stage.url, "redis")) as queue:
                    stats = queue.stats()
                    found[lane.kind.name] = stats.dead + stats.expired  # a time to live of -1 is over at once
            return found

        stage.until(lambda: buried() == written, 20.0)
        dead = buried()
        stage.recovered(now())
        stage.finish()
    for kind, count in written.items():
        stage.promise(
            f"{kind}: of {count} unreadable entries {dead[kind]} are dead letters, or had expired", dead[kind] == count
        )


FAULTS = (Fault("wire", "entries that nobody can read", wire, recovers=1.0, own_server=True, compared=False),)
