"""One beat for all: whoever waits for it wakes with the others."""

from __future__ import annotations

import asyncio

from virtualtime import VirtualLoop, run

from orchestrator.beat import beat


def test_those_that_wait_for_the_same_moment_wake_at_it() -> None:
    async def work() -> list[float]:
        loop = asyncio.get_running_loop()

        async def wait(period_s: float) -> float:
            await beat(period_s)
            return loop.time()

        await asyncio.sleep(0.5)
        return await asyncio.gather(wait(1.0), wait(1.0), wait(0.25), wait(5.0))

    assert run(work(), VirtualLoop()) == [1.0, 1.0, 0.75, 5.0]


def test_one_that_is_cancelled_takes_no_other_with_it() -> None:
    async def work() -> float:
        first, second = (asyncio.ensure_future(beat(1.0)) for _ in range(2))
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        return asyncio.get_running_loop().time()

    assert run(work(), VirtualLoop()) == 1.0


def test_beat_goes_on_in_the_next_loop() -> None:
    """One that ended while somebody waited has left nothing behind."""

    async def leave() -> None:
        waiting = asyncio.ensure_future(beat(1.0))
        await asyncio.sleep(0.5)
        waiting.cancel()

    async def wait() -> float:
        await beat(1.0)
        return asyncio.get_running_loop().time()

    run(leave(), VirtualLoop())
    assert run(wait(), VirtualLoop()) == 1.0
