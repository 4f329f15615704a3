"""Events as plain lines for people, or as JSON; the report of what failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from orchestrator.events import (
    CancelRequested,
    DriftFound,
    Event,
    GateChecked,
    HealingGivenUp,
    Noticed,
    Outcome,
    Record,
    RunStarted,
    StepFinished,
    StepRetried,
    encode,
)
from orchestrator.terminal import clean, clean_lines, counted, gist


class JsonLines:
    """Each record as one line of JSON, as in the journal."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out

    def __call__(self, record: Record) -> None:
        _write(self._out, encode(record))


class PlainLines:
    """One line for each thing that a person may want to know, with seconds since the start."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._begun_ns = 0

    def __call__(self, record: Record) -> None:
        if isinstance(record.event, RunStarted):
            self._begun_ns = record.mono_ns
        if text := line(record.event):
            seconds = (record.mono_ns - self._begun_ns) / 1e9
            _write(self._out, f"{seconds:8.3f}  {clean(text)}")


def _write(out: TextIO, text: str) -> None:
    """A line. Where whoever read has left (`up | head`), nobody is told any more."""
    try:
        out.write(text + "\n")
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def line(event: Event) -> str:
    """The event in one line; empty for those that only machines care for."""
    match event:
        case RunStarted(command=command, nodes=nodes):
            return f"{command}: {counted(len(nodes), 'node')}"
        case StepRetried(node=node, attempt=attempt, delay_s=delay_s, reason=reason):
            return f"{node}: attempt {attempt} failed, again in {delay_s:.2f} s: {reason}"
        case GateChecked(node=node, probe=probe, passed=passed, answer=answer):
            return f"{node}: {probe} {'passed' if passed else 'not yet'}: {answer}"
        case StepFinished(node=node, outcome=outcome, reason=reason) if reason:
            return f"{node}: {outcome}: {reason}"
        case StepFinished(node=node, action=action, outcome=Outcome.CHANGED):
            return f"{node}: {'ready' if action == 'ensure' else 'gone'}"
        case Noticed(node=node, text=text):
            return f"{node}: note: {text}"
        case DriftFound(node=node, detail=detail):
            return f"{node}: drift: {gist(detail)}"
        case HealingGivenUp(node=node, reason=reason):
            return f"{node}: given up: {reason}"
        case CancelRequested(signal=signal):
            return f"{signal}: stopping; once more to stop at once"
        case _:
            return ""


def failure_report(finished: Iterable[StepFinished]) -> str:
    """What failed, why, after how many attempts, the last log lines, and what was skipped."""
    parts, skipped = [], []
    for event in finished:
        if event.outcome is Outcome.FAILED:
            attempts = counted(event.attempt, "attempt")
            parts.append(f"{event.node} failed after {attempts}: {clean_lines(event.reason)}")
            parts += [f"    | {clean(text)}" for text in event.log]
        elif event.outcome is Outcome.SKIPPED:
            skipped.append(event.node)
    if skipped:
        parts.append(f"skipped, because they need it: {', '.join(skipped)}")
    return "\n".join(parts)
