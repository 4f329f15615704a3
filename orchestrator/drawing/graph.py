"""The dependency graph as text, Mermaid and DOT; pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cached_property
from graphlib import TopologicalSorter

from msgspec import Struct

from orchestrator.drawing.layers import ranks
from orchestrator.drawing.svg import printable

READY, STARTED, COMPLETED, BESIDE = "ready", "started", "completed", "beside"
# What an edge waits for, as far as it goes.
STRENGTH = {STARTED: 0, BESIDE: 0, READY: 1, COMPLETED: 1}
TEXT_WIDTH = 100


class Graph(Struct, frozen=True, dict=True):
    """Nodes with their layers, and for each its needs with the condition that it waits for.

    `implied` tells how many edges `reduced` left out.
    """

    layers: Mapping[str, str]
    needs: Mapping[str, Mapping[str, str]]
    implied: int = 0

    @property
    def edges(self) -> list[tuple[str, str, str]]:
        """(need, condition, dependent)."""
        return [
            (need, condition, name)
            for name, conditions in self.needs.items()
            for need, condition in conditions.items()
        ]

    @cached_property
    def ranks(self) -> dict[str, int]:
        return ranks(self.needs)

    @cached_property
    def order(self) -> list[str]:
        """Names by rank, within a rank as they were given."""
        return sorted(self.needs, key=self.ranks.__getitem__)

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """Layer → its nodes; layers in the order in which they are done."""
        last = dict.fromkeys(self.layers.values(), 0)
        for name, layer in self.layers.items():
            last[layer] = max(last[layer], self.ranks[name])
        layers = sorted(last, key=last.__getitem__)
        return {
            layer: [name for name in self.order if self.layers[name] == layer] for layer in layers
        }

    def only(self, shown: Iterable[str]) -> Graph:
        """The graph of these nodes; a way through hidden ones becomes an edge."""
        names = set(shown)
        through: dict[str, dict[str, str]] = {}
        for name in TopologicalSorter(self.needs).static_order():
            found: dict[str, str] = {}
            for need, condition in self.needs[name].items():
                near = {need: condition} if need in names else through[need]
                for each, held in near.items():
                    if STRENGTH[held] >= STRENGTH[found.get(each, STARTED)]:
                        found[each] = held
            through[name] = found
        return Graph(
            {name: layer for name, layer in self.layers.items() if name in names},
            {name: through[name] for name in self.needs if name in names},
        )

    def reduced(self) -> Graph:
        """Without the edges that others imply: what the rest waits for is waited for anyway."""
        held: dict[str, dict[str, int]] = {}  # what is certain once a node may start
        left: dict[str, dict[str, str]] = {}
        for name in TopologicalSorter(self.needs).static_order():
            needs = self.needs[name]
            farther: dict[str, int] = {}
            for need in needs:
                for each, strength in held[need].items():
                    farther[each] = max(strength, farther.get(each, 0))
            left[name] = {
                need: condition
                for need, condition in needs.items()
                if farther.get(need, -1) < STRENGTH[condition]
            }
            held[name] = dict(farther)
            for need, condition in needs.items():
                held[name][need] = max(STRENGTH[condition], farther.get(need, 0))
        gone = len(self.edges) - sum(len(needs) for needs in left.values())
        return Graph(self.layers, {name: left[name] for name in self.needs}, gone)

    @property
    def summary(self) -> str:
        """`12 nodes, 14 needs; 6 more are implied by these`."""
        text = f"{_count(len(self.needs), 'node')}, {_count(len(self.edges), 'need')}"
        return f"{text}; {self.implied} more are implied by these" if self.implied else text


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def as_text(title: str, graph: Graph) -> str:
    """Layer by layer, in the order of work; after the arrow stands what a node waits for."""
    lines = [f"{title}: {graph.summary}"]
    width = max((len(name) for name in graph.needs), default=0)
    for layer, names in graph.members.items():
        lines += ["", printable(layer)]
        for name in names:
            needs = [
                need if condition == READY else f"{need}\xa0({condition})"
                for need, condition in graph.needs[name].items()
            ]
            text = printable(name)
            if needs:
                # A break may stand between needs only, not before a condition.
                lead = f"  {text:{width}}  ← "
                room = max(TEXT_WIDTH, len(lead) + max(map(len, needs)) + 1)
                wrapped = textwrap.wrap(
                    ", ".join(needs),
                    width=room - len(lead),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                rest = [" " * len(lead) + line for line in wrapped[1:]]
                shown = [lead + wrapped[0], *rest]
                lines += [printable(line.replace("\xa0", " ")) for line in shown]
            else:
                lines.append(f"  {text}")
    return "\n".join(lines) + "\n"


def as_mermaid(title: str, graph: Graph) -> str:
    """A Mermaid flowchart, for Markdown that renders it."""
    ids = {name: f"n{number}" for number, name in enumerate(graph.needs)}
    # Mermaid knows no comment before `---`; the front matter's title is YAML: quotes double.
    lines = ["---", "title: '" + printable(title).replace("'", "''") + "'", "---", "flowchart LR"]
    for number, (layer, names) in enumerate(graph.members.items()):
        lines.append(f'  subgraph l{number}["{_mermaid(layer)}"]')
        lines += [f'    {ids[name]}["{_mermaid(name)}"]' for name in names]
        lines.append("  end")
    arrows = {
        READY: "-->",
        STARTED: "-. started .->",
        COMPLETED: "-- completed -->",
        BESIDE: "-. beside .->",
    }
    lines += [f"  {ids[need]} {arrows[how]} {ids[name]}" for need, how, name in graph.edges]
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Entity codes for everything that Mermaid or its Markdown could take for syntax."""
    return re.sub(r"[^\w .:/@-]", lambda found: f"#{ord(found[0])};", printable(text))


def as_dot(title: str, graph: Graph) -> str:
    """For Graphviz: `orchestrator graph --dot | dot -Tpdf`."""
    lines = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="monospace"];',
        '  edge [fontname="monospace", fontsize=10];',
    ]
    for number, (layer, names) in enumerate(graph.members.items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(layer)};"]
        lines += [f"    {_quoted(name)};" for name in names]
        lines.append("  }")
    styles = {
        READY: "",
        STARTED: ' [label="started", style=dashed]',
        BESIDE: ' [label="beside", style=dashed]',
        COMPLETED: ' [label="completed", style=dotted]',
    }
    lines += [
        f"  {_quoted(need)} -> {_quoted(name)}{styles[how]};" for need, how, name in graph.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A DOT string: only quotes and backslashes have a meaning."""
    inner = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'
