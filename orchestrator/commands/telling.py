"""What commands print the same way. Light, as target.py is."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str, *, err: bool = False) -> None:
    """One line. Raises BrokenPipeError where whoever read has left."""
    out = sys.stderr if err else sys.stdout
    out.write(f"{text}\n")
    out.flush()


def tell(document: Any) -> None:
    """One JSON document, for people's eyes too. Streams (`events`, `up`) are a line a record."""
    say(json.dumps(document, indent=2, ensure_ascii=False))
