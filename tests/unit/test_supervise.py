"""What the supervisor's command watches for ends with it, however early that is."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.commands.supervise import ending_when_replaced


async def test_watch_for_a_deleted_lock_ends_with_a_supervisor_that_is_cancelled_as_it_waits() -> (
    None
):
    before = asyncio.all_tasks()
    waits = asyncio.Event()

    async def supervisor() -> None:
        async with ending_when_replaced(lambda: True, lambda _: None):
            waits.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(supervisor())
    await waits.wait()
    watches = asyncio.all_tasks() - before - {task}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait(watches)
    assert [each.cancelled() for each in watches] == [True]
