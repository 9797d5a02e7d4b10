"""Time limits that share one timer."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.cache.deadlines import Deadlines

SHORT_S = 0.02
LONG_S = 30.0


async def test_what_ends_in_time_is_let_be() -> None:
    """Its result comes, and nothing cancels it later."""
    deadlines = Deadlines()
    with deadlines.within(SHORT_S):
        await asyncio.sleep(0)
    await asyncio.sleep(SHORT_S * 2)
    assert not deadlines.running


async def test_what_lasts_longer_ends_in_a_timeout() -> None:
    """The body is cancelled where it waits, and the task itself is not."""
    with pytest.raises(TimeoutError), Deadlines().within(SHORT_S):
        await asyncio.sleep(LONG_S)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize(
    "limits_s", [(SHORT_S, LONG_S), (LONG_S, SHORT_S), (SHORT_S, SHORT_S * 2)], ids=["longer", "shorter", "both"]
)
async def test_each_has_its_own_time(limits_s: tuple[float, float]) -> None:
    """A limit that was set later may end earlier, and one that ends leaves the others running."""
    deadlines = Deadlines()
    ended: list[float] = []

    async def wait(limit_s: float) -> None:
        try:
            with deadlines.within(limit_s):
                await asyncio.sleep(LONG_S)
        except TimeoutError:
            ended.append(limit_s)

    waiting = [asyncio.create_task(wait(limit_s)) for limit_s in limits_s]
    await asyncio.sleep(SHORT_S * 5)
    assert sorted(limit_s for limit_s in limits_s if limit_s < LONG_S) == ended
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not deadlines.running


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Also where the limit ends at the same moment."""
    deadlines = Deadlines()

    async def wait() -> None:
        with deadlines.within(SHORT_S) as limit:
            limit.expire()
            await asyncio.sleep(LONG_S)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_body_goes_through() -> None:
    """It is not taken for the end of the time."""
    deadlines = Deadlines()
    with pytest.raises(ValueError, match="odd"), deadlines.within(LONG_S):
        raise ValueError("odd")
    assert not deadlines.running
