"""The effect store: claim, do, record; once, however often a handler runs."""

from __future__ import annotations

import pytest

from elkmq import EffectBusy, InvalidOption, JSONDumpError, LeaseLost
from tests.library.helpers import clock_passes


async def test_what_was_done_once_is_not_done_again_and_its_result_is_there(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        async with queue.once("charge 17") as effect:
            assert not effect.done
            effect.result = {"receipt": [1, None, "ä"]}
        async with other.once("charge 17") as effect:
            assert effect.done
            assert effect.result == {"receipt": [1, None, "ä"]}
        async with other.once("charge 18") as effect:
            assert not effect.done


async def test_while_it_is_being_done_others_are_told_so(library, server_url, name):
    async with library() as lib:
        queue, other = lib.queue(name, server_url), lib.queue(name, server_url)
        async with queue.once("key", hold=30):
            with pytest.raises(EffectBusy, match="is being done by somebody else, whose claim holds for (29|30)"):
                await other.once("key").claim()


async def test_an_effect_that_failed_can_be_tried_again(library, server_url, name):
    async with library() as lib:
        queue = lib.queue(name, server_url)
        with pytest.raises(ZeroDivisionError):
            async with queue.once("key"):
                raise ZeroDivisionError
        async with queue.once("key") as effect:
            assert not effect.done


async def test_a_claim_that_ran_out_is_somebody_elses(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        slow = queue.once("key", hold=0.05)
        assert await slow.claim()
        await clock_passes(fast_url, 50)
        async with queue.once("key") as effect:
            assert not effect.done
            slow.result = 1
            with pytest.raises(LeaseLost, match="may be done twice; hold it for longer"):
                await slow.finish()
            effect.result = 2
        again = queue.once("key")
        assert not await again.claim()
        assert again.result == 2


async def test_a_result_is_forgotten_after_its_time(library, fast_url, name):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        async with queue.once("key", keep=0.05):
            pass
        await clock_passes(fast_url, 50)
        assert await queue.once("key").claim()


@pytest.mark.parametrize(
    "result", [object(), float("nan"), "\ud800", {(1, 2): 3}], ids=["object", "nan", "half", "key"]
)
async def test_a_result_that_is_no_json_is_not_recorded_and_the_claim_stays(library, fast_url, name, result):
    async with library() as lib:
        queue = lib.queue(name, fast_url)
        effect = queue.once("key")
        await effect.claim()
        effect.result = result
        with pytest.raises(JSONDumpError, match="was not recorded"):
            await effect.finish()
        with pytest.raises(EffectBusy):
            await queue.once("key").claim()


@pytest.mark.parametrize("bad", [("",), (7,), ("x" * 2000,), ("\ud800",)], ids=["empty", "number", "long", "half"])
async def test_a_key_that_is_none(library, fast_url, name, bad):
    async with library() as lib:
        with pytest.raises(InvalidOption, match="nothing was claimed"):
            lib.queue(name, fast_url).once(*bad)


@pytest.mark.parametrize("bad", [{"hold": 0}, {"hold": -1}, {"keep": 0}, {"keep": float("nan")}, {"hold": "x"}])
async def test_times_that_are_none(library, fast_url, name, bad):
    async with library() as lib:
        with pytest.raises(InvalidOption):
            lib.queue(name, fast_url).once("key", **bad)
