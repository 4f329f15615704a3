"""Graphs of needs: order, circles, and the chains that hang on a node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto
from graphlib import CycleError, TopologicalSorter


class Parting(Enum):
    """How a node and one of its needs are removed, where the node is not simply the first."""

    WITH_NEED = auto()  # the need is the first, and leaves nothing of the node to remove
    AT_ONCE = auto()  # neither waits for the other


def find_circle(needs: Mapping[str, Collection[str]]) -> list[str]:
    """One circle as a → b → a, in the direction of needing; empty if there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def topological(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Names with every need before what needs it."""
    return list(TopologicalSorter(dict(needs)).static_order())


def dependents(needs: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The graph the other way round: for each name what needs it directly."""
    found: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in needs.items():
        for need in wanted:
            found[need].append(name)
    return found


def weights(needs: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """For each node the length of the longest chain that hangs on it: what to start first."""
    after = dependents(needs)
    result: dict[str, int] = {}
    for name in reversed(topological(needs)):
        result[name] = 1 + max((result[each] for each in after[name]), default=0)
    return result
