"""A layered layout of a graph, left to right, after Sugiyama; pure and always the same.

Columns follow the longest path, long edges pass through columns as cells of their own, the
order within columns comes from barycentres, the heights from a least-squares fit that keeps
the order and the gaps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

from msgspec import Struct

SWEEPS = 24
THREAD_HEIGHT, THREAD_GAP, GAP = 8.0, 6.0, 14.0
# A long edge stays level with what it comes from and climbs once, at its end; were both ends
# to pull alike, it would climb a little in every column.
THREAD_PULL = 10.0

# A node's name, or for a long edge (need, condition, column): edges of one kind from one
# node share their way.
Cell = str | tuple[str, str, int]


class Layout(Struct, frozen=True):
    """Cells of each column from top to bottom, the centre of each, and each edge's cells."""

    columns: tuple[tuple[Cell, ...], ...]
    centres: Mapping[Cell, float]
    routes: Mapping[tuple[str, str], tuple[Cell, ...]]
    height: float


def ranks(needs: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """For each node how many steps must come before it: the longest path from its needs."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        found[name] = max((found[need] + 1 for need in needs[name]), default=0)
    return {name: found[name] for name in needs}


def layout(needs: Mapping[str, Mapping[str, str]], *, node_height: float) -> Layout:
    """Places every node; `needs` gives for each its needs and their conditions."""
    rank = ranks(needs)
    # Dictionaries, for their order and their quick look-up; `_order` sorts lists of them.
    cells: list[dict[Cell, None]] = [{} for _ in range(max(rank.values(), default=-1) + 1)]
    for name, column in rank.items():
        cells[column][name] = None
    routes: dict[tuple[str, str], tuple[Cell, ...]] = {}
    links: dict[tuple[Cell, Cell], None] = {}
    for name, conditions in needs.items():
        for need, condition in conditions.items():
            way: list[Cell] = [need]
            for column in range(rank[need] + 1, rank[name]):
                thread = (need, condition, column)
                cells[column][thread] = None
                way.append(thread)
            way.append(name)
            routes[need, name] = tuple(way)
            links |= dict.fromkeys(pairwise(way))
    columns = [list(column) for column in cells]
    before: dict[Cell, list[Cell]] = {cell: [] for column in columns for cell in column}
    after: dict[Cell, list[Cell]] = {cell: [] for column in columns for cell in column}
    for left, right in links:
        before[right].append(left)
        after[left].append(right)
    _order(columns, before, after)
    centres = _centres(columns, before, after, node_height)
    lowest = max((centres[c] + _height(c, node_height) / 2 for c in centres), default=0.0)
    return Layout(tuple(tuple(column) for column in columns), centres, routes, lowest)


def _height(cell: Cell, node_height: float) -> float:
    return node_height if isinstance(cell, str) else THREAD_HEIGHT


def _order(
    columns: list[list[Cell]],
    before: Mapping[Cell, list[Cell]],
    after: Mapping[Cell, list[Cell]],
) -> None:
    """Sorts each column so that few edges cross; the best of all sweeps stays."""
    best, fewest = [list(column) for column in columns], _crossings(columns, after)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        beside = before if forward else after
        for index in range(len(columns)) if forward else reversed(range(len(columns))):
            neighbour = index - 1 if forward else index + 1
            if not 0 <= neighbour < len(columns):
                continue
            place = {cell: float(at) for at, cell in enumerate(columns[neighbour])}
            own = {cell: float(at) for at, cell in enumerate(columns[index])}
            weight = {
                cell: _mean([place[each] for each in beside[cell]], own[cell]) for cell in own
            }
            columns[index].sort(key=weight.__getitem__)
        crossings = _crossings(columns, after)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(columns: Sequence[Sequence[Cell]], after: Mapping[Cell, list[Cell]]) -> int:
    """How many pairs of edges between neighbouring columns cross."""
    total = 0
    for left, right in pairwise(columns):
        place = {cell: at for at, cell in enumerate(right)}
        seen: list[int] = []
        for cell in left:
            ends = sorted(place[each] for each in after[cell])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _centres(
    columns: Sequence[Sequence[Cell]],
    before: Mapping[Cell, list[Cell]],
    after: Mapping[Cell, list[Cell]],
    node_height: float,
) -> dict[Cell, float]:
    """Heights that keep edges straight, columns in order and everything apart."""
    centres: dict[Cell, float] = {}
    apart = {column: _distances(cells, node_height) for column, cells in enumerate(columns)}
    for column, cells in enumerate(columns):
        shift = sum(apart[column]) / 2
        at = 0.0
        for cell, distance in zip(cells, [0.0, *apart[column]], strict=False):
            at += distance
            centres[cell] = at - shift
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in range(len(columns)) if forward else reversed(range(len(columns))):
            cells = columns[column]
            wanted, weights = [], []
            for cell in cells:
                back = THREAD_PULL if isinstance(cell, tuple) else 1.0
                near = [(each, back) for each in before[cell]]
                near += [(each, 1.0) for each in after[cell]]
                total = sum(pull for _, pull in near)
                mean = sum(centres[each] * pull for each, pull in near) / total if near else None
                wanted.append(centres[cell] if mean is None else mean)
                weights.append(total or 0.1)
            centres |= zip(cells, spread(wanted, weights, apart[column]), strict=True)
    return _compact(centres, node_height)


def _compact(centres: Mapping[Cell, float], node_height: float) -> dict[Cell, float]:
    """From the top on, without bands that are empty in every column."""
    tops = {cell: centre - _height(cell, node_height) / 2 for cell, centre in centres.items()}
    found: dict[Cell, float] = {}
    spare = bottom = min(tops.values(), default=0.0)
    for cell in sorted(tops, key=tops.__getitem__):
        spare += max(0.0, tops[cell] - bottom - GAP)
        bottom = max(bottom, tops[cell] + _height(cell, node_height))
        found[cell] = centres[cell] - spare
    return found


def _distances(cells: Sequence[Cell], node_height: float) -> list[float]:
    """Least distances between the centres of neighbours."""
    found = []
    for upper, lower in pairwise(cells):
        threads = isinstance(upper, tuple) or isinstance(lower, tuple)
        gap = THREAD_GAP if threads else GAP
        found.append((_height(upper, node_height) + _height(lower, node_height)) / 2 + gap)
    return found


def spread(
    wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]
) -> list[float]:
    """Positions as near as possible to the wanted ones (least squares) that keep distances.

    Subtracting the distances turns this into isotonic regression, which pooling adjacent
    violators solves exactly.
    """
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=False):
        pools.append((want - offset, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, heavy, count = pools.pop()
            other, light, fewer = pools.pop()
            total = heavy + light
            pools.append(((mean * heavy + other * light) / total, total, count + fewer))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [each + offset for each, offset in zip(flat, offsets, strict=False)]
