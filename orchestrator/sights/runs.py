"""Pure folds for the timeline: what a run did to each node, phase by phase.

Times are milliseconds since the run began, as CLOCK_MONOTONIC has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.events import (
    DriftFound,
    Record,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)
from orchestrator.sights.history import critical_path, runs, spans

# What a node does between two of its events.
WAIT, WORK, PROOF, BACKOFF = "wait", "work", "proof", "backoff"
DRIFT = "drift"  # a "run" of drift that was told of and left


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of one node's time: wait (for a slot), work, proof (of readiness), backoff."""

    kind: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in a line. `outcome` and `seconds` are None while no end is recorded."""

    id: str
    command: str
    at_ms: float  # since the epoch
    seconds: float | None
    outcome: str | None
    nodes: int
    changed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    causes: tuple[tuple[str, str], ...]  # drift found: node, what


@dataclass(slots=True)
class Row:
    """One node in a run."""

    node: str
    released_by: str
    phases: list[Phase] = field(default_factory=list)
    outcome: str | None = None
    reason: str = ""
    attempts: int = 1


def summary(records: Sequence[Record]) -> Summary:
    """Of the records of one run."""
    first = records[0]
    command, nodes, outcome, seconds = DRIFT, 0, None, None
    changed: list[str] = []
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    causes: list[tuple[str, str]] = []
    for record in records:
        match record.event:
            case RunStarted(command=given, nodes=names):
                command, nodes = given, len(names)
            case StepFinished(node=node, outcome="changed"):
                changed.append(node)
            case DriftFound(node=node, detail=detail):
                causes.append((node, detail))
            case RunFinished():
                outcome = str(record.event.outcome)
                failed, skipped = record.event.failed, record.event.skipped
                seconds = (record.mono_ns - first.mono_ns) / 1e9
            case _:
                pass
    return Summary(
        id=first.run,
        command=command,
        at_ms=first.wall_ns / 1e6,
        seconds=seconds,
        outcome=outcome,
        nodes=nodes or len(causes),
        changed=tuple(changed),
        failed=failed,
        skipped=skipped,
        causes=tuple(causes),
    )


def summaries(records: Iterable[Record], *, most: int) -> list[Summary]:
    """The last runs, the newest first."""
    found = list(runs(records).values())[-most:]
    return [summary(each) for each in reversed(found)]


def timeline(records: Sequence[Record]) -> list[Row]:
    """Every node that the run came to, in the order in which it came to them."""
    begun_ns = records[0].mono_ns
    rows: dict[str, Row] = {}
    phase: dict[str, tuple[str, float]] = {}  # under way: kind, begin

    def turn(node: str, at_ms: float, kind: str) -> None:
        """Ends the phase under way and begins another; an empty kind begins none."""
        before = phase.pop(node, None)
        if before and node in rows and at_ms > before[1]:
            rows[node].phases.append(Phase(before[0], before[1], at_ms))
        if kind:
            phase[node] = (kind, at_ms)

    for record in records:
        at_ms = round((record.mono_ns - begun_ns) / 1e6, 3)
        match record.event:
            case StepQueued(node=node, attempt=attempt, released_by=by):
                row = rows.setdefault(node, Row(node, by))
                row.attempts = attempt
                turn(node, at_ms, WAIT)
            case StepStarted(node=node):
                turn(node, at_ms, WORK)
            case StepProvisioned(node=node):
                turn(node, at_ms, PROOF)
            case StepRetried(node=node):
                turn(node, at_ms, BACKOFF)
            case StepFinished(node=node, outcome=outcome, reason=reason):
                row = rows.setdefault(node, Row(node, ""))
                turn(node, at_ms, "")
                row.outcome, row.reason = str(outcome), reason
            case _:
                pass
    last_ms = round((records[-1].mono_ns - begun_ns) / 1e6, 3)
    for node in list(phase):
        turn(node, last_ms, "")
    return list(rows.values())


def document(records: Sequence[Record]) -> dict[str, Any]:
    """One run as JSON has it: summary, rows, critical path, and states over time."""
    begun_ns = records[0].mono_ns
    return {
        **asdict(summary(records)),
        "ends_ms": round((records[-1].mono_ns - begun_ns) / 1e6, 3),
        "rows": [asdict(row) for row in timeline(records)],
        "critical": [span.node for span in critical_path(spans(records))],
    }
