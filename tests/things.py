"""Resources that only remember, and a run of the executor over them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.engine.executor import Executor, Result
from orchestrator.engine.plan import Node, RetryPolicy, Stage
from orchestrator.errors import ResourceError
from orchestrator.events import (
    Action,
    Event,
    Outcome,
)
from orchestrator.resource import Observation, State


@dataclass
class World:
    """What exists, and everything that was done to it, in order."""

    there: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    busy: int = 0
    most: int = 0
    slept_s: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


@dataclass
class Thing:
    """A resource that takes `steps` turns of the loop, and fails as often as it is told."""

    name: str
    world: World
    failures: int = 0
    steps: int = 1
    error: type[ResourceError] = ResourceError
    before: Callable[[], Awaitable[object]] | None = None

    async def observe(self) -> Observation:
        there = self.name in self.world.there
        return Observation(State.PRESENT if there else State.ABSENT)

    async def ensure(self) -> Outcome:
        self.world.log.append(f"+{self.name}")
        self.world.busy += 1
        self.world.most = max(self.world.most, self.world.busy)
        try:
            self.world.there.add(f"half {self.name}")
            if self.before:
                await self.before()
            for _ in range(self.steps):
                await asyncio.sleep(0)
            if self.failures > 0:
                self.failures -= 1
                raise self.error(self.name, "ensure", "it broke")
        finally:
            self.world.busy -= 1
        self.world.there.discard(f"half {self.name}")
        self.world.there.add(self.name)
        self.world.log.append(f"{self.name}!")
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        self.world.log.append(f"-{self.name}")
        await asyncio.sleep(0)
        found = {self.name, f"half {self.name}"} & self.world.there
        self.world.there -= found
        return Outcome.CHANGED if found else Outcome.UNCHANGED


@dataclass
class Bar:
    """A gate that an event opens."""

    opened: asyncio.Event
    answer: str = "shut"

    async def wait_for(self) -> None:
        await self.opened.wait()

    def last_answer(self) -> str:
        return self.answer

    def log_lines(self) -> tuple[str, ...]:
        return ("a last line",)


FAST = RetryPolicy(attempts=3, backoff_s=0.1, max_backoff_s=1.0)


def node(thing: Thing, needs: dict[str, Stage] | None = None, **more: object) -> Node:
    return Node(thing, "layer", needs or {}, **{"retry": FAST, **more})  # type: ignore[arg-type]


async def run(
    world: World,
    nodes: list[Node],
    action: Action = Action.ENSURE,
    *,
    workers: int = 8,
    events: list[Event] | None = None,
) -> Result:
    emit = events.append if events is not None else lambda _: None
    named = {each.name: each for each in nodes}
    executor = Executor(named, emit=emit, max_workers=workers, sleep=world.sleep)
    return await asyncio.wait_for(executor.run(action), 10)
