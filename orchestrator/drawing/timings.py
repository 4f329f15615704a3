"""Runs as text and as JSON: who took how long, what the run waited for, what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.events import Outcome
from orchestrator.sights.compare import Difference
from orchestrator.sights.critical import Chain, Link, critical_chain, slack
from orchestrator.sights.phases import OWN, NodeSpan, Phase, RunSpan
from orchestrator.sights.timings import RunTimes, times
from orchestrator.terminal import counted

# Own time first: waiting is what others caused.
COLUMNS = (
    Phase.PROVISION,
    Phase.READINESS_WAIT,
    Phase.BACKOFF,
    Phase.SLOT_WAIT,
    Phase.DEPENDENCY_WAIT,
)
CRITICAL = "●"
HAND_OVER_TOLD_NS = 10_000_000  # longer than any turn of the event loop should be


def took(ns: int) -> str:
    """`1.234s`, `412ms`, `4.2ms`, `120us`; three digits say what a person can use."""
    if ns == 0:
        return "0"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns >= 999_500_000:
        return f"{sign}{ns / 1e9:.3f}s"
    if ns >= 9_950_000:
        return f"{sign}{ns / 1e6:.0f}ms"
    if ns >= 999_500:
        return f"{sign}{ns / 1e6:.1f}ms"
    return f"{sign}{ns / 1e3:.0f}us"


def change(ns: int) -> str:
    """With its sign; nothing where nothing changed."""
    return "" if ns == 0 else f"{'+' if ns > 0 else ''}{took(ns)}"


def heading(run: RunSpan) -> str:
    """The run in one line."""
    chain = critical_chain(run)
    how = run.outcome or "has no end in the journal"
    text = (
        f"{run.command} {run.run}: {how}, {took(run.wall_ns)}, {counted(len(run.acted_on), 'node')}"
    )
    if chain.own_ns:
        ratio = run.wall_ns / chain.own_ns
        text += f"; own work along the critical path {took(chain.own_ns)} ({ratio:.2f}×)"
    return text


def columns(rows: Sequence[Sequence[str]], *, left: Sequence[int] = ()) -> str:
    """Cells in columns, to the right but for those of `left`; the last one is left as it is."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines) + "\n"


def blame_text(run: RunSpan) -> str:
    """Every node that had its turn, by own time, its phases in columns."""
    slacks, critical = slack(run), critical_chain(run).nodes
    rows = [["own", *COLUMNS, "slack", "", "node"]]
    for node in sorted(run.acted_on, key=lambda each: -each.own_ns):
        phases = [took(ns) if (ns := node.in_phase(phase)) else "-" for phase in COLUMNS]
        mark = CRITICAL if node.node in critical else ""
        spare = took(slacks[node.node]) if node.node in slacks else ""
        rows.append([took(node.own_ns), *phases, spare, mark, f"{node.node}{_note(node)}"])
    legend = f"{CRITICAL} is on the critical path\n" if critical else ""
    return f"{heading(run)}\n\n{columns(rows)}{legend}{_never(run)}"


def _note(node: NodeSpan) -> str:
    notes = []
    if len(node.attempts) > 1:
        notes.append(f"{len(node.attempts)} attempts")
    if node.outcome is None:
        notes.append(f"still in {node.segments[-1].phase}")
    elif node.outcome not in (Outcome.CHANGED, Outcome.UNCHANGED):
        notes.append(str(node.outcome))
    return f" ({', '.join(notes)})" if notes else ""


def _never(run: RunSpan) -> str:
    names = [node.node for node in run.nodes.values() if not node.was_queued]
    return f"never had their turn: {', '.join(names)}\n" if names else ""


def chain_text(run: RunSpan) -> str:
    """The critical path as a tree, the end first, as `systemd-analyze` prints it."""
    chain = critical_chain(run)
    return f"{heading(run)}\n\n{links_text(chain)}\n{rest_text(chain)}\n"


def links_text(chain: Chain) -> str:
    """The tree alone, with what its numbers mean."""
    lines = [
        "After @ stands when a node was released, from the start of the run; after + what it took",
        "until it released the one above it.",
        "",
    ]
    for depth, link in enumerate(reversed(chain.links)):
        branch = f"{'  ' * (depth - 1)}└─" if depth else ""
        lines.append(
            f"{branch}{link.node} @{took(link.start_ns)} +{took(link.ns)}{_parts(link)}".rstrip()
        )
    return "\n".join(lines if chain.links else ["no node had its turn"]) + "\n"


def _parts(link: Link) -> str:
    parts = [
        f"{phase} {took(ns)}"
        for phase in Phase
        if (ns := link.in_phase(phase)) and ns * 100 >= link.ns  # of one per cent and more
    ]
    if link.hand_over_ns >= HAND_OVER_TOLD_NS and link.hand_over_ns < link.start_ns:
        parts.append(f"after a hand-over of {took(link.hand_over_ns)}")
    until = " until started" if link.stage == "started" else ""
    return f"{until}  ({', '.join(parts)})" if parts else until


def rest_text(chain: Chain) -> str:
    """What of the run was no node's time."""
    parts = {
        "own work": chain.own_ns,
        "waiting for slots": chain.slot_wait_ns,
        "before the first": chain.start_ns,
        "hand-overs": chain.hand_over_ns - chain.start_ns,
        "after the last": chain.tail_ns,
    }
    text = ", ".join(f"{name} {took(ns)}" for name, ns in parts.items())
    return f"{text}: together {took(chain.total_ns)}"


def difference_text(before: RunSpan, after: RunSpan, found: Iterable[Difference]) -> str:
    """What changed, the largest change first; nodes without any are counted."""
    rows = [["own", *COLUMNS, "node"]]
    same = 0
    for each in found:
        if each.size_ns == 0 and (each.before is None) == (each.after is None):
            same += 1
            continue
        note = {(True, False): " (only in the second)", (False, True): " (only in the first)"}.get(
            (each.before is None, each.after is None), ""
        )
        phases = [change(each.change_ns(phase)) for phase in COLUMNS]
        rows.append([change(each.own_ns), *phases, f"{each.node}{note}"])
    lines = [heading(before), heading(after), ""]
    first, second = critical_chain(before), critical_chain(after)
    text = columns(rows) if len(rows) > 1 else ""
    totals = [
        _total("total", before.wall_ns, after.wall_ns),
        _total("own work along the critical path", first.own_ns, second.own_ns),
    ]
    if same:
        totals.append(f"{same} nodes are the same")
    return "\n".join(lines) + "\n" + text + "\n" + "\n".join(totals) + "\n"


def _total(what: str, before_ns: int, after_ns: int) -> str:
    changed = change(after_ns - before_ns) or "the same"
    return f"{what} {took(before_ns)} → {took(after_ns)} ({changed})"


def runs_text(found: Sequence[RunTimes]) -> str:
    """One line for each run, the newest last."""
    rows = [["run", "command", "outcome", "wall", "floor", "ratio", "nodes"]]
    for each in found:
        acted = sum(bool(node.attempts) for node in each.nodes.values())
        ratio, floor = (f"{each.ratio:.2f}", took(each.floor_ns)) if each.floor_ns else ("-", "-")
        outcome = each.outcome or "open"
        rows.append([each.run, each.command, outcome, took(each.wall_ns), floor, ratio, str(acted)])
    return columns(rows, left=(0, 1, 2))


def run_document(run: RunSpan) -> dict[str, Any]:
    """The run for JSON: every node with its phases and attempts, all in ns."""
    found = times(run)
    return {
        **summary_document(found),
        "max_workers": run.max_workers,
        "nodes": [_node_document(run.nodes[name], found) for name in run.nodes],
    }


def summary_document(found: RunTimes) -> dict[str, Any]:
    """The run's totals for JSON."""
    return {
        "run": found.run,
        "command": found.command,
        "outcome": found.outcome or None,
        "begun_wall_ns": found.begun_wall_ns,
        "wall_ns": found.wall_ns,
        "floor_ns": found.floor_ns,
        "ratio": round(found.ratio, 4),
        "nodes": len(found.nodes),
    }


def _node_document(node: NodeSpan, found: RunTimes) -> dict[str, Any]:
    numbers = found.nodes[node.node]
    return {
        "node": node.node,
        "outcome": numbers.outcome or None,
        "released_by": node.released_by or None,
        "span_ns": numbers.span_ns,
        "own_ns": numbers.own_ns,
        "slack_ns": numbers.slack_ns,
        "critical": numbers.is_critical,
        "phases": {phase: node.in_phase(phase) for phase in Phase},
        "attempts": [
            {
                "attempt": attempt.number,
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "segments": [
                    {
                        "phase": each.phase,
                        "start_ns": each.start_ns,
                        "end_ns": each.end_ns,
                        "undoes": each.undoes,
                        "open": each.is_open,
                    }
                    for each in node.segments
                    if each.attempt == attempt.number
                ],
            }
            for attempt in node.attempts
        ],
        "probes": [
            {"probe": probe, "passed": passed, "answers": count}
            for (probe, passed), count in node.probes.items()
        ],
    }


def chain_document(run: RunSpan) -> dict[str, Any]:
    """The critical path for JSON, the first link first, all in ns."""
    chain = critical_chain(run)
    return {
        **summary_document(times(run)),
        "own_ns": chain.own_ns,
        "slot_wait_ns": chain.slot_wait_ns,
        "hand_over_ns": chain.hand_over_ns,
        "tail_ns": chain.tail_ns,
        "links": [
            {
                "node": link.node,
                "start_ns": link.start_ns,
                "end_ns": link.end_ns,
                "hand_over_ns": link.hand_over_ns,
                "released_next_at": link.stage or None,
                "phases": {
                    phase: ns for phase in (Phase.SLOT_WAIT, *OWN) if (ns := link.in_phase(phase))
                },
            }
            for link in chain.links
        ],
    }


def difference_document(
    before: RunSpan, after: RunSpan, found: Iterable[Difference]
) -> dict[str, Any]:
    """Two runs for JSON: totals, and each node's phases in both and the change, in ns."""
    return {
        "before": summary_document(times(before)),
        "after": summary_document(times(after)),
        "change_ns": after.wall_ns - before.wall_ns,
        "nodes": [
            {
                "node": each.node,
                "own_change_ns": each.own_ns,
                "before": each.before,
                "after": each.after,
                "change": {phase: each.change_ns(phase) for phase in Phase},
            }
            for each in found
        ],
    }
