"""The ACL of docs/server.md is enough for everything a client does, and names nothing that no client needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kombu import Connection, Exchange, Message, Queue

import kombu_elkmq
from elkmq import EmptyQueue, EventQueue, Send, ServiceEvent, TimeoutExpired

kombu_elkmq.register()

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "server.md").read_text("utf-8")
DRIVER = {"evalsha", "script", "hello", "select", "xread", "client"}
"""What clients send themselves, besides what scripts call."""

pytestmark = pytest.mark.docs


def rules() -> list[str]:
    block = re.search(r"ACL SETUSER elkmq (.*?)```", PAGE, re.DOTALL)
    assert block is not None
    return block[1].split()


@pytest.mark.parametrize("without", [(), ("+client|id", "+client|unblock")], ids=["all", "no client"])
def test_it_is_enough_for_the_transport(name: str, make_server, without: tuple[str, ...]) -> None:
    line = " ".join(rule for rule in rules() if rule != "~app-*" and rule not in without) + f" ~app-{name}*"
    server = make_server(acl=[f"user elkmq {line}"], user=("elkmq", "password"))
    options = {"global_keyprefix": f"app-{name}-", "lease": 2}
    with Connection(server.url.replace("redis", "elkmq", 1), transport_options=options) as connection:
        topic = Exchange("topic", type="topic")
        graves = Queue("graves", durable=False)
        letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"}
        queues = [
            Queue("first", topic, routing_key="a.#", queue_arguments={"x-max-length": 100, **letters}),
            Queue("second", topic, routing_key="#", max_priority=3, message_ttl=60),
            Queue("short", topic, routing_key="#", auto_delete=True, message_ttl=1, durable=False),
        ]
        seen = []

        def handle(body: str, message: Message) -> None:
            seen.append(body)
            if body == "again" and not message.delivery_info["redelivered"]:
                message.requeue()
            elif body == "bad":
                message.reject()
            else:
                message.ack()

        with connection.Consumer([*queues, graves], callbacks=[handle]) as consumer:
            producer = connection.Producer(exchange=topic)
            for body in ("one", "again", "bad"):
                producer.publish(body, routing_key="a.b", priority=2)
            while len(seen) < 13:  # three in three queues, "again" twice, and once more where bad ones of the first go
                connection.drain_events(timeout=10)
            consumer.purge()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.1)
            consumer.cancel()  # while a read is under way, which is ended
        assert sorted(seen) == ["again"] * 6 + ["bad"] * 4 + ["one"] * 3
        queues[0](connection.default_channel).unbind_from(topic, routing_key="a.#")
        for queue in (*queues[:2], graves):
            queue(connection.default_channel).delete()
        topic(connection.default_channel).delete()


def test_the_acl_is_enough(name: str, make_server) -> None:
    line = " ".join(rule for rule in rules() if rule != "~app-*") + f" ~app-{name}*"
    server = make_server(acl=[f"user elkmq {line}"], user=("elkmq", "password"))
    with EventQueue(f"app-{name}", server.url) as queue:
        queue.configure(retention_count=10, max_length=100)
        queue.enqueue_many(ServiceEvent(10, "many", str(n)) for n in range(3))
        queue.enqueue(ServiceEvent(10, "urgent"), priority=9, ttl=60, headers={"a": 1})
        queue.enqueue(ServiceEvent(10, "late"), delay=0.05)
        with queue.receive() as delivery:
            assert delivery.event.action == "urgent"
        first, second, third = queue.receive_many(3)
        first.requeue(failed=True)
        second.reject("no")
        third.complete(events=[Send(ServiceEvent(10, "next"))])
        late = [queue.receive(5) for _ in range(3)]
        assert {d.event.action for d in late} == {"many", "next", "late"}
        queue.ack_many(late)
        assert queue.dead.requeue([letter.id for letter in queue.dead.list()]) == 1
        assert queue.dequeue_blocking(5).event.action == "many"
        with pytest.raises(EmptyQueue):
            queue.dequeue()
        with pytest.raises(TimeoutExpired):
            queue.await_response(ServiceEvent(1, "nobody"), timeout=0.05)
        with queue.once("effect") as effect:
            effect.result = 1
        assert [entry.event.action for entry in queue.log() if entry.event] != []
        queue.pause()
        queue.resume()
        queue.purge(delayed=True)
        assert queue.stats().ready == 0
        with queue.consumer() as consumer:
            assert consumer.get(timeout=0.01) is None
        queue.delete()


def test_the_acl_names_nothing_that_is_not_used() -> None:
    scripts = "\n".join(path.read_text("utf-8") for path in (ROOT / "elkmq" / "lua").rglob("*.lua"))
    called = {command.lower() for command in re.findall(r"redis\.p?call\('([A-Z]+)'", scripts)} | DRIVER
    named = {rule[1:].partition("|")[0] for rule in rules() if rule.startswith("+")}
    assert named == called
