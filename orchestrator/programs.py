"""Where a stack's commands are looked for on this host, and whether they are there."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.spec import Stack

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def search_path(stack: Stack) -> list[str]:
    """Directories in which commands are looked for, first match wins."""
    found = [str(Path(sys.prefix, "bin"))]
    for pattern in stack.path:
        matches = sorted(Path("/").glob(pattern.lstrip("/")), key=_by_version)
        found += [str(path) for path in matches[-1:]]
    return [*found, *SYSTEM_PATH]


def is_installed(program: str, path: Sequence[str]) -> bool:
    """Whether a service could run the command, looked for in these directories."""
    return shutil.which(program, path=":".join(path)) is not None


def _by_version(path: Path) -> list[tuple[int, str]]:
    """15 after 9: numbers in the path count as numbers."""
    words = re.split(r"(\d+)", str(path))
    return [(int(word), "") if word.isdigit() else (0, word) for word in words]
