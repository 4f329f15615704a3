"""What a running sandbox has mounted, beside what lies outside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath

from orchestrator.processes.etc import HOSTS


def lost(init: int, etc: Path, files: Mapping[str, Path], directories: Mapping[str, Path]) -> str:
    """What the sandbox of that process has not mounted any more, or not what is there now; empty
    if it has all. Each by its path inside, with where it is outside. Where a mount was put on
    something deleted, as below `etc`, it is gone; what was mounted lives on unseen: unlink(2)."""
    if not _inside(init, "/").exists():
        return ""  # it has ended
    if not _inside(init, HOSTS).exists():
        return f"its directory {etc} was deleted"
    for inside, outside in files.items():
        is_covered = any(PurePath(inside).is_relative_to(each) for each in directories)
        if not (is_covered or _is_same(_inside(init, inside), outside)):
            return f"{outside} was deleted"
    for inside, outside in directories.items():
        if not _is_same(_inside(init, inside), outside):
            return f"its directory {outside} was deleted"
    return ""


def _is_same(mounted: Path, outside: Path) -> bool:
    try:
        return os.path.samestat(mounted.stat(), outside.stat())
    except OSError:
        return False


def _inside(init: int, path: str) -> Path:
    return Path(f"/proc/{init}/root", path.lstrip("/"))
