"""The effect store."""

from __future__ import annotations

from typing import NamedTuple

from elkmq._core.call import Call
from elkmq._core.verbs.bound import Bound, OfQueue


class Claim(NamedTuple):
    """The reply of claim.lua: claimed | done | busy, with the result or the milliseconds that the other claim holds."""

    state: str
    value: bytes


class EffectVerbs(OfQueue):
    """Claim an effect, record it, give it back."""

    _claim: Bound[Claim] = Bound(
        "claim",
        lambda raw: Claim(raw[0].decode(), raw[1] if len(raw) > 1 else b""),
        doing="claim the effect",
        fate="it may be claimed until its time is over",
    )

    def claim(self, key: str, owner: str, hold: int) -> Call[Claim]:
        """Claim an effect for ``hold`` ms."""
        return self._claim(key, owner, hold)

    _finish: Bound[bool] = Bound(
        "finish", bool, doing="record the effect", fate="it is not known whether it was recorded"
    )

    def finish(self, key: str, owner: str, result: bytes, keep: int) -> Call[bool]:
        """Record an effect's result for ``keep`` ms; False: the claim is not the owner's any more."""
        return self._finish(key, owner, "done", result, keep)

    def release(self, key: str, owner: str) -> Call[bool]:
        """Give a claim back."""
        return self._finish(key, owner, "release", "", 0)
