"""Bounded concurrency that serves the heaviest waiter first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from itertools import count


class Slots:
    """`size` slots; of several waiters the one with the greatest weight goes first.

    They are given one in each turn of the loop: what a short piece of work releases is then
    weighed with all that waits, not put behind it. `together`: to all at once, for work that
    is done for many in one turn.
    """

    def __init__(self, size: int, *, together: bool = False) -> None:
        self._free, self._together = size, together
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._is_due = False

    def ask(self, weight: int, take: Callable[[], None]) -> None:
        """Calls `take` once a slot is its; who has it gives it back by `release`."""
        heapq.heappush(self._waiting, (-weight, next(self._order), take))
        self._call()

    async def acquire(self, weight: int) -> None:
        """Returns once a slot is the caller's."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ask(weight, partial(self._hand, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was given in the same moment: hand it on
            raise

    def release(self) -> None:
        self._free += 1
        self._call()

    def _call(self) -> None:
        if self._free > 0 and self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        self._is_due = False
        while self._free > 0 and self._waiting:
            _, _, take = heapq.heappop(self._waiting)
            self._free -= 1
            take()
            if not self._together:
                break
        self._call()

    def _hand(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # cancelled meanwhile
            self.release()
        else:
            turn.set_result(None)
