"""How long each node took when it was last made: what the next run begins first.

A hint, and no more: without it, or with a wrong one, a run is as right, only slower.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.events import Action, Outcome, Record, StepFinished, StepStarted
from orchestrator.linux import appear


class Lasted:
    """A sight of one run; what it has seen is kept for the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._begun_ns: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def __call__(self, record: Record) -> None:
        match record.event:
            case StepStarted(node=name, action=Action.ENSURE):
                self._begun_ns[name] = record.mono_ns
            case StepFinished(node=name, outcome=Outcome.CHANGED) if name in self._begun_ns:
                self._seen[name] = (record.mono_ns - self._begun_ns[name]) // 1_000_000

    def of(self, names: Iterable[str]) -> dict[str, int]:
        """Milliseconds from its work's beginning to its readiness, of each that is known."""
        return {name: self._known[name] for name in names if name in self._known}

    def keep(self) -> None:
        """Never raises OSError: a run goes on without."""
        if self._seen:
            text = json.dumps({**self._known, **self._seen}, indent=0)
            with suppress(OSError):
                appear(self._path, text)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: each for name, each in found.items() if type(each) is int and each >= 0}
