"""All faults, in the order of the table."""

from __future__ import annotations

from elkmq.cli.chaos.faults import chance, network, processes, servers
from elkmq.cli.chaos.faults.base import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*processes.FAULTS, *network.FAULTS, *servers.FAULTS, *chance.FAULTS)
}
"""By name."""
