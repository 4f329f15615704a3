"""An event loop whose clock jumps to the next timer: hours pass at once, and exactly."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TICK_NS = 1_953_125  # 1/512 s: whole in nanoseconds, and exact as a float of seconds


class _Jumping(selectors.DefaultSelector):
    """Never waits; the time that it should have waited has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout:
            self.now_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0. Nothing in it may wait for the outside world."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.jumping.now_s

    def time_ns(self) -> int:
        return round(self.jumping.now_s * 1e9)


def run(work: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """The work's result."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


async def ticks(count: int) -> None:
    """So many ticks of the loop's clock; none is a turn of the loop."""
    await asyncio.sleep(count / 512)
