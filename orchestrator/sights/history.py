"""Pure folds over records: what each node last came to, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.events import (
    Action,
    Event,
    GateChecked,
    Outcome,
    ProcessStarted,
    Record,
    RunStarted,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """What the journal says of one node. Times in seconds."""

    state: str = "pending"
    starts: int = 0  # processes started since the last `down`
    ready_after_s: float | None = None  # first attempt to ready, in the run that brought it up
    last_error: str = ""
    begun_ns: int = 0


def nodes(records: Iterable[Record]) -> dict[str, NodeHistory]:
    """The state of every node after all records."""
    now: dict[str, NodeHistory] = {}
    for record in records:
        event = record.event
        name = getattr(event, "node", None)
        if name is not None:
            now[name] = _after(now.get(name, NodeHistory()), event, record.mono_ns)
    return now


def _after(was: NodeHistory, event: Event, mono_ns: int) -> NodeHistory:
    """One node's history with one more event; events that say nothing of it are ignored."""
    match event:
        case StepQueued():
            return replace(was, state="queued")
        case StepStarted(action=Action.ENSURE, attempt=attempt):
            begun = mono_ns if attempt == 1 else was.begun_ns
            return replace(was, state="starting", begun_ns=begun)
        case StepStarted():
            return replace(was, state="stopping")
        case StepProvisioned():
            return replace(was, state="probing")
        case GateChecked(passed=False):
            return was
        case ProcessStarted():
            return replace(was, starts=was.starts + 1)
        case StepRetried(reason=reason):
            return replace(was, state="backoff", last_error=reason)
        case StepFinished(action=Action.REMOVE, outcome=Outcome.CHANGED | Outcome.UNCHANGED):
            return NodeHistory(state="stopped")
        case StepFinished(outcome=Outcome.CHANGED):
            took_s = (mono_ns - was.begun_ns) / 1e9 if was.begun_ns else None
            return replace(was, state="ready", ready_after_s=took_s)
        case StepFinished(outcome=Outcome.UNCHANGED):
            return replace(was, state="ready")
        case StepFinished(outcome=outcome, reason=reason):
            return replace(was, state=str(outcome), last_error=reason or was.last_error)
        case _:
            return was


def runs(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by run, in the order in which the runs began."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.run, []).append(record)
    return found


def last_run(records: Iterable[Record], *, command: str) -> list[Record]:
    """The records of the last run of a command; empty if there is none."""
    found: list[Record] = []
    for each in runs(records).values():
        first = each[0].event
        if isinstance(first, RunStarted) and first.command == command:
            found = each
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """A node's own time in one run: from its first attempt to its end, in ns."""

    node: str
    start_ns: int
    end_ns: int
    released_by: str
    outcome: Outcome

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


def spans(records: Iterable[Record]) -> dict[str, Span]:
    """Spans of one run's finished nodes."""
    queued: dict[str, tuple[int, str]] = {}
    found: dict[str, Span] = {}
    for record in records:
        match record.event:
            case StepQueued(node=node, attempt=1, released_by=by):
                queued[node] = (record.mono_ns, by)
            case StepFinished(node=node, outcome=outcome) if node in queued:
                start_ns, by = queued[node]
                found[node] = Span(node, start_ns, record.mono_ns, by, outcome)
            case _:
                pass
    return found


def critical_path(found: dict[str, Span]) -> list[Span]:
    """From the span that ended last back along the releases that it waited for."""
    path: list[Span] = []
    span = max(found.values(), key=lambda each: each.end_ns, default=None)
    while span is not None:
        path.append(span)
        span = found.get(span.released_by)
    return path[::-1]
