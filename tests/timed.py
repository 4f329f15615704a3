"""Runs of the real executor on a virtual clock: every duration is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from virtualtime import TICK_NS, VirtualLoop, run, ticks

from orchestrator.engine.bus import Bus
from orchestrator.engine.executor import Executor, recorded_needs
from orchestrator.engine.plan import Node, RetryPolicy, Stage
from orchestrator.errors import ResourceError
from orchestrator.events import Action, Outcome, Record, RunFinished, RunStarted
from orchestrator.resource import Observation, State

Needs = Mapping[str, Mapping[str, Stage]]
AGES_S = 1e9


@dataclass
class Timed:
    """A resource whose every attempt takes so many ticks; all but the last one fail."""

    name: str
    work: Sequence[int]  # ticks of each attempt
    fails_for_good: bool = False
    tried: int = 0

    async def observe(self) -> Observation:
        return Observation(State.ABSENT)

    async def ensure(self) -> Outcome:
        index, self.tried = self.tried, self.tried + 1
        await ticks(self.work[index])
        if self.fails_for_good or index + 1 < len(self.work):
            raise ResourceError(self.name, "ensure", f"attempt {index + 1} broke")
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        return Outcome.CHANGED


@dataclass
class Opening:
    """A gate that opens after so many ticks."""

    ticks: int

    async def wait_for(self) -> None:
        await ticks(self.ticks)

    def last_answer(self) -> str:
        return ""

    def log_lines(self) -> tuple[str, ...]:
        return ()


@dataclass
class Journey:
    """What a run is to be like, node by node, in ticks."""

    needs: Needs
    work: dict[str, list[int]]  # of each attempt
    gate: dict[str, int]
    hopeless: set[str] = field(default_factory=set)
    workers: int = 1000

    def nodes(self) -> dict[str, Node]:
        return {
            name: Node(
                Timed(name, self.work[name], name in self.hopeless),
                "layer",
                stages,
                Opening(self.gate[name]),
                RetryPolicy(attempts=len(self.work[name]), backoff_s=0.1, max_backoff_s=1.0),
                deadline_s=AGES_S,
            )
            for name, stages in self.needs.items()
        }

    def records(self) -> list[Record]:
        """The journal of the real executor's run."""
        loop, told, nodes = VirtualLoop(), list[Record](), self.nodes()
        bus = Bus("r", first_seq=0, broken=print, wall_ns=lambda: 0, mono_ns=loop.time_ns)
        bus.add(told.append)

        async def sleep(seconds: float) -> None:
            await ticks(math.ceil(seconds * 512))

        async def main() -> None:
            needs = recorded_needs(nodes, Action.ENSURE)
            bus.emit(RunStarted("up", "", tuple(nodes), "", needs, self.workers))
            executor = Executor(nodes, emit=bus.emit, max_workers=self.workers, sleep=sleep)
            result = await executor.run(Action.ENSURE)
            bus.emit(RunFinished(result.outcome, result.failed, tuple(result.skipped)))

        run(main(), loop)
        return told

    def ends(self, more: Mapping[str, int] | None = None) -> dict[str, tuple[int, int]]:
        """(started, ready) of each node in ns, if slots are plenty and no attempt fails; with
        `more` ns of work. Computed on the graph alone: names are in topological order."""
        found: dict[str, tuple[int, int]] = {}
        for name, stages in self.needs.items():
            waits = [need for need, stage in stages.items() if stage is not Stage.BESIDE]
            begin = max((found[n][stages[n] is Stage.READY] for n in waits), default=0)
            started = begin + self.work[name][0] * TICK_NS + (more or {}).get(name, 0)
            joined = max([started, *(found[n][1] for n in stages if n not in waits)])
            found[name] = (started, joined + self.gate[name] * TICK_NS)
        return found


@st.composite
def journeys(
    draw: st.DrawFn, graph: st.SearchStrategy[Needs], *, failures: bool = False
) -> Journey:
    """Any graph, any durations; with `failures` also any number of attempts and slots."""
    needs = draw(graph)
    some = st.integers(0, 400)
    attempts = st.lists(some, min_size=1, max_size=3 if failures else 1)
    journey = Journey(
        needs,
        {name: draw(attempts) for name in needs},
        {name: draw(some) for name in needs},
    )
    if failures:
        journey.hopeless = draw(st.sets(st.sampled_from(sorted(needs)), max_size=1))
        journey.workers = draw(st.integers(1, 4))
    return journey
