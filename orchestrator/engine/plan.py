"""What may start, what is left, what is lost. Pure: no task, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from msgspec import Struct, field

from orchestrator.needs import Parting, find_circle
from orchestrator.resource import Gate, Resource


class Stage(IntEnum):
    """How far a node has come; a need names the stage that it waits for."""

    WAITING = 0
    TAKEN = 1
    STARTED = 2  # its own work is done, readiness not yet proven
    READY = 3  # proven; for a job: completed
    BESIDE = 4  # of a need alone: one begins without it, and is ready only once it is


class RetryPolicy(Struct, frozen=True):
    """Attempts of one node; `jitter` is a share of each delay."""

    attempts: int = 3
    backoff_s: float = 0.2
    max_backoff_s: float = 5.0


class Node(Struct, frozen=True):
    """One vertex of the graph: a resource, its gate, and what it needs at which stage."""

    resource: Resource
    layer: str
    needs: Mapping[str, Stage]
    gate: Gate | None = None
    retry: RetryPolicy = RetryPolicy()
    deadline_s: float = 60.0
    parting: Mapping[str, Parting] = field(default_factory=dict)  # by need
    outlives: frozenset[str] = frozenset()  # it goes after these, though neither needs the other

    @property
    def name(self) -> str:
        return self.resource.name


class Plan:
    """The state of one run over a graph of needs. Written by one loop only.

    Raises ValueError for circles and for needs that are not in the graph.
    """

    def __init__(self, needs: Mapping[str, Mapping[str, Stage]]) -> None:
        if circle := find_circle(needs):
            raise ValueError("needs form a circle: " + " → ".join(circle))
        self._needs = {name: dict(stages) for name, stages in needs.items()}
        self._dependents: dict[str, list[str]] = {name: [] for name in needs}
        for name, stages in needs.items():
            for need in stages:
                if need not in needs:
                    raise ValueError(f"{name} needs {need}, which is not in the graph")
                self._dependents[need].append(name)
        self._stage = dict.fromkeys(needs, Stage.WAITING)
        self._lost: dict[str, str] = {}
        self._unmet = {
            name: sum(stage is not Stage.BESIDE for stage in stages.values())
            for name, stages in needs.items()
        }
        self._ready = [name for name, count in self._unmet.items() if count == 0]
        self._left = len(needs)

    def __bool__(self) -> bool:
        """Whether anything is still to be settled."""
        return self._left > 0

    def take_ready(self) -> list[str]:
        """Nodes whose needs are all met since the last call; each is given out once."""
        taken, self._ready = self._ready, []
        for name in taken:
            self._stage[name] = Stage.TAKEN
        return taken

    def reach(self, name: str, stage: Stage) -> None:
        """The node has come to that stage; dependents that waited for it may start."""
        before, self._stage[name] = self._stage[name], stage
        if stage is Stage.READY:
            self._left -= 1
        for dependent in self._dependents[name]:
            if before < self._needs[dependent][name] <= stage:
                self._unmet[dependent] -= 1
                if self._unmet[dependent] == 0 and dependent not in self._lost:
                    self._ready.append(dependent)

    def fail(self, name: str) -> dict[str, str]:
        """The node is lost, and with it all that wait for it: name → the need that broke.

        A dependent that already started (it needed only `started`) goes on; whether what it
        started beside has come about is for whoever runs it to see.
        """
        self._left -= 1
        lost: dict[str, str] = {}
        frontier = [name]
        while frontier:
            broken = frontier.pop()
            reached = self._stage[broken]
            for dependent in self._dependents[broken]:
                waits = reached < self._needs[dependent][broken] or broken in self._lost
                if (
                    self._stage[dependent] is Stage.WAITING
                    and waits
                    and dependent not in self._lost
                ):
                    lost[dependent] = broken
                    self._lost[dependent] = broken
                    self._left -= 1
                    frontier.append(dependent)
        self._ready = [ready for ready in self._ready if ready not in self._lost]
        return lost


def reversed_needs(
    needs: Mapping[str, Mapping[str, Stage]],
    parting: Mapping[str, Mapping[str, Parting]] | None = None,
) -> dict[str, dict[str, Stage]]:
    """The graph for taking things away: what needed a node must be gone before it, but where
    their parting is another. A need that goes at once with a node waits for all that the node
    waits for."""
    result: dict[str, dict[str, Stage]] = {name: {} for name in needs}
    at_once: list[tuple[str, str]] = []
    for name, stages in needs.items():
        for need in stages:
            match (parting or {}).get(name, {}).get(need):
                case None:
                    result[need][name] = Stage.READY
                case Parting.WITH_NEED:
                    result[name][need] = Stage.READY
                case Parting.AT_ONCE:
                    at_once.append((name, need))
    for name, need in at_once:
        result[need] |= result[name]
    return result
