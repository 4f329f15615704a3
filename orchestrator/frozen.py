"""The policy `freeze`: what was found different stays as it is until a person releases it.

A file in the run directory says so, so it holds without a supervisor too, and ends with `down`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.lab import Lab

if TYPE_CHECKING:  # `status` only reads
    from orchestrator.events import DriftFound

CHANGING = frozenset({"up", "replay", "rotate"})  # commands that would cover the traces


def freeze(lab: Lab, drift: Iterable[DriftFound]) -> None:
    """From now on. What was found first stays the reason."""
    if not _path(lab).exists():
        _path(lab).write_text("\n".join(f"{each.node}: {each.detail}" for each in drift))


def release(lab: Lab) -> None:
    """Commands may change the lab again."""
    _path(lab).unlink(missing_ok=True)


def reason(lab: Lab) -> str:
    """What was found, a line for each node; empty if the lab is not frozen."""
    try:
        return _path(lab).read_text()
    except FileNotFoundError:
        return ""


def refuse(lab: Lab, command: str) -> None:
    """Raises UsageError if the command would change what is frozen."""
    if command in CHANGING and (why := reason(lab)):
        raise UsageError(
            f"lab {lab.name} is frozen, as its stack file's policy says, since it differs:\n"
            f"{why}\n"
            "  mend: look into it (`orchestrator why`), then `orchestrator up --thaw`, or "
            "`orchestrator down`"
        )


def _path(lab: Lab) -> Path:
    return lab.run_dir / "frozen"
