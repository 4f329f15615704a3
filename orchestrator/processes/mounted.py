"""What a running sandbox has mounted, beside what lies outside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def lost(init: int, files: Mapping[str, Path], directories: Mapping[str, Path]) -> str:
    """What the sandbox of that process has not mounted any more, or not what is there now; empty
    if it has all. Each by its path inside, with where it is outside. Where a mount was put on
    something deleted it is gone; what was mounted lives on unseen: unlink(2)."""
    for inside, outside in files.items():
        if not (outside.exists() and _inside(init, inside).exists()):
            return f"{outside} was deleted"
    for inside, outside in directories.items():
        try:
            mounted = _inside(init, inside).stat()
        except OSError:
            continue  # it is about to end
        if not outside.exists() or not os.path.samestat(mounted, outside.stat()):
            return f"its directory {outside} was deleted"
    return ""


def _inside(init: int, path: str) -> Path:
    return Path(f"/proc/{init}/root", path.lstrip("/"))
