"""Work that may take only so long, also where a cancelled task cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def bounded(limit_s: float, work: Coroutine[None, None, T]) -> T:
    """What the work gives; it is cancelled, and TimeoutError raised, if that takes longer.

    asyncio.timeout before Python 3.11.3 takes its own end for the cancellation that is under way
    already, and raises that again (gh-102780): whatever was to be done next is not done.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        in_time = task.done()
        if not in_time:
            task.cancel()
            await asyncio.wait({task})
    if not in_time:
        raise TimeoutError
    return task.result()
