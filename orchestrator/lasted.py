"""How long each node took when it was last made: what the next run begins first.

A hint, and no more: without it, or with a wrong one, a run is as right, only slower.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.events import (
    Action,
    Needs,
    Outcome,
    Record,
    StepFinished,
    StepJoined,
    StepProvisioned,
    StepStarted,
)
from orchestrator.linux import appear
from orchestrator.needs import dependents, topological
from orchestrator.processes.prepared import DIRECTORY_MODE
from orchestrator.regular import read_text

MAX_BYTES = 1_000_000  # of the file: a stack of 10,000 nodes has half of that
MAX_MS = 86_400_000  # a day: no node's deadline is longer


class Times(Struct, frozen=True):
    """Milliseconds from its work's beginning until it had started, and until it was ready,
    without the wait for what it was started beside."""

    started: int
    ready: int


class Lasted:
    """A sight of one run; what it has seen is kept for the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._begun_ns: dict[str, int] = {}
        self._provisioned_ns: dict[str, int] = {}
        self._seen: dict[str, Times] = {}

    def __call__(self, record: Record) -> None:
        match record.event:
            case StepStarted(node=name, action=Action.ENSURE):
                self._begun_ns[name] = record.mono_ns
            case StepProvisioned(node=name):
                self._provisioned_ns[name] = record.mono_ns
            case StepJoined(node=name) if name in self._begun_ns:
                waited_ns = record.mono_ns - self._provisioned_ns[name]
                self._begun_ns[name] += waited_ns
                self._provisioned_ns[name] = record.mono_ns
            case StepFinished(node=name, outcome=Outcome.CHANGED) if name in self._begun_ns:
                begun_ns = self._begun_ns[name]
                started_ms = _ms(self._provisioned_ns.get(name, record.mono_ns) - begun_ns)
                self._seen[name] = Times(started_ms, _ms(record.mono_ns - begun_ns))

    def weights(self, names: Iterable[str], needs: Needs) -> dict[str, int]:
        """For each node one more than the milliseconds of the longest way to the run's end, that
        begins with its work; nothing if nothing is known of any."""
        stages = {name: needs.get(name, {}) for name in names}
        if self._known.keys().isdisjoint(stages):
            return {}
        after = dependents(stages)
        found: dict[str, int] = {}
        for name in reversed(topological(stages)):
            times = self._known.get(name, Times(0, 0))
            ways = [
                (times.started if stages[each][name] == "started" else times.ready) + found[each]
                for each in after[name]
            ]
            found[name] = 1 + max([times.ready, *ways])
        return found

    def keep(self) -> None:
        """Never raises OSError: a run goes on without."""
        if self._seen:
            times = {**self._known, **self._seen}
            text = json.dumps({name: [each.started, each.ready] for name, each in times.items()})
            with suppress(OSError):
                self._path.parent.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
                self._path.parent.mkdir(DIRECTORY_MODE, exist_ok=True)
                appear(self._path, text)


def _ms(ns: int) -> int:
    return ns // 1_000_000


def _read(path: Path) -> dict[str, Times]:
    try:
        found = json.loads(read_text(path, limit=MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: Times(*each) for name, each in found.items() if _is_times(each)}


def _is_times(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) is int and 0 <= each <= MAX_MS for each in value)
    )
