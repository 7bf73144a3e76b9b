"""What the drivers make of redis-py's errors."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions as theirs
from redis.connection import Connection

from elkmq._core.discovery import find_primary, find_slot_owner, owners
from elkmq._core.recovery import Backoff, Failure, hopeless, judge


def reply(text):
    """The error that redis-py of this release makes of an error reply."""
    return Connection()._parser.parse_error(text)


SHA = "f_" + "0" * 40


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("NOSCRIPT No matching script. Please use EVAL.", Failure.NO_SCRIPT),
        ("READONLY You can't write against a read only replica.", Failure.NOT_NOW),
        (f"ERR Error running script (call to {SHA}): @user_script:2: @user_script: 2: -READONLY You can't write. ",
         Failure.NOT_NOW),
        ("LOADING Redis is loading the dataset in memory", Failure.NOT_NOW),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Failure.NOT_NOW),
        ("CLUSTERDOWN The cluster is down", Failure.NOT_NOW),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Failure.NOT_NOW),
        ("MOVED 3999 127.0.0.1:6381", Failure.NOT_NOW),
        ("ASK 3999 127.0.0.1:6381", Failure.NOT_NOW),
        (f"ERR Error running script (call to {SHA}): @x:2: Lua script attempted to access a non local key in a cluster node",
         Failure.NOT_NOW),
        ("ERR Attempted to access a non local key in a cluster node script: on @user_script:26.", Failure.NOT_NOW),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Failure.NOT_NOW),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", Failure.NOT_NOW),
        ("BUSYGROUP Consumer Group name already exists", Failure.ANSWER),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Failure.ANSWER),
        ("OOM command not allowed when used memory > 'maxmemory'.", Failure.ANSWER),
        ("NOAUTH Authentication required.", Failure.ANSWER),
        ("WRONGPASS invalid username-password pair or user is disabled.", Failure.ANSWER),
        ("NOPERM this user has no permissions to run the 'xadd' command", Failure.ANSWER),
        ("ELKMQ_LEASE_LOST the payload says BUSY -READONLY ", Failure.ANSWER),
        ("ERR something the payload said: -READONLY no", Failure.ANSWER),
        ("ERR max number of clients reached", Failure.BROKEN),
    ],
)  # fmt: skip
def test_replies(text, failure):
    assert judge(reply(text)) is failure


@pytest.mark.parametrize(
    "error", [theirs.ConnectionError("x"), theirs.TimeoutError("x"), theirs.InvalidResponse("x"), OSError(), EOFError()]
)
def test_everything_else_breaks_the_connection(error):
    assert judge(error) is Failure.BROKEN
    assert not hopeless(error)


def test_what_no_retry_can_mend():
    assert hopeless(reply("WRONGPASS invalid username-password pair or user is disabled."))
    assert hopeless(reply("ERR DB index is out of range"))
    assert not hopeless(reply("LOADING Redis is loading the dataset in memory"))
    error = theirs.ConnectionError("Error 1 connecting")
    error.__context__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert hopeless(error)


def test_waiting_times_double_up_to_a_second_and_differ():
    backoff = Backoff(30)
    delays = [backoff.delay() for _ in range(20)]
    assert delays[0] == 0.0
    assert all(0.01 * 2**n <= delay <= 0.02 * 2**n for n, delay in enumerate(delays[1:6], 1))
    assert all(0.5 <= delay <= 1.0 for delay in delays[7:])
    assert len(set(delays[7:])) > 5
    backoff.reset()
    assert backoff.delay() == 0.0


@pytest.mark.parametrize("retry_for", [0.0, 0.2, 2.0])
def test_a_call_that_is_repeated_for_a_short_time_sees_several_attempts(retry_for):
    backoff = Backoff(retry_for)
    assert all(backoff.delay() <= retry_for / 4 for _ in range(50))


def search(generator, answers):
    """Drive a search; ``answers`` maps a host to a reply or an error."""
    asked = []
    try:
        question = next(generator)
        while True:
            asked.append(question.address[0])
            answer = answers[question.address[0]]
            question = generator.throw(answer) if isinstance(answer, Exception) else generator.send(answer)
    except StopIteration as found:
        return found.value, asked


A, B, C = ("a", 1), ("b", 2), ("c", 3)


def test_sentinels_are_asked_until_one_knows():
    answers = {"a": theirs.ConnectionError("down"), "b": None, "c": [b"10.0.0.1", b"6379"]}
    assert search(find_primary([A, B, C], "main"), answers) == (("10.0.0.1", 6379), ["a", "b", "c"])


def test_sentinels_that_do_not_know_the_service_are_no_reason_to_wait():
    with pytest.raises(theirs.ResponseError, match="know no service main") as caught:
        search(find_primary([A, B], "main"), {"a": theirs.ConnectionError("down"), "b": None})
    assert hopeless(caught.value)


def test_sentinels_that_are_down_are():
    with pytest.raises(theirs.ConnectionError, match="down") as caught:
        search(find_primary([A], "main"), {"a": theirs.ConnectionError("down")})
    assert not hopeless(caught.value)


def test_a_login_that_all_refuse_is_no_reason_to_wait():
    refused = {"a": reply("WRONGPASS invalid"), "b": reply("NOAUTH wanted")}
    with pytest.raises(theirs.AuthenticationError):
        search(find_primary([A, B], "main"), refused)
    with pytest.raises(theirs.ConnectionError) as caught:
        search(find_primary([A, B], "main"), {**refused, "b": theirs.TimeoutError("slow")})
    assert not hopeless(caught.value)


SLOTS = [[0, 8191, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.3", 7002, b"id"]], [8192, 16383, [b"", 7001, b"id"]]]


def test_the_owner_of_a_slot():
    assert search(find_slot_owner([A], b"bar"), {"a": SLOTS}) == (("10.0.0.1", 7000), ["a"])  # slot 5061
    assert search(find_slot_owner([A], b"foo"), {"a": SLOTS}) == (
        ("a", 7001),
        ["a"],
    )  # slot 12182; no host: the one asked
    assert search(find_slot_owner([A], b"x{foo}"), {"a": SLOTS}) == (("a", 7001), ["a"])
    assert search(find_slot_owner([A, B], None), {"a": theirs.TimeoutError("slow"), "b": SLOTS}) == (B, ["a", "b"])
    assert owners(SLOTS) == (("10.0.0.1", 7000),)


def test_a_slot_without_an_owner_may_have_one_later():
    with pytest.raises(theirs.ConnectionError, match="no node owns slot 12182") as caught:
        search(find_slot_owner([A], b"foo"), {"a": SLOTS[:1]})
    assert not hopeless(caught.value)
