"""A client on a Python module, told what to do as `rust/src/main.rs` is: ``python -m tests.interop.speaker MODULE QUEUE URL``.

MODULE is ``elk_mq``, the original, or `tests.interop.replay`, or `elkmq.elk_mq`. The original keeps every other thread of
its process waiting, so it is spoken to across a pipe.
"""

from __future__ import annotations

import importlib
import json
import sys
import uuid
from typing import Any


def shown(event: Any) -> dict[str, Any]:
    fields = event.to_dict()
    return {**fields, "uuid": str(uuid.UUID(fields["uuid"]).int)}


class Client:
    def __init__(self, module: Any, queue: str, url: str) -> None:
        self.module, self.url = module, url
        self.queue = module.EventQueue(queue, url)
        self.last: Any = None

    def call(self, order: dict[str, Any]) -> Any:
        return getattr(self, order["call"])(order)

    def event(self, order: dict[str, Any]) -> Any:
        return self.module.ServiceEvent(order["timeout"], order["action"], order.get("payload"))

    def keep(self, taken: tuple[int, Any]) -> Any:
        self.last = taken[1]
        return [taken[0], shown(taken[1])]

    def use(self, order: dict[str, Any]) -> None:
        self.queue = self.module.EventQueue(order["queue"], self.url)

    def enqueue(self, order: dict[str, Any]) -> Any:
        event = self.event(order)
        return [self.queue.enqueue(event), shown(event)["uuid"]]

    def dequeue(self, order: dict[str, Any]) -> Any:
        return self.keep(self.queue.dequeue())

    def dequeue_blocking(self, order: dict[str, Any]) -> Any:
        return self.keep(self.queue.dequeue_blocking(order["seconds"]))

    def respond(self, order: dict[str, Any]) -> None:
        response = self.module.ServiceEvent.create_response(self.last, order["action"], order.get("payload"))
        self.queue.enqueue_response(response)

    def serve(self, order: dict[str, Any]) -> None:
        self.dequeue_blocking(order)
        self.respond({"action": order["action"], "payload": self.last.to_dict()["payload"]})

    def await_response(self, order: dict[str, Any]) -> Any:
        event = self.event(order)
        timestamp, response = self.queue.await_response(event)
        return [shown(event)["uuid"], timestamp, shown(response)]


def main() -> None:
    client = Client(importlib.import_module(sys.argv[1]), sys.argv[2], sys.argv[3])
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            for _ in range(order.get("times", 1)):
                answer = {"returned": client.call(order)}
        except RuntimeError as error:
            answer = {"raised": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
