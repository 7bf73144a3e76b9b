"""All faults, in the order of the table."""

from __future__ import annotations

from elkmq.cli.chaos.faults import chance, failover, network, processes, releases, servers, times, wire
from elkmq.cli.chaos.faults.base import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *processes.FAULTS,
        *network.FAULTS,
        *servers.FAULTS,
        *failover.FAULTS,
        *times.FAULTS,
        *releases.FAULTS,
        *wire.FAULTS,
        *chance.FAULTS,
    )
}
"""By name."""
