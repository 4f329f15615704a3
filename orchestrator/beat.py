"""One beat for everything that is done again and again: who waits for it wakes with the others.

Each wake-up of the event loop costs more than most of what it is for. Work at whole multiples
of its period shares them.
"""

from __future__ import annotations

import asyncio


async def beat(period_s: float, *, after_s: float = 0.0) -> float:
    """Returns at the next whole multiple of the period, or so long after one; gives how many
    seconds late that was."""
    loop = asyncio.get_running_loop()
    due_s = ((loop.time() - after_s) // period_s + 1) * period_s + after_s
    waked = loop.create_future()
    timer = loop.call_at(due_s, _wake, waked)
    try:
        await waked
    finally:
        timer.cancel()
    return max(0.0, loop.time() - due_s)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
