"""What a failure means for the call it hit, and how long to wait before the next attempt. No I/O."""

from __future__ import annotations

import random
import re
import ssl
from enum import Enum

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

FROM_BELOW = (RedisError, OSError, EOFError)
"""What connecting, writing and reading raise. Anything else came out of a signal handler (such as Celery's
``SoftTimeLimitExceeded``), or is a bug, and is raised as it is."""

MAX_SENDINGS = 100
"""How often a call is sent again because the server lost its script; then somebody keeps flushing them."""


class Failure(Enum):
    """What became of a call, and of the connection, after an exception."""

    ANSWER = "the server said no; that is the call's answer"
    NO_SCRIPT = "not carried out: the server does not know the script; load it and send the call again"
    NOT_NOW = "not carried out: this server cannot at present, or is the wrong one; look again and send again"
    BROKEN = "the connection is broken or mute; the call may have been carried out"


_NOT_NOW = (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)
# Replies that redis-py, or an old release of it, has no class for; and what Redis 6 says from inside a script:
# "Error running script (call to ...): @user_script:1: -READONLY ...".
# In a slot that is being moved a script stops at the first key that has gone ahead.
_NOT_NOW_REPLY = re.compile(
    r".*[Aa]ttempted to access a non local key in a cluster node"
    r"|(?:ASK|BUSY|CLUSTERDOWN|MASTERDOWN|MOVED|TRYAGAIN|UNBLOCKED) "
    r"|(?:ERR )?Error running script .*: -(?:READONLY|MASTERDOWN) ",
    re.DOTALL,
)


def judge(error: BaseException) -> Failure:
    """What an exception of redis-py's ``read_response`` says about the call that it answers."""
    if isinstance(error, NoScriptError):
        return Failure.NO_SCRIPT
    if isinstance(error, _NOT_NOW):
        return Failure.NOT_NOW
    if isinstance(error, ResponseError):
        return Failure.NOT_NOW if _NOT_NOW_REPLY.match(str(error)) else Failure.ANSWER
    if isinstance(error, AuthenticationError | AuthorizationError):
        return Failure.ANSWER
    return Failure.BROKEN


def hopeless(error: BaseException) -> bool:
    """Whether an error at connecting will be the same at the next attempt: a wrong password, a certificate not trusted."""
    if judge(error) is Failure.ANSWER:
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class Backoff:
    """Waiting times between attempts: none before the first, then doubling up to a second, each with jitter.

    The jitter keeps a thousand clients of a restarted server from coming back in the same millisecond.

    :param retry_for: seconds that a call is repeated for; no wait is longer than a quarter of it, so that every call
        sees several attempts, whenever in an outage it comes
    """

    __slots__ = ("_attempts", "_longest")
    FIRST = 0.02
    LONGEST = 1.0

    def __init__(self, retry_for: float) -> None:
        self._attempts = 0
        self._longest = min(self.LONGEST, retry_for / 4)

    def delay(self) -> float:
        """Seconds to wait before the attempt that comes now."""
        attempts, self._attempts = self._attempts, self._attempts + 1
        if not attempts:
            return 0.0
        longest = min(self._longest, self.FIRST * 2.0 ** min(attempts, 16))
        return random.uniform(longest / 2, longest)  # noqa: S311 - not for secrets

    def reset(self) -> None:
        """A server answered: the next attempt is a first one again."""
        self._attempts = 0
