"""Runs as the page shows them: a list, and one with every phase of every node.

Times are milliseconds since the run began, as CLOCK_MONOTONIC has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, to_builtins

from orchestrator.events import DriftFound, Record, RunFinished, RunStarted, StepFinished
from orchestrator.sights.critical import critical_chain
from orchestrator.sights.phases import NodeSpan, Phase, fold

DRIFT = "drift"  # a "run" of drift that was told of and left


class Summary(Struct, frozen=True):
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
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.run, []).append(record)
    return [summary(each) for each in reversed(list(found.values())[-most:])]


def document(records: Sequence[Record]) -> dict[str, Any]:
    """One run as JSON has it: summary, rows in the order of their turns, critical path."""
    found: dict[str, Any] = {
        **to_builtins(summary(records)),
        "ends_ms": 0.0,
        "rows": [],
        "critical": [],
    }
    if not isinstance(records[0].event, RunStarted):
        return found
    run = fold(records)
    turns = sorted(
        (node for node in run.nodes.values() if node.was_queued or node.outcome is not None),
        key=lambda node: node.queued_ns,
    )
    return {
        **found,
        "ends_ms": run.wall_ns / 1e6,
        "rows": [_row(node) for node in turns],
        "critical": [link.node for link in critical_chain(run).links],
    }


def _row(node: NodeSpan) -> dict[str, Any]:
    """One node, from when its last need was met."""
    return {
        "node": node.node,
        "released_by": node.released_by,
        "outcome": node.outcome,
        "reason": node.attempts[-1].reason if node.attempts else "",
        "attempts": len(node.attempts),
        "phases": [
            {"kind": each.phase, "start_ms": each.start_ns / 1e6, "end_ms": each.end_ns / 1e6}
            for each in node.segments
            if each.phase is not Phase.DEPENDENCY_WAIT and each.ns
        ],
    }
