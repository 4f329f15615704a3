"""The last run of each command in numbers, ready for whoever exports them: no event, no fold.

Times are whole nanoseconds; offsets count from the run's start. Every node of the run is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.events import Record
from orchestrator.sights.critical import critical_chain, slack
from orchestrator.sights.phases import Phase, RunSpan, fold
from orchestrator.sights.runs import heads, load


class PhaseTime(Struct, frozen=True):
    """A phase of one node: when it first began, and how long it was, all attempts together."""

    offset_ns: int
    ns: int


class NodeTimes(Struct, frozen=True):
    """One node in one run. `outcome` is empty where the run was killed before the node's end;
    `phases` has every phase that the node went through."""

    node: str
    outcome: str
    released_by: str
    phases: Mapping[Phase, PhaseTime]  # they add up to `span_ns`
    span_ns: int
    own_ns: int  # provision, backoff and readiness_wait
    is_critical: bool
    slack_ns: int | None  # None: it had no turn, or the journal lacks the run's end or needs
    attempts: Mapping[str, int]  # by outcome: ok, error, timeout, cancelled, open
    probes: Mapping[tuple[str, bool], int]  # (probe, passed) → different answers told
    backoff_ns: int


class RunTimes(Struct, frozen=True):
    """One run. `outcome` is empty if it was killed or is under way."""

    run: str
    command: str
    outcome: str
    begun_wall_ns: int  # since the epoch
    wall_ns: int
    floor_ns: int  # own work along the critical path
    nodes: Mapping[str, NodeTimes]

    @property
    def ratio(self) -> float:
        """Wall time ÷ floor; 1 where nothing was done."""
        return self.wall_ns / self.floor_ns if self.floor_ns else 1.0


def times(run: RunSpan) -> RunTimes:
    """The run in numbers."""
    chain, slacks = critical_chain(run), slack(run)
    nodes = {}
    for name, node in run.nodes.items():
        phases: dict[Phase, PhaseTime] = {}
        for each in node.segments:
            phases.setdefault(each.phase, PhaseTime(each.start_ns, node.in_phase(each.phase)))
        nodes[name] = NodeTimes(
            node=name,
            outcome=node.outcome or "",
            released_by=node.released_by,
            phases=phases,
            span_ns=node.end_ns,
            own_ns=node.own_ns,
            is_critical=name in chain.nodes,
            slack_ns=slacks.get(name),
            attempts=Counter(str(each.outcome) for each in node.attempts),
            probes=node.probes,
            backoff_ns=node.in_phase(Phase.BACKOFF),
        )
    return RunTimes(
        run=run.run,
        command=run.command,
        outcome=run.outcome or "",
        begun_wall_ns=run.begun_wall_ns,
        wall_ns=run.wall_ns,
        floor_ns=chain.own_ns,
        nodes=nodes,
    )


def times_of(records: Iterable[Record]) -> RunTimes:
    """One run's records in numbers. Raises ValueError if they do not begin with a run."""
    return times(fold(records))


def last_times(path: Path) -> dict[str, RunTimes]:
    """The journal's last run of each command (up, down, replay, heal, prune)."""
    last = {head.command: head.run for head in heads(path)}
    found = load(path, set(last.values()))
    return {command: times(found[run]) for command, run in last.items() if run in found}
