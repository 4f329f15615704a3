"""What somebody may have meant who misspelt a name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 3  # names; more are no hint
ALIKE = 0.55  # 1 is the same; prodct and product-service are 0.57


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean a or b?)`, to be put behind the word; empty if nothing is like it."""
    from difflib import get_close_matches  # few need it

    if near := get_close_matches(word, list(dict.fromkeys(known)), MOST, ALIKE):
        return f" (did you mean {' or '.join(near)}?)"
    return ""


def full_and_short(names: Iterable[str]) -> list[str]:
    """Names of nodes, each also without its kind."""
    listed = list(names)
    return [*(name.partition(":")[2] for name in listed), *listed]
