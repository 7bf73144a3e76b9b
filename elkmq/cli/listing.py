"""Which queues a server has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import click

from elkmq import embedded
from elkmq._core.call import command
from elkmq._endpoint import Endpoint
from elkmq._sync.link import Pool
from elkmq.cli.common import Setup
from elkmq.errors import QueueNameError
from elkmq.keys import QueueKeys
from elkmq.options import check_name


def queue_names(setup: Setup) -> list[str]:
    """The names of all queues, by SCAN: a look at every key of the server, in small steps that hold nobody up.

    Raises:
        click.UsageError: It is a Cluster, whose nodes each know only their own.
    """
    with ExitStack() as stack:
        url = setup.server or stack.enter_context(embedded.server(setup.data)).url
        endpoint = Endpoint.from_url(url)
        if endpoint.cluster:
            raise click.UsageError("on a Cluster, name the queues")
        pool = Pool(endpoint)
        stack.callback(pool.close)
        pattern, names, cursor = QueueKeys("*", setup.prefix).lane(0), set[str](), b"0"
        while True:
            cursor, keys = pool.run(
                command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, parse=_page, doing="list queues")
            )
            names |= {_name(key, setup.prefix) for key in keys}
            if cursor == b"0":
                return sorted(name for name in names if _can_be_asked(name))


def _can_be_asked(name: str) -> bool:
    try:
        check_name(name)
    except QueueNameError as error:
        click.echo(f"left out: {name!r}: {str(error).partition(';')[0]}", err=True)
        return False
    return True


def _page(reply: Sequence[Any]) -> tuple[bytes, list[bytes]]:
    return reply[0], reply[1]


def _name(key: bytes, prefix: str) -> str:
    return key.decode(errors="replace").removeprefix(prefix).rpartition("(")[0]
