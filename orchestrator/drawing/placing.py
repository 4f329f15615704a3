"""Where the live page puts each node of the graph, and the curves between them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from orchestrator.drawing.graph import Graph
from orchestrator.drawing.layers import Cell, layout
from orchestrator.drawing.svg import number, text_width

NODE_HEIGHT, MARGIN = 46.0, 8.0
BESIDE_NAME = 44.0  # room for the sign of the state, and padding
NODE_WIDTH_MIN, THREAD_WIDTH, GAP = 126.0, 10.0, 28.0


def place(graph: Graph) -> dict[str, Any]:
    """The graph without implied needs: `width`, `height`, `nodes`, `edges`.

    A node is `name kind short layer column x y width height`, an edge `need name condition
    path`, the path in the language of SVG. Units are CSS pixels at full size.
    """
    reduced = graph.reduced()
    needs = {name: reduced.needs[name] for names in reduced.members.values() for name in names}
    placed = layout(needs, node_height=NODE_HEIGHT)
    lefts, widths = [], []
    x = MARGIN
    for column in placed.columns:
        lefts.append(x)
        widths.append(_width(column))
        x += widths[-1] + GAP
    sides: dict[Cell, tuple[float, float]] = {
        cell: (lefts[index], lefts[index] + widths[index])
        for index, column in enumerate(placed.columns)
        for cell in column
    }
    nodes = []
    for index, column in enumerate(placed.columns):
        for name in column:
            if isinstance(name, str):
                kind, short = label(name)
                y = MARGIN + placed.centres[name] - NODE_HEIGHT / 2
                nodes.append(
                    {
                        "name": name,
                        "kind": kind,
                        "short": short,
                        "layer": reduced.layers[name],
                        "column": index,
                        "x": round(lefts[index], 1),
                        "y": round(y, 1),
                        "width": round(widths[index], 1),
                        "height": NODE_HEIGHT,
                    }
                )
    heights = {cell: MARGIN + centre for cell, centre in placed.centres.items()}
    edges = [
        {
            "need": need,
            "name": name,
            "condition": condition,
            "path": _curve(placed.routes[need, name], sides, heights),
        }
        for need, condition, name in reduced.edges
    ]
    return {
        "width": round(max(x - GAP + MARGIN, 2 * MARGIN), 1),
        "height": round(placed.height + 2 * MARGIN, 1),
        "nodes": nodes,
        "edges": edges,
    }


def label(name: str) -> tuple[str, str]:
    """`service`, `nginx-lb` of `service:nginx-lb`."""
    kind, colon, short = name.partition(":")
    return (kind, short) if colon else ("", name)


def _width(column: Sequence[Cell]) -> float:
    names = [label(cell)[1] for cell in column if isinstance(cell, str)]
    if not names:
        return THREAD_WIDTH
    return max(NODE_WIDTH_MIN, BESIDE_NAME + max(text_width(name) for name in names))


def _curve(
    way: Sequence[Cell], sides: dict[Cell, tuple[float, float]], heights: dict[Cell, float]
) -> str:
    """Out of a node on its right, straight through columns between, into the next on its left."""
    words = [f"M{number(sides[way[0]][1])} {number(heights[way[0]])}"]
    for here, there in pairwise(way):
        start, end = sides[here][1], sides[there][0]
        bend = (end - start) / 2
        words.append(
            f"C{number(start + bend)} {number(heights[here])} "
            f"{number(end - bend)} {number(heights[there])} {number(end)} {number(heights[there])}"
        )
        if there != way[-1]:
            words.append(f"H{number(sides[there][1])}")
    return "".join(words)
