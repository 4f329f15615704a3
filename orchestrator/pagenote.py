"""What became of the supervisor's live page: written by it, read by `status`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from orchestrator.lab import Lab

WAIT_S = 5.0


def _path(lab: Lab) -> Path:
    return lab.run_dir / "page.json"


def write(lab: Lab, text: str) -> None:
    """Notes where the page is, or why it is not, as of this process."""
    draft = _path(lab).with_suffix(".new")
    draft.write_text(json.dumps({"pid": os.getpid(), "page": text}))
    draft.rename(_path(lab))


def read(lab: Lab, supervisor: int | None) -> str:
    """What the supervisor with that pid has noted; empty where there is none."""
    try:
        found = json.loads(_path(lab).read_text())
        return str(found["page"]) if found["pid"] == supervisor else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def wait(lab: Lab, supervisor: int) -> str:
    """The same, of a supervisor that has just been started."""
    until = time.monotonic() + WAIT_S
    while not (found := read(lab, supervisor)) and time.monotonic() < until:
        time.sleep(0.01)
    return found or f"the supervisor does not tell; see {lab.log('supervisor')}"
