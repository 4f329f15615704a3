"""The graph's pictures: whole, readable, the same every time, true to the graph."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from drawings import SVG, assert_apart, assert_stands_alone, boxes, overlap, titles
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.drawing import graph, graph_svg
from orchestrator.drawing.graph import COMPLETED, READY, STARTED, STRENGTH, Graph
from orchestrator.drawing.layers import spread

ODD = 'service:a "b" <c> & \\d\x1b[31m; --> end'

SHOP = Graph(
    {
        "bridge:br-app": "bridge",
        "netns:db": "veths",
        "veth:db": "veths",
        "service:db": "data",
        "job:migrate": "data",
        "service:api": "services",
        "service:watch": "monitoring",
        ODD: "odd <layer>",
        "check:front": "edge",
    },
    {
        "bridge:br-app": {},
        "netns:db": {},
        "veth:db": {"bridge:br-app": READY, "netns:db": READY},
        "service:db": {"veth:db": READY, "netns:db": READY},
        "job:migrate": {"service:db": READY},
        "service:api": {"service:db": READY, "job:migrate": COMPLETED},
        "service:watch": {"service:api": STARTED},
        ODD: {"service:api": READY},
        "check:front": {"service:watch": READY, "service:api": READY, ODD: READY},
    },
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph of up to 14 nodes without circles."""
    count = draw(st.integers(0, 14))
    conditions = st.sampled_from([READY, STARTED, COMPLETED])
    needs = {
        f"service:n{number}": {
            f"service:n{other}": draw(conditions)
            for other in range(number)
            if draw(st.integers(0, 3)) == 0
        }
        for number in range(count)
    }
    return Graph({name: f"l{len(name) % 3}" for name in needs}, needs)


def closure(drawn: Graph) -> dict[str, dict[str, int]]:
    """For each node all that it waits for, directly or not, and how strongly at least."""
    found: dict[str, dict[str, int]] = {}
    for name in drawn.order:
        strongest: dict[str, int] = {}
        for need, condition in drawn.needs[name].items():
            for each, strength in [*found[need].items(), (need, STRENGTH[condition])]:
                strongest[each] = max(strength, strongest.get(each, 0))
        found[name] = strongest
    return found


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_reduced_graph_waits_for_the_same(drawn: Graph) -> None:
    reduced = drawn.reduced()
    assert closure(reduced) == closure(drawn)
    assert len(reduced.edges) + reduced.implied == len(drawn.edges)
    assert reduced.reduced().edges == reduced.edges


def test_graph_of_some_nodes_keeps_ways_through_hidden_ones() -> None:
    shown = SHOP.only(["bridge:br-app", "service:db", "service:watch"])
    assert shown.needs == {
        "bridge:br-app": {},
        "service:db": {"bridge:br-app": READY},
        "service:watch": {"service:db": READY},
    }


def test_text_has_every_node_under_its_layer_and_every_condition() -> None:
    text = graph.as_text("shop", SHOP)
    assert "service:watch" in text.split("\nmonitoring\n")[1]
    line = next(line for line in text.splitlines() if line.strip().startswith("service:api"))
    assert line.endswith("← service:db, job:migrate (completed)")
    assert "service:api (started)" in text
    assert "\x1b" not in text


def test_mermaid_has_every_node_and_edge() -> None:
    text = graph.as_mermaid("shop", SHOP)
    nodes = dict(re.findall(r'^    (n\d+)\["(.*)"\]$', text, re.MULTILINE))
    plain = {key: re.sub(r"#(\d+);", lambda m: chr(int(m[1])), v) for key, v in nodes.items()}
    assert sorted(plain.values()) == sorted(name.replace("\x1b", "�") for name in SHOP.needs)
    arrow = r"^  (n\d+) (?:-->|-\. (started) \.->|-- (completed) -->) (n\d+)$"
    edges = re.findall(arrow, text, re.MULTILINE)
    assert len(edges) == len(SHOP.edges)
    found = {
        (plain[a], started or completed or READY, plain[b]) for a, started, completed, b in edges
    }
    cleaned = {tuple(word.replace("\x1b", "�") for word in edge) for edge in SHOP.edges}
    assert found == cleaned


def test_mermaid_and_dot_take_odd_names_as_text() -> None:
    """Nothing of an odd name is left that either could take for syntax."""
    for line in graph.as_mermaid("shop", SHOP).splitlines():
        assert line.count('"') in (0, 2)
        assert "<" not in line
        assert "\\" not in line
    dot = graph.as_dot("shop", SHOP)
    assert '"service:a \\"b\\" <c> & \\\\d�[31m; --> end"' in dot


def test_dot_has_every_node_and_edge() -> None:
    text = graph.as_dot("shop", SHOP)
    assert len(re.findall(r" -> ", text)) == len(SHOP.edges)
    assert '"job:migrate" -> "service:api" [label="completed", style=dotted];' in text
    assert '"service:api" -> "service:watch" [label="started", style=dashed];' in text
    assert text.count("subgraph cluster_") == len(SHOP.members)
    assert text.count("{") == text.count("}")


def test_picture_of_the_graph_has_every_node_and_edge() -> None:
    found = titles(graph_svg.as_svg("shop", SHOP))
    for name, layer in SHOP.layers.items():
        assert f"{name} ({layer})".replace("\x1b", "�") in found
    for need, condition, name in SHOP.edges:
        assert f"{name} needs {need} {condition}".replace("\x1b", "�") in found


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_boxes_of_the_graph_never_overlap_and_lie_within(drawn: Graph) -> None:
    text = graph_svg.as_svg("any", drawn)
    found = boxes(text, "node")
    assert len(found) == len(drawn.needs)
    assert_apart(found)
    root = ElementTree.fromstring(text)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    assert all(x >= 0 and y >= 0 and r <= width and b <= height for x, y, r, b in found)


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_edges_of_the_graph_never_pass_through_a_box(drawn: Graph) -> None:
    """Curves run between columns; within a column an edge is level, and no box is there."""
    text = graph_svg.as_svg("any", drawn)
    found = boxes(text, "node")
    for each in ElementTree.fromstring(text).iter(f"{SVG}path"):
        title = each.find(f"{SVG}title")
        if title is None:
            continue
        for x, y, end in re.findall(r"([\d.]+) ([\d.]+) H([\d.]+)", each.get("d", "")):
            level = (float(x), float(y) - 0.5, float(end), float(y) + 0.5)
            assert not [box for box in found if overlap(box, level)]


@given(
    st.lists(
        st.tuples(st.floats(-99, 99), st.floats(0.1, 9), st.floats(0, 50)), min_size=1, max_size=9
    )
)
def test_spread_keeps_distances(given_: list[tuple[float, float, float]]) -> None:
    wanted, weights, distances = (list(each) for each in zip(*given_, strict=True))
    placed = spread(wanted, weights, distances[1:])
    for upper, lower, distance in zip(placed, placed[1:], distances[1:], strict=False):
        assert lower - upper >= distance - 1e-6


def test_spread_leaves_what_is_apart_where_it_wants_to_be() -> None:
    assert spread([0.0, 50.0, 100.0], [1.0, 1.0, 1.0], [10.0, 10.0]) == [0.0, 50.0, 100.0]
    assert spread([0.0, 0.0], [1.0, 1.0], [10.0]) == [-5.0, 5.0]


def test_picture_of_the_graph_stands_alone_and_is_the_same_every_time() -> None:
    svg = graph_svg.as_svg("shop", SHOP)
    assert_stands_alone(svg)
    assert graph_svg.as_svg("shop", SHOP) == svg
