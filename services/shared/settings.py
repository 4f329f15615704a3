"""Settings from the environment, secrets from files."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def setting(name: str, default: str | None = None) -> str:
    """The variable's value. Ends the program with a clear line if it must be set and is not."""
    value = os.environ.get(name, default)
    if value is None:
        sys.exit(f"cannot start: the environment variable {name} is not set")
    return value


def secret(name: str) -> str | None:
    """The text of the file that the variable names; None if it is not set."""
    path = os.environ.get(name)
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"cannot start: {name} names {path}: {error.strerror}")
