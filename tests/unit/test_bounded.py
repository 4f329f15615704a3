"""Bounds hold in a task that was cancelled, too: what is to be done after them is done."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.bounded import bounded


async def forever(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


async def number() -> int:
    return 7


async def test_work_in_time_gives_its_result_and_its_error() -> None:
    assert await bounded(1, number()) == 7

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await bounded(1, fail())


async def test_work_that_takes_longer_is_cancelled() -> None:
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        await bounded(0, forever(seen))
    assert seen in (["cancelled"], [])  # it may not have begun
    with pytest.raises(TimeoutError):
        await bounded(0.01, forever(seen))
    assert seen[-1] == "cancelled"


async def test_clean_up_of_a_cancelled_task_goes_on_after_its_bound() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await bounded(0.01, forever([]))
            except TimeoutError:
                seen.append("killed")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["killed"]


async def test_cancelled_itself_it_cancels_the_work() -> None:
    seen: list[str] = []
    task = asyncio.create_task(bounded(10, forever(seen)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
