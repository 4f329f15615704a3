"""What commands print the same way. Light, as target.py is."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def say(text: str, *, err: bool = False) -> None:
    """One line. Raises BrokenPipeError where whoever read has left; not of stderr, where that
    would hide what is told: the exit code says it all the same."""
    out = sys.stderr if err else sys.stdout
    try:
        out.write(f"{text}\n")
        out.flush()
    except BrokenPipeError:
        if not err:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def tell(document: Any) -> None:
    """One JSON document, for people's eyes too. Streams (`events`, `up`) are a line a record."""
    say(json.dumps(document, indent=2, ensure_ascii=False))
