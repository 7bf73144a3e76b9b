"""The third part: Celery tasks; connections are broken, and a worker is killed in the middle of one."""

from __future__ import annotations

from typing import Any

from elkmq._core.call import command
from elkmq.cli.demo.judge import Outcome, judge_tasks
from elkmq.cli.demo.plan import LEASE, TASKS
from elkmq.cli.demo.shop import make_app
from elkmq.cli.demo.stage import Stage, waiting
from elkmq.cli.demo.watching import handled, kill_in_the_middle, until_begun_again, until_handled

WORKERS = 3

LIMIT = 40.0
"""Seconds; what is not handled by then counts as lost."""


def tasks(stage: Stage) -> Outcome:
    """Give this part."""
    screen = stage.screen
    with stage.part("tasks") as (queue, crew, _):
        workers, (caller,) = crew.start("worker", WORKERS), crew.start("caller")
        screen.say(f"tasks: {WORKERS} Celery workers are starting, broker elkmq://, acks_late, a lease of {LEASE:g} s")
        crew.until_ready()
        deadline = screen.seconds + LIMIT
        with make_app(stage.url, queue.name).connection_for_write() as connection:
            connection.connect()
            caller.begin()
            until_handled(stage, crew, queue, TASKS // 4, deadline)
            cut = _cut(connection, queue.name)
            screen.say(f"cut: {cut} connections, all that workers and caller had", "yellow")
            # By then the workers are connected again. Killed before that, one would take along what it had yet to acknowledge.
            until_handled(stage, crew, queue, min(handled(crew) + TASKS // 4, TASKS * 9 // 10), deadline)
            victim = workers[0]
            middle = kill_in_the_middle(crew, victim.name)
            screen.say(
                f"killed (SIGKILL): {victim.name}, process {victim.pid}, in the middle of task {middle[:8]}", "red"
            )
            if until_begun_again(stage, crew, middle, deadline):
                screen.say(f"task {middle[:8]} was begun again by another worker", "green")
            until_handled(stage, crew, queue, TASKS, deadline)
            crew.end(15.0)
            left = waiting(queue)
            connection.default_channel.queue_delete(queue.name)
            connection.default_channel.exchange_delete(queue.name)
        screen.say(f"{handled(crew):,} tasks are done")
        return judge_tasks(crew.follower.records, expected=TASKS, killed=[victim.name], left=left, cut=cut)


def _cut(connection: Any, name: str) -> int:
    """Have the server break all connections that carry a name, but this one's; returns how many those were."""
    session = connection.default_channel.session
    own = session.run(command("CLIENT", "ID", parse=int, doing="ask for the connection's number"))
    listed = session.run(command("CLIENT", "LIST", parse=lambda raw: raw.decode(), doing="list connections"))
    cut = 0
    for line in listed.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split(" "))
        if fields.get("name") == name and int(fields["id"]) != own:
            cut += session.run(command("CLIENT", "KILL", "ID", fields["id"], parse=int, doing="break a connection"))
    return cut
