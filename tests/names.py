"""Names that no other test and no other test run on this machine uses."""

from __future__ import annotations

import itertools
import os

_numbers = itertools.count()


def next_name() -> str:
    """Short enough for everything that is named after it. A plain one on pictures."""
    if "SCREENSHOTS" in os.environ:
        return "lab"
    return f"t{os.getpid()}x{next(_numbers)}"
