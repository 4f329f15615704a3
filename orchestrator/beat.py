"""One beat for everything that is done again and again: who waits for it wakes with the others.

Each wake-up of the event loop costs more than most of what it is for. Work at whole multiples
of its period shares them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from weakref import WeakKeyDictionary

Waiting = defaultdict[float, list[asyncio.Future[None]]]  # by when they are to wake

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, Waiting] = WeakKeyDictionary()


async def beat(period_s: float, *, after_s: float = 0.0) -> float:
    """Returns at the next whole multiple of the period, or so long after one; gives how many
    seconds late that was."""
    loop = asyncio.get_running_loop()
    due_s = ((loop.time() - after_s) // period_s + 1) * period_s + after_s
    waked = loop.create_future()
    them = _waiting.setdefault(loop, defaultdict(list))[due_s]
    if not them:  # one timer for all
        loop.call_at(due_s, _wake, loop, due_s)
    them.append(waked)
    await waked
    return max(0.0, loop.time() - due_s)


def _wake(loop: asyncio.AbstractEventLoop, due_s: float) -> None:
    for each in _waiting[loop].pop(due_s):
        if not each.done():
            each.set_result(None)
