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
from msgspec.structs import astuple

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

MAX_BYTES = 1_000_000
MAX_MS = 86_400_000  # a day: no node's deadline is longer
AT_ONCE_MS = 20  # some probes of a gate, on a busy machine


class Times(Struct, frozen=True):
    """Milliseconds from its work's beginning until it had started, and until it was ready by what
    it did itself; and from the moment when all that it was started beside had come until it was
    ready, which is the same where nothing is beside it."""

    started: int
    ready: int
    joined: int


class Lasted:
    """A sight of one run; what it has seen is kept for the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._begun_ns: dict[str, int] = {}
        self._provisioned_ns: dict[str, int] = {}
        self._joined_ns: dict[str, int] = {}
        self._seen: dict[str, Times] = {}

    def __call__(self, record: Record) -> None:
        match record.event:
            case StepStarted(node=name, action=Action.ENSURE):
                self._begun_ns[name] = record.mono_ns
            case StepProvisioned(node=name):
                self._provisioned_ns[name] = record.mono_ns
            case StepJoined(node=name):
                self._joined_ns[name] = record.mono_ns
            case StepFinished(node=name, outcome=Outcome.CHANGED) if name in self._begun_ns:
                self._seen[name] = self._times(name, record.mono_ns)

    def _times(self, name: str, ready_ns: int) -> Times:
        begun_ns, provisioned_ns = self._begun_ns[name], self._provisioned_ns[name]
        joined_ns = self._joined_ns.get(name, begun_ns)
        started_ms, joined_ms = _ms(provisioned_ns - begun_ns), _ms(ready_ns - joined_ns)
        if name in self._joined_ns and joined_ms <= AT_ONCE_MS:  # it had been ready: who knows when
            return Times(started_ms, started_ms + joined_ms, joined_ms)
        return Times(started_ms, _ms(ready_ns - begun_ns), joined_ms)

    def weights(self, names: Iterable[str], needs: Needs) -> dict[str, int]:
        """For each node one more than the milliseconds of the longest way to the run's end, that
        begins with its work; nothing if nothing is known of any."""
        stages = {name: needs.get(name, {}) for name in names}
        if self._known.keys().isdisjoint(stages):
            return {}
        after = dependents(stages)
        found: dict[str, int] = {}
        joined: dict[str, int] = {}  # the same from where all that it is beside has come
        for name in reversed(topological(stages)):
            times = self._known.get(name, Times(0, 0, 0))
            started, ready = [0], [0]
            for each in after[name]:
                match stages[each][name]:
                    case "started":
                        started.append(found[each])
                    case "beside":
                        ready.append(joined[each])
                    case _:
                        ready.append(found[each])
            found[name] = 1 + max(times.started + max(started), times.ready + max(ready))
            joined[name] = 1 + times.joined + max(ready)
        return found

    def keep(self) -> None:
        """Never raises OSError: a run goes on without."""
        if self._seen:
            times = {**self._known, **self._seen}
            text = json.dumps({name: astuple(each) for name, each in times.items()})
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
        and len(value) == len(Times.__struct_fields__)
        and all(type(each) is int and 0 <= each <= MAX_MS for each in value)
    )
