"""Calls a Celery task without Celery and awaits its result, with a deadline: the twin of ``rust/src/main.rs``.

    python examples/call_a_celery_task.py shop.add '[2, 3]'

Arguments: the task, its arguments as JSON (``[...]``, ``{...}``, or ``{"args": [...], "kwargs": {...}}``), seconds to wait
(10), and the queue (``celery``). ``ELKMQ_URL`` says where Redis is. The worker is any Celery worker whose ``broker_url`` is
``elkmq://`` and the same server; ``shop.py`` is one.

It prints the result. Its exit status is 1 where the task failed and 2 where nothing came in time: then a worker that has
not begun will not begin, and one that has is stopped by the task's time limit.
"""

from __future__ import annotations

import json
import os
import sys

from elkmq import EventQueue, EventQueueError, RequestFailed, TimeoutExpired


def main(given: list[str]) -> int:
    if not 1 <= len(given) <= 4 or given[0] == "--help":
        print("usage: call_a_celery_task.py TASK [ARGUMENTS [SECONDS [QUEUE]]]", file=sys.stderr)
        return 64
    task, arguments, seconds, name = given + ["[]", "10", "celery"][len(given) - 1 :]
    if not seconds.isdecimal() or not 1 <= int(seconds) <= 65535:
        print("SECONDS is a whole number from 1 to 65535", file=sys.stderr)
        return 64
    timeout = int(seconds)
    try:
        # ``retry_for``: nor does it look for a server that is away for any longer.
        with EventQueue(name, os.environ.get("ELKMQ_URL", "redis://127.0.0.1"), retry_for=timeout) as queue:
            payload = queue.call(task, arguments, timeout=timeout)
    except RequestFailed as error:
        print(f"{task} failed: {error}", file=sys.stderr)
        return 1
    except TimeoutExpired:
        print(f"{task} did not answer within {seconds} s", file=sys.stderr)
        return 2
    except EventQueueError as error:
        print(error, file=sys.stderr)
        return 3
    print(json.dumps(json.loads(payload or "null"), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
