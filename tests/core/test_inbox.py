"""How long a requester waits."""

from __future__ import annotations

import time

from elkmq._core.inbox import LATE, patience


def test_who_waits_for_a_request_that_was_accepted_late_does_so_a_second_past_its_timeout_at_most():
    now = time.monotonic()
    assert patience(now + 9.0, 9.0) == 9.0  # at once: as long as the server counts
    assert 0.0 <= patience(now + 2.0, 9.0) <= 2.0 + LATE
    assert 0.0 <= patience(now - 0.5, 9.0) <= LATE - 0.5
    assert patience(now - 5.0, 9.0) == 0.0
