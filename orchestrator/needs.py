"""Circles in a graph of needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter


def find_circle(needs: Mapping[str, Collection[str]]) -> list[str]:
    """One circle as a → b → a, in the direction of needing; empty if there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []
