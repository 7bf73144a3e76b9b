"""Every verb of one queue as a `Call`: its arguments on one side, its reply on the other, and no I/O.

What a script does, returns and costs stands in its header (``elkmq/lua``).
"""

from elkmq._core.verbs.effects import Claim, EffectVerbs
from elkmq._core.verbs.events import EventVerbs
from elkmq._core.verbs.leases import Delivered, LeaseVerbs, all_heard, beat, left_over, settings_of, wait_for_entries
from elkmq._core.verbs.requests import RequestVerbs
from elkmq._core.verbs.upkeep import UpkeepVerbs

__all__ = ["Claim", "Delivered", "Verbs", "all_heard", "beat", "left_over", "settings_of", "wait_for_entries"]


class Verbs(EventVerbs, LeaseVerbs, RequestVerbs, UpkeepVerbs, EffectVerbs):
    """The verbs of one queue."""
