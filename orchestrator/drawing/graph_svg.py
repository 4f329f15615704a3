"""The dependency graph as a picture: columns left to right in the order of work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from orchestrator.drawing.graph import BESIDE, COMPLETED, READY, STARTED, Graph
from orchestrator.drawing.layers import Cell, Layout, layout
from orchestrator.drawing.svg import HUES, Page, cut, flowing, number, text_width

MARGIN, HEADING = 20.0, 52.0
NODE_HEIGHT, NODE_PAD, STRIPE = 40.0, 14.0, 4.0
NODE_WIDTH_MIN, NODE_WIDTH_MAX = 84.0, 210.0
GAP_MIN, GAP_MAX = 34.0, 76.0
LEGEND_ROW = 22.0


def as_svg(title: str, graph: Graph) -> str:
    """One box for each node, one curve for each need; boxes and curves never overlap."""
    needs = {name: graph.needs[name] for names in graph.members.values() for name in names}
    placed = layout(needs, node_height=NODE_HEIGHT)
    widths = [_column_width(column) for column in placed.columns]
    lefts = [MARGIN]
    for width, gap in zip(widths, _gaps(placed), strict=False):
        lefts.append(lefts[-1] + width + gap)
    legend = _legend(graph)
    widest = max((text_width(each) + 34 for _, each in legend), default=0.0)
    least = max(widest, text_width(title, 15), text_width(graph.summary)) + 2 * MARGIN
    right = lefts[-1] + (widths[-1] if widths else 0.0) + MARGIN
    total = max(right, least, 420.0)
    shift = (total - right) / 2
    lefts = [left + shift for left in lefts]

    page = Page(title, f"Dependency graph: {graph.summary}")
    page.text(MARGIN, 30, title, "ink head")
    page.text(MARGIN, 47, graph.summary, "muted small")
    top = HEADING + 14
    sides = {
        cell: (lefts[index], lefts[index] + widths[index])
        for index, column in enumerate(placed.columns)
        for cell in column
    }
    for need, condition, name in graph.edges:
        data = _curve(placed, sides, placed.routes[need, name], top)
        page.path(data, f"edge {condition}", title=f"{name} needs {need} {condition}", arrow=True)
    hues = {layer: index % HUES for index, layer in enumerate(graph.members)}
    for column in placed.columns:
        for cell in column:
            if isinstance(cell, str):
                left, end = sides[cell]
                y = top + placed.centres[cell] - NODE_HEIGHT / 2
                _node(page, cell, graph.layers[cell], hues[graph.layers[cell]], left, y, end - left)
    bottom = top + placed.height + 26
    spots, rows = flowing(
        (text_width(each) + 34 for _, each in legend), room=total - 2 * MARGIN, gap=14
    )
    for (kind, text), (x, row) in zip(legend, spots, strict=True):
        _legend_entry(page, kind, text, MARGIN + x, bottom + row * LEGEND_ROW)
    return page.render(total, bottom + rows * LEGEND_ROW + 2)


def _label(name: str) -> tuple[str, str]:
    kind, colon, short = name.partition(":")
    return (kind, short) if colon else ("", name)


def _column_width(column: Sequence[Cell]) -> float:
    """What the longest label needs; a column of threads alone stays narrow."""
    labels = [_label(cell) for cell in column if isinstance(cell, str)]
    room = max(
        (max(text_width(short), text_width(kind, 10.5)) for kind, short in labels), default=0
    )
    wanted = room + 2 * NODE_PAD + STRIPE
    return min(max(wanted, NODE_WIDTH_MIN), NODE_WIDTH_MAX) if labels else 20.0


def _gaps(placed: Layout) -> list[float]:
    """Between each column and the next: wider where edges climb far."""
    column = {cell: index for index, cells in enumerate(placed.columns) for cell in cells}
    climbs = [0.0] * max(len(placed.columns) - 1, 0)
    for way in placed.routes.values():
        for left, right in pairwise(way):
            climb = abs(placed.centres[right] - placed.centres[left])
            climbs[column[left]] = max(climbs[column[left]], climb)
    return [min(GAP_MAX, GAP_MIN + 0.16 * climb) for climb in climbs]


def _curve(
    placed: Layout, sides: dict[Cell, tuple[float, float]], way: Sequence[Cell], top: float
) -> str:
    """Out of the box on its right, through each column straight, into the box on its left."""
    x, y = sides[way[0]][1], top + placed.centres[way[0]]
    words = [f"M{number(x)} {number(y)}"]
    for cell in way[1:]:
        left, right = sides[cell]
        there = top + placed.centres[cell]
        bend = (left - x) * 0.5
        words.append(
            f"C{number(x + bend)} {number(y)} {number(left - bend)} {number(there)} "
            f"{number(left)} {number(there)}"
        )
        x, y = left, there
        if cell != way[-1]:
            words.append(f"H{number(right)}")
            x = right
    return " ".join(words)


def _node(page: Page, name: str, layer: str, hue: int, x: float, y: float, width: float) -> None:
    kind, short = _label(name)
    page.box(x, y, width, NODE_HEIGHT, "node card", radius=6, title=f"{name} ({layer})")
    page.box(x, y + 5, STRIPE, NODE_HEIGHT - 10, f"s{hue}", radius=2)
    room = width - 2 * NODE_PAD - STRIPE
    at = x + NODE_PAD + STRIPE / 2
    page.text(at, y + 16, cut(kind or layer, room, 10.5), f"s{hue} small")
    page.text(at, y + 31, cut(short, room), "ink")


def _legend(graph: Graph) -> list[tuple[str, str]]:
    """(class, text): layers by colour, then how needs are drawn."""
    layers = [(f"s{index % HUES}", layer) for index, layer in enumerate(graph.members)]
    texts = {
        READY: "needs it ready",
        STARTED: "needs it started",
        COMPLETED: "needs it completed",
        BESIDE: "is ready after it",
    }
    used = {condition for _, condition, _ in graph.edges}
    return [*layers, *((how, text) for how, text in texts.items() if how in used)]


def _legend_entry(page: Page, kind: str, text: str, x: float, y: float) -> None:
    if kind in (READY, STARTED, COMPLETED, BESIDE):
        page.path(f"M{number(x)} {number(y - 4)} h24", f"edge {kind}", arrow=True)
    else:
        page.box(x + 8, y - 10, 12, 12, kind, radius=3)
    page.text(x + 32, y, text, "muted")
