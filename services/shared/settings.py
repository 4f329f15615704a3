"""Settings from the environment, secrets from files."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_known: dict[str, list[str]] = {}  # what each variable's files said last


def setting(name: str, default: str | None = None) -> str:
    """The variable's value. Ends the program with a clear line if it must be set and is not."""
    value = os.environ.get(name, default)
    if value is None:
        sys.exit(f"cannot start: the environment variable {name} is not set")
    return value


def secret(name: str) -> str | None:
    """The text of the file that the variable names; None if it is not set."""
    found = passwords(name)
    return found[0] if found else None


def passwords(name: str) -> list[str]:
    """The secret of now and, while it is being rotated, its next one: one of them is right.

    To be asked for each connection. Empty if the variable is not set. A running program outlives
    its files: when they are lost it goes on with what they said.
    """
    path = os.environ.get(name)
    if path is None:
        return []
    try:
        found = [Path(path).read_text(encoding="utf-8").strip()]
        with contextlib.suppress(FileNotFoundError):
            found.append(Path(f"{path}.next").read_text(encoding="utf-8").strip())
    except OSError as error:
        if name in _known:
            return _known[name]
        sys.exit(f"cannot start: {name} names {path}: {error.strerror}")
    _known[name] = found
    return found
