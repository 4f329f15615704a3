"""What becomes of the lab's supervisor around a run, while the run holds the lab.

A supervisor that began, or went on, outside of that would bring back what the next command takes
away; and that one would not have met it yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from orchestrator.engine.executor import Result


class Attendance:
    """As it is here, the supervisor is none of the run's business."""

    async def begin(self, held: int) -> None:
        """When nothing stands in the way, before the first change. `held` is the descriptor of
        the lab's lock."""

    async def end(self, held: int, result: Result | None) -> None:
        """After the last change, however that came; None if it was broken off."""

    async def around(self, held: int, work: Callable[[], Awaitable[Result]]) -> Result:
        """The work's result, with `begin` before and `end` after it."""
        await self.begin(held)
        result = None
        try:
            result = await work()
        finally:
            await self.end(held, result)
        return result
