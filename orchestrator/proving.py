"""Questions that prove something, asked at once and each within a bound; every answer is told as
it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

from orchestrator.errors import OrchestratorError
from orchestrator.processes.probes import Answer

AT_ONCE = 64  # packets and connections under way; a stack of 1,000 services has 999,000 pairs
LIMIT_S = 6.0  # of any question; each has a bound of its own below it, and words for that


class Finding(Struct, frozen=True):
    """What was seen."""

    passed: bool
    evidence: str
    details: tuple[str, ...] = ()


class Row(Struct, frozen=True):
    """One thing proven or not, with what was seen and the command that shows the same."""

    group: str
    name: str
    passed: bool
    evidence: str
    command: str
    details: tuple[str, ...] = ()


class Question(Struct, frozen=True):
    """One thing to prove; no two have the same group and name."""

    group: str
    name: str
    command: str
    ask: Callable[[], Awaitable[Finding | Answer]]

    async def row(self) -> Row:
        """Its answer; none within the limit and an error of the system are answers too."""
        try:
            async with asyncio.timeout(LIMIT_S):
                found = await self.ask()
        except TimeoutError:
            found = Finding(False, f"no answer within {LIMIT_S:g} s")
        except OSError as error:
            found = Finding(False, error.strerror or str(error))
        except OrchestratorError as error:
            found = Finding(False, str(error))
        if isinstance(found, Answer):
            found = Finding(found.passed, found.text)
        return Row(self.group, self.name, found.passed, found.evidence, self.command, found.details)


async def ask_all(questions: Iterable[Question], show: Callable[[Row], None]) -> None:
    """Shows every answer as it comes, a bounded number being asked at once. Raises what `show`
    does, as when nobody reads on; the others are asked no longer then."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> Row:
        async with slots:
            return await question.row()

    asked = [asyncio.ensure_future(one(question)) for question in questions]
    try:
        for answered in asyncio.as_completed(asked):
            show(await answered)
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
