"""Failover by Sentinel: with a replica that has everything, with WAIT, and with one that lost the last writes."""

from __future__ import annotations

from elkmq.cli.chaos.faults.base import EVERY, Fault
from elkmq.cli.chaos.judge import Spell
from elkmq.cli.chaos.records import ENDED, SENT, now, sources
from elkmq.cli.chaos.stage import Stage
from elkmq.cli.chaos.testbed.servers import Server
from elkmq.cli.chaos.testbed.topology import Sentinel

DOWN_AFTER = 0.5
"""Seconds of silence after which Sentinel counts a primary as down."""

BEHIND = 1.0
"""Seconds of writes that the replica lacks where the failover loses some."""


class Pair:
    """A primary (the stage's server), a replica, a Sentinel."""

    def __init__(self, stage: Stage) -> None:
        assert stage.server is not None
        self.primary = stage.server
        self.replica = stage.enter(Server(appendonly=True, replica_of=self.primary))
        self.replica.wait_until_in_sync()
        self.sentinel = Sentinel(self.primary, down_after=DOWN_AFTER)
        stage.enter(self.sentinel)
        self.sentinel.wait_for_replicas(1)

    @property
    def url(self) -> str:
        """Where clients ask for the primary."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/0?service={self.sentinel.name}"

    def detach(self) -> None:
        """Have the replica follow nobody: what is written from now on it does not have."""
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def wait_until_equal(self) -> None:
        """Wait until the replica has everything; nobody writes meanwhile but heartbeats."""
        with self.primary.client() as client:
            client.execute_command("WAIT", 1, 10_000)

    def fail_over(self) -> float:
        """SIGKILL the primary; returns the seconds until Sentinel names the other."""
        before, at = self.sentinel.primary_port(), now()
        self.primary.kill()
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(self.primary.port))  # where it was detached
        self.sentinel.wait_for_failover(before)
        taken = now() - at
        # The old one comes back as the new one's replica, so that there is somebody to confirm a write.
        self.primary.follow(self.replica)
        self.primary.start()
        return taken


def _with_sentinel(stage: Stage) -> Pair:
    pair = Pair(stage)
    stage.go_directly(pair.url)
    return pair


def up_to_date(stage: Stage) -> None:
    """The producers pause, the replica has everything, the primary dies; then the producers go on."""
    pair = _with_sentinel(stage)
    stage.begin()
    stage.run(stage.settings.pause)
    _pause_producers(stage)
    pair.wait_until_equal()
    _fail_over(stage, pair)
    stage.finish()


def _pause_producers(stage: Stage) -> None:
    """Let them end, and their messages be done; others start when it is over."""
    for lane in stage.lanes:
        for producer in lane.producers:
            producer.tell_to_end()
    stage.until(lambda: not any(p.running for lane in stage.lanes for p in lane.producers), 30.0)
    stage.until(lambda: all(lane.ledger.missing == 0 or lane.kind.early for lane in stage.lanes), 30.0)
    for lane in stage.lanes:
        lane.producers.clear()


def _fail_over(stage: Stage, pair: Pair, *, since: float | None = None) -> Spell:
    """Kill the primary and wait until everybody is back; returns the time in which writes may have been lost."""
    began = now() if since is None else since
    taken = pair.fail_over()
    over = now()
    stage.url = pair.replica.url
    anew = False
    for lane in stage.lanes:
        if not lane.producers:
            anew = True
            first = max(lane.ledger.sent.numbers(), default=0) + 1
            lane.start_producers(1, rate=stage.settings.rate, first=first)
        # An outage of this length may cost leases.
        for worker in lane.workers:
            stage.incident(lane, worker.name)
    stage.spells.append(Spell(began, over + stage.settings.socket_timeout + 1.0))
    stage.until_ready()
    # Where nobody sent meanwhile, how long producers take to start says nothing about workers.
    stage.recovered(now() if anew else over)
    stage.tell(f"Sentinel named the new primary after {taken:.1f} s")
    return Spell(began, over)


def with_wait(stage: Stage) -> None:
    """Producers count a message as sent when the replica has it, too (WAIT); the primary dies while everybody works."""
    stage.confirmed = True
    pair = _with_sentinel(stage)
    stage.begin()
    stage.run(2 * stage.settings.pause)
    window = _fail_over(stage, pair)
    stage.run(stage.settings.pause)
    stage.finish()
    _judge(stage, window, lost_at_most_in_window=False)


def with_loss(stage: Stage) -> None:
    """The replica lacks the last second; the primary dies while everybody works."""
    pair = _with_sentinel(stage)
    stage.begin()
    stage.run(2 * stage.settings.pause)
    since = now()
    pair.detach()
    stage.run(BEHIND)
    window = _fail_over(stage, pair, since=since)
    stage.run(stage.settings.pause)
    stage.finish()
    _judge(stage, window, lost_at_most_in_window=True)


def _judge(stage: Stage, window: Spell, *, lost_at_most_in_window: bool) -> None:
    """What was lost was sent in the window, what ran twice had ended in it; nothing else."""
    margin = 0.5
    for lane in stage.lanes:
        ledger = lane.ledger
        lost = {n for n in ledger.sent.numbers() if not ledger.ended[n] and not ledger.begun[n]}
        cut = {n for n in ledger.sent.numbers() if not ledger.ended[n] and ledger.begun[n]}
        twice = set(ledger.begun.numbers(2))
        sent_at: dict[int, float] = {}
        first_end: dict[int, float] = {}
        for source in sources(ledger.folder):
            for line in source.lines():
                if line.what == SENT and line.number in lost:
                    sent_at[line.number] = line.at
                elif line.what == ENDED and line.number in twice:
                    first_end[line.number] = min(line.at, first_end.get(line.number, line.at))
        stray = [n for n in lost if not window.since - margin <= sent_at[n] <= window.until + margin]
        strange = [
            n
            for n in twice
            if n in first_end and not window.since - margin <= first_end[n] <= window.until + 2 * margin
        ]
        stage.tell(
            f"{lane.kind.name}: lost {len(lost)} and ran again {len(twice)} of {ledger.sent.total:,}, in a window of "
            f"{window.until - window.since:.1f} s"
        )
        if lost_at_most_in_window:
            stage.promise(f"{lane.kind.name}: what is lost was sent in the window ({len(stray)} was not)", not stray)
        elif not lane.kind.early:
            stage.promise(f"{lane.kind.name}: nothing is lost that a replica had confirmed ({len(lost)})", not lost)
        stage.promise(f"{lane.kind.name}: what ran again had ended in the window ({len(strange)} had not)", not strange)
        stage.promise(f"{lane.kind.name}: nothing is stuck half done ({len(cut)})", not cut or lane.kind.early)


FAULTS = (
    Fault("failover", "failover by Sentinel, the replica up to date", up_to_date, own_server=True, again=True,
          recovers=1.0, restarts=True, compared=False, kinds=EVERY),
    Fault("failover-wait", "failover by Sentinel while all work, publishes with WAIT", with_wait, own_server=True,
          again=True, lossy=True, recovers=1.0, restarts=True, compared=False, kinds=EVERY),
    Fault("failover-loss", "failover by Sentinel to a replica that lacks the last second", with_loss, own_server=True,
          again=True, lossy=True, recovers=1.0, restarts=True, compared=False, kinds=EVERY),
)  # fmt: skip
