"""Looking after a queue: settings, statistics, dead letters, event log, outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elkmq._core import entry as read
from elkmq._core.call import Call, command
from elkmq._core.entry import Entry
from elkmq._core.verbs.bound import Bound, OfQueue


class UpkeepVerbs(OfQueue):
    """Look, change, clear away."""

    _purge: Bound[tuple[int, bool]] = Bound(
        "purge", lambda r: (r[0], r[1] == 1), doing="purge the queue", fate="some events may have been removed"
    )

    def purge(self, n: int = 10_000, *, delayed: bool = False) -> Call[tuple[int, bool]]:
        """Remove up to n ready events; returns (removed, whether there may be more)."""
        return self._purge(n, int(delayed))

    _configure: Bound[dict[str, str]] = Bound(
        "configure", read.settings, doing="look at the settings", fate="it is not known whether they were changed"
    )

    def configure(self, changes: Mapping[str, str]) -> Call[dict[str, str]]:
        """Change settings; '' takes one back to its default. Returns all settings as text."""
        return self._configure("merge", *(part for item in changes.items() for part in item))

    def check_settings(self, expected: Mapping[str, str]) -> Call[dict[str, str]]:
        """Check that the settings named have these values (ELKMQ_SETTINGS_DIFFER)."""
        return self._configure("same", *(part for item in expected.items() for part in item))

    _stats: Bound[list[Any]] = Bound("stats", list, doing="look at the queue")

    def stats(self) -> Call[list[Any]]:
        """Everything to be seen of the queue; read by elkmq.stats."""
        return self._stats()

    def dead_letters(self, start: str = "-", n: int = 100) -> Call[list[Entry]]:
        """Up to n dead letters from an id on, oldest first."""
        return command("XRANGE", self.keys.of("dead_letters"), start, "+", "COUNT", n, parse=_stream)

    def event_log(self, start: str, end: str, n: int) -> Call[list[Entry]]:
        """Up to n completed events between two ids or times in ms."""
        return command("XRANGE", self.keys.of("event_log"), start, end, "COUNT", n, parse=_stream)

    def outbox(self, n: int = 100) -> Call[list[Entry]]:
        """Entries on their way to another slot or an exchange, oldest first."""
        return command("XRANGE", self.keys.of("outbox"), "-", "+", "COUNT", n, parse=_stream)

    def relayed(self, ids: Sequence[bytes]) -> Call[int]:
        """Remove outbox entries that arrived."""
        return command("XDEL", self.keys.of("outbox"), *ids, parse=int)

    _revive: Bound[list[bytes]] = Bound(
        "revive", list, doing="send dead letters back to work", fate="some may have been sent back"
    )

    def revive(self, ids: Sequence[str]) -> Call[list[bytes]]:
        """Send dead letters back to work; their new ids, empty where there was none."""
        return self._revive(*ids)

    def drop_dead(self, ids: Sequence[str]) -> Call[int]:
        """Drop dead letters for good; returns how many there were."""
        return command("XDEL", self.keys.of("dead_letters"), *ids, parse=int)

    _drop: Bound[int] = Bound("drop", int, doing="delete the queue", fate="it is not known whether it was deleted")

    def drop(self, *, if_unused: bool = False, if_empty: bool = False) -> Call[int]:
        """Delete the queue; returns the ready events it held, -1 where used, -2 where not empty."""
        return self._drop(int(if_unused), int(if_empty))


def _stream(raw: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Entry]:
    return [Entry(b"", id_, dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in raw]
