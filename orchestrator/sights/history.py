"""A pure fold over records: what each node last came to."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.events import (
    Action,
    Event,
    GateChecked,
    HealingGivenUp,
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


class NodeHistory(Struct, frozen=True):
    """What the journal says of one node. Times in seconds."""

    state: str = "pending"
    restarts: int = 0  # that nobody asked for, since the last `down`: see `nodes`
    ready_after_s: float | None = None  # first attempt to ready, in the run that brought it up
    last_error: str = ""  # until it is ready again
    begun_ns: int = 0


def nodes(records: Iterable[Record]) -> dict[str, NodeHistory]:
    """The state of every node after all records.

    A process started by a healing, or again in one run since it ended too soon, is a restart;
    one that a person's command started is none.
    """
    now: dict[str, NodeHistory] = {}
    commands: dict[str, str] = {}
    started: set[tuple[str, str]] = set()  # (run, node)
    for record in records:
        event = record.event
        if isinstance(event, RunStarted):
            commands[record.run] = event.command
        name = getattr(event, "node", None)
        if name is not None:
            was = now.get(name, NodeHistory())
            if isinstance(event, ProcessStarted):
                key = (record.run, name)
                if key in started or commands.get(record.run) == "heal":
                    was = replace(was, restarts=was.restarts + 1)
                started.add(key)
            new = after(was, event, record.mono_ns)
            # Stopped for the length of a replay, say, it has come to no end.
            is_pause = commands.get(record.run) == "stop"
            now[name] = replace(new, restarts=was.restarts) if is_pause else new
    return now


def after(was: NodeHistory, event: Event, mono_ns: int) -> NodeHistory:
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
        case StepRetried(reason=reason):
            return replace(was, state="backoff", last_error=reason)
        case StepFinished(action=Action.REMOVE, outcome=Outcome.CHANGED | Outcome.UNCHANGED):
            return NodeHistory(state="stopped")
        case StepFinished(outcome=Outcome.CHANGED):
            took_s = (mono_ns - was.begun_ns) / 1e9 if was.begun_ns else None
            return replace(was, state="ready", ready_after_s=took_s, last_error="")
        case StepFinished(outcome=Outcome.UNCHANGED):
            return replace(was, state="ready", last_error="")
        case StepFinished(outcome=outcome, reason=reason):
            return replace(was, state=str(outcome), last_error=reason or was.last_error)
        case HealingGivenUp(reason=reason):
            return replace(was, state="failed", last_error=reason)
        case _:
            return was
