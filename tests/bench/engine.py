"""The engine alone: ten thousand nodes that do nothing, on a graph in layers."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from dataclasses import dataclass

from bench.rows import Row, Section, at_most
from orchestrator.engine.bus import Bus
from orchestrator.engine.executor import Executor
from orchestrator.engine.plan import Node, Stage
from orchestrator.events import Action, Outcome
from orchestrator.resource import Observation, State

NODES, WIDTH, NEEDS = 10_000, 100, 3


@dataclass(frozen=True, slots=True)
class NoOp:
    """Is made by being asked for."""

    name: str

    async def observe(self) -> Observation:
        return Observation(State.ABSENT)

    async def ensure(self) -> Outcome:
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        return Outcome.CHANGED


def graph(count: int) -> dict[str, Node]:
    """Layers of a hundred; each node needs three of the layer before."""
    found = {}
    for number in range(count):
        layer, place = divmod(number, WIDTH)
        needs = {
            f"n:{(layer - 1) * WIDTH + (place + step) % WIDTH}": Stage.READY
            for step in range(NEEDS if layer else 0)
        }
        name = f"n:{number}"
        found[name] = Node(NoOp(name), "layer", needs)
    return found


def run(count: int) -> float:
    """Seconds of one run with events given to one sight."""
    nodes, told = graph(count), [0]
    bus = Bus("bench", first_seq=0, broken=print)

    def count_events(_: object) -> None:
        told[0] += 1

    bus.add(count_events)
    executor = Executor(nodes, emit=bus.emit, max_workers=32)
    begun = time.perf_counter()
    result = asyncio.run(executor.run(Action.ENSURE))
    took_s = time.perf_counter() - begun
    assert result.outcome is Outcome.CHANGED
    assert len(result.outcomes) == count
    assert told[0] >= 3 * count
    return took_s


def peak_mb(count: int) -> float:
    """Memory of Python's objects at its highest, the graph included."""
    tracemalloc.start()
    try:
        run(count)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def measure(rounds: int) -> Section:
    seconds = Row(f"{NODES:,} no-op nodes", [run(NODES) for _ in range(rounds)], "s", at_most(1.0))
    small, large = peak_mb(NODES // 4), peak_mb(NODES)
    return Section(
        "Engine alone",
        [
            seconds,
            Row("memory at its highest", [large], "MB"),
            Row(
                "memory per node: 10,000 ÷ 2,500 (1: linear)",
                [large / small / 4],
                "×",
                at_most(1.1),
            ),
        ],
        ["Every node passes through all of its phases, with three needs and at most 32 at once."],
    )
