"""Pictures: whole, readable, the same every time, and true to what they are made of."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.drawing import graph, graph_svg, rules, topology, topology_svg
from orchestrator.drawing.graph import COMPLETED, READY, STARTED, STRENGTH, Graph
from orchestrator.drawing.layers import spread
from orchestrator.drawing.network import (
    Bridge,
    Interface,
    Listener,
    Network,
    Place,
    Plan,
    Port,
    Published,
    WantedLink,
    compare,
)
from orchestrator.drawing.survey import program_name
from orchestrator.kernel.iptables import parse
from orchestrator.kernel.nat import Nat, Net, Publication
from orchestrator.kernel.nat import rules as wanted_rules

SVG = "{http://www.w3.org/2000/svg}"
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


def boxes(text: str, name: str) -> list[tuple[float, float, float, float]]:
    """x, y, right and bottom of each rectangle of that class."""
    found = []
    for each in ElementTree.fromstring(text).iter(f"{SVG}rect"):
        if name in (each.get("class") or "").split():
            x, y, width, height = (
                float(each.get(key, "0")) for key in ("x", "y", "width", "height")
            )
            found.append((x, y, x + width, y + height))
    return found


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def assert_apart(found: list[tuple[float, float, float, float]]) -> None:
    assert [pair for pair in itertools.combinations(found, 2) if overlap(*pair)] == []


def titles(text: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}title")]


# -- graph ---------------------------------------------------------------------------------


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


# -- topology ------------------------------------------------------------------------------


def up(name: str, *addresses: str) -> Interface:
    return Interface(name, "veth", True, True, "02:00:00:00:00:01", addresses)


PLAN = Plan(
    bridges={"br-app": "10.0.0.1/16"},
    places={"web": "lab.web", "db": "lab.db"},
    links=(
        WantedLink(
            "veth:web", "web", "br-app", "veth-web-br", "veth-web", "10.0.0.10/16", "10.0.0.1"
        ),
        WantedLink("veth:db", "db", "br-app", "veth-db-br", "veth-db", "10.0.0.20/16", "10.0.0.1"),
    ),
    listens=(("service:web", "web", 80), ("service:db", "db", 5432)),
    published=((8080, "10.0.0.10", 80),),
)
WEB = Place(
    "web",
    "lab.web",
    "live",
    True,
    (up("veth-web", "10.0.0.10/16"),),
    ("default via 10.0.0.1 dev veth-web",),
    (Listener(80, "0.0.0.0", "nginx", 41), Listener(80, "::", "nginx", 41)),
)
DB = Place(
    "db",
    "lab.db",
    "live",
    True,
    (up("veth-db", "10.0.0.20/16"),),
    ("default via 10.0.0.1 dev veth-db",),
    (Listener(5432, "10.0.0.20", "postgres", 42),),
)
WHOLE = Network(
    lab="shop",
    host="",
    interfaces=(up("lo", "127.0.0.1/8"), up("eth0", "192.0.2.7/24")),
    routes=("default via 192.0.2.1 dev eth0",),
    forwarding=True,
    bridges=(
        Bridge(
            "br-app",
            "up",
            True,
            ("10.0.0.1/16",),
            (
                Port("veth-web-br", "veth", "forwarding", True, "web", "veth-web"),
                Port("veth-db-br", "veth", "forwarding", True, "db", "veth-db"),
            ),
        ),
    ),
    places=(WEB, DB),
    published=(Published(8080, "10.0.0.10", 80, True),),
)


def with_ports(*ports: Port) -> Network:
    return replace(WHOLE, bridges=(replace(WHOLE.bridges[0], ports=ports),))


def lacks(seen: Network) -> list[tuple[str, str]]:
    return [(lack.node, lack.text) for lack in compare(seen, PLAN).lacks]


def test_whole_network_lacks_nothing_and_stays_as_it_is() -> None:
    assert compare(WHOLE, PLAN) == WHOLE


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (replace(WHOLE, forwarding=False), ("sysctl:ip_forward", "forwarding is off")),
        (
            replace(WHOLE, published=()),
            ("nat:rules", "8080 → 10.0.0.10:80 is not published"),
        ),
        (
            replace(WHOLE, published=(Published(8080, "10.0.0.10", 80, False),)),
            ("nat:rules", "8080 → 10.0.0.10:80 is not published"),
        ),
        (
            replace(WHOLE, places=(replace(WEB, listeners=()), DB)),
            ("service:web", "nothing listens on 80"),
        ),
        (
            replace(WHOLE, places=(replace(WEB, routes=()), DB)),
            ("veth:web", "the default route via 10.0.0.1 is missing"),
        ),
        (
            replace(WHOLE, places=(replace(WEB, interfaces=(up("veth-web"),)), DB)),
            ("veth:web", "veth-web lacks its address 10.0.0.10/16"),
        ),
        (
            replace(
                WHOLE,
                places=(replace(WEB, interfaces=(replace(WEB.interfaces[0], up=False),)), DB),
            ),
            ("veth:web", "veth-web is down"),
        ),
        (
            with_ports(replace(WHOLE.bridges[0].ports[0], state="down"), WHOLE.bridges[0].ports[1]),
            ("veth:web", "veth-web-br is down"),
        ),
        (with_ports(WHOLE.bridges[0].ports[1]), ("veth:web", "veth-web-br is no port of br-app")),
        (replace(WHOLE, places=(WEB,)), ("netns:db", "namespace lab.db is missing")),
        (
            replace(WHOLE, bridges=(replace(WHOLE.bridges[0], state="down"),)),
            ("bridge:br-app", "br-app is down"),
        ),
        (
            replace(WHOLE, bridges=(replace(WHOLE.bridges[0], addresses=()),)),
            ("bridge:br-app", "br-app lacks its address 10.0.0.1/16"),
        ),
    ],
)
def test_lack_is_told_with_its_node(seen: Network, expected: tuple[str, str]) -> None:
    assert expected in lacks(seen)


def test_empty_kernel_is_drawn_as_all_missing() -> None:
    nothing = replace(WHOLE, bridges=(), places=(), published=(), forwarding=False)
    seen = compare(nothing, PLAN)
    assert [bridge.state for bridge in seen.bridges] == ["missing"]
    assert [place.state for place in seen.places] == ["missing", "missing"]
    assert [port.state for port in seen.bridges[0].ports] == ["missing", "missing"]
    text = topology.as_text(seen)
    assert "br-app  ✗ missing" in text
    assert "✗ netns:web" in text
    ElementTree.fromstring(topology_svg.as_svg(seen))


def test_namespace_that_lost_its_name_is_known_by_its_port() -> None:
    nameless = replace(WEB, label="nginx (pid 41)", namespace="nginx (pid 41)")
    ports = WHOLE.bridges[0].ports
    seen = replace(
        with_ports(replace(ports[0], place="nginx (pid 41)"), ports[1]), places=(nameless, DB)
    )
    assert lacks(seen) == [("netns:web", "the name lab.web is missing")]
    found = compare(seen, PLAN).place("web")
    assert found is not None
    assert found.listeners == WEB.listeners


def test_text_shows_namespaces_addresses_sockets_and_published_ports() -> None:
    text = topology.as_text(WHOLE)
    for part in (
        "br-app  up  10.0.0.1/16",
        "web (lab.web)",
        "veth-web  up  10.0.0.10/16",
        "default via 10.0.0.1 dev veth-web",
        "listens 10.0.0.20:5432  postgres (42)",
        "published as 8080 of the host",
        "published 8080 → 10.0.0.10:80 (web)",
    ):
        assert part in text
    assert text.count("listens 80  nginx (41)") == 1  # both versions of IP
    assert "✗" not in text
    assert "foreign" not in text


def test_boxes_of_the_text_are_closed() -> None:
    lines = topology.as_text(WHOLE).splitlines()
    start = next(number for number, line in enumerate(lines) if "web (lab.web)" in line)
    left, right = lines[start].index("┬"), lines[start].index("┐")
    end = next(number for number, line in enumerate(lines[start:], start) if "└" in line[left:])
    for line in lines[start + 1 : end]:
        assert (line[left], line[right]) == ("│", "│")
    assert (lines[end][left], lines[end][right]) == ("└", "┘")


FOREIGN = (
    Port("evil", "veth", "forwarding", False, "stranger", "evil-in"),
    Port("tap0", "tun", "no carrier", False),
    Port("x1", "veth", "forwarding", False, "", "x2 (port of br-other)"),
)


def test_foreign_ports_are_shown_as_foreign() -> None:
    stranger = Place("stranger", "stranger", "live", False, (up("evil-in", "10.0.9.9/16"),))
    seen = compare(
        replace(with_ports(*FOREIGN, *WHOLE.bridges[0].ports), places=(WEB, DB, stranger)), PLAN
    )
    assert seen.lacks == ()
    assert [port.ours for port in seen.bridges[0].ports] == [True, True, False, False, False]
    text = topology.as_text(seen)
    assert "├─✗ evil forwarding, foreign" in text
    assert "stranger · foreign" in text
    assert "x2 (port of br-other) on this host" in text
    svg = topology_svg.as_svg(seen)
    assert len(boxes(svg, "alien")) == 3 + 3 + 1  # ports, what is behind them, the legend


def test_topology_picture_is_well_formed_and_nothing_overlaps() -> None:
    odd = replace(WEB, label="<w&b>\x1b", namespace='"' * 60, routes=("x" * 200,))
    ports = (replace(WHOLE.bridges[0].ports[0], place=odd.label), *WHOLE.bridges[0].ports[1:])
    seen = replace(
        with_ports(*ports, *FOREIGN),
        places=(odd, DB),
        bridges=(
            replace(WHOLE.bridges[0], ports=(*ports, *FOREIGN)),
            Bridge("br-two", "down", False, (), ()),
        ),
    )
    svg = topology_svg.as_svg(compare(seen, PLAN))
    cards = [box for name in ("card", "alien", "ghost") for box in boxes(svg, name)]
    assert_apart([*cards, *boxes(svg, "pill")])
    assert "<w&b>" not in svg
    assert "\x1b" not in svg


def test_many_published_ports_leave_a_card_its_name() -> None:
    many = tuple(Published(8000 + number, "10.0.0.10", 80, True) for number in range(40))
    svg = topology_svg.as_svg(replace(WHOLE, published=many))
    badges = [box for box in boxes(svg, "bar") if box[0] > 500]
    assert 1 < len(badges) < 40
    assert_apart(badges)
    assert f">+{40 - len(badges)}<" in svg


def test_pictures_need_nothing_else_and_follow_the_theme() -> None:
    for svg in (graph_svg.as_svg("shop", SHOP), topology_svg.as_svg(WHOLE)):
        assert "prefers-color-scheme: dark" in svg
        assert "<script" not in svg
        assert "href" not in svg
        assert set(re.findall(r"https?://[^\s\"<]+", svg)) == {"http://www.w3.org/2000/svg"}
        root = ElementTree.fromstring(svg)
        assert root.find(f"{SVG}title") is not None
        used = {word for each in root.iter() for word in each.get("class", "").split()}
        style = root.findtext(f"{SVG}style", "")
        plain = {"node", "ready"}  # for tests and for people; they look like `card` and `edge`
        assert {word for word in used - plain if f".{word}{{" not in style} == set()


def test_pictures_are_the_same_every_time_and_free_of_process_ids() -> None:
    assert graph_svg.as_svg("shop", SHOP) == graph_svg.as_svg("shop", SHOP)
    later = replace(WEB, listeners=(Listener(80, "0.0.0.0", "nginx", 9999),))
    assert topology_svg.as_svg(WHOLE) == topology_svg.as_svg(replace(WHOLE, places=(later, DB)))


def test_network_is_json() -> None:
    assert json.loads(json.dumps(asdict(WHOLE)))["places"][0]["listeners"][0]["port"] == 80


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("nginx", ["nginx: master process"], "nginx"),
        ("python", ["python", "-m", "http.server", "80"], "python http.server"),
        ("python3.11", ["python3", "-u", "/srv/app.py"], "python3.11 app.py"),
        ("python3", ["python3", "-c", "import this"], "python3"),
        ("python3", [""], "python3"),
    ],
)
def test_program_of_an_interpreter_is_what_it_runs(
    name: str, words: list[str], expected: str
) -> None:
    assert program_name(name, words) == expected


# -- rules ---------------------------------------------------------------------------------

MARK = "orchestrator:shop"
PUBLICATION = Publication(8080, "br-app", IPv4Address("10.0.0.10"), 80)
NAT = Nat(
    "ORC-SHOP",
    tuple(
        wanted_rules(
            "ORC-SHOP", MARK, [Net("br-app", IPv4Network("10.0.0.0/16"), True)], [PUBLICATION]
        )
    ),
    Path("unused"),
)


def saved(lines: list[tuple[str, str]]) -> str:
    """What iptables-save -c would print for (table, rule)s."""
    text = []
    for table in dict.fromkeys(table for table, _ in lines):
        text += [
            f"*{table}",
            ":FORWARD DROP [0:0]" if table == "filter" else ":OUTPUT ACCEPT [0:0]",
        ]
        chains = dict.fromkeys(line.split()[1] for kind, line in lines if kind == table)
        text += [f":{chain} - [0:0]" for chain in chains if chain.startswith("ORC-")]
        text += [f"[1234:5000000] {line}" for kind, line in lines if kind == table]
        text.append("COMMIT")
    return "\n".join(text)


LIVE_LINES = [(rule.table, rule.line()) for rule in NAT.wanted]


def rows_of(lines: list[tuple[str, str]]) -> list[rules.Row]:
    return rules.rows(NAT.wanted, parse(saved(lines)), NAT.is_ours, MARK)


def test_rules_stand_in_the_order_in_which_packets_meet_them() -> None:
    found = rows_of(LIVE_LINES)
    assert len(found) == len(NAT.wanted)
    assert {row.state for row in found} == {"live"}
    assert list(dict.fromkeys(f"{row.table} {row.chain}" for row in found)) == [
        "raw PREROUTING",
        "raw ORC-SHOP-RAW",
        "nat PREROUTING",
        "nat OUTPUT",
        "nat ORC-SHOP-PRE",
        "filter FORWARD",
        "filter ORC-SHOP-FWD",
        "nat POSTROUTING",
        "nat ORC-SHOP-POST",
    ]


def test_missing_unwanted_and_moved_rules_are_marked() -> None:
    guard = next(line for line in LIVE_LINES if "guard" in line[1])
    forward = [line for line in LIVE_LINES if "-A ORC-SHOP-FWD" in line[1]]
    others = [line for line in LIVE_LINES if line != guard and line not in forward]
    alien = ("filter", "-A ORC-SHOP-FWD -s 192.0.2.1/32 -j DROP")
    moved = [forward[-1], *forward[:-1]]
    found = rows_of([*others, *moved, alien])
    states = {row.name or row.rule: row.state for row in found if row.state != "live"}
    assert states == {
        "guard": "missing",
        "-s 192.0.2.1/32 -j DROP": "unwanted",
        "outbound": "out of order",
    }
    text = rules.as_text(found, parse(saved(LIVE_LINES)), explain=False)
    assert re.search(r"✗ missing +guard +-d 127", text)
    assert "-j DROP   ✗ unwanted" in text


def test_rules_of_others_before_a_hook_are_counted() -> None:
    found = rows_of([("filter", "-A FORWARD -j DOCKER-USER"), *LIVE_LINES])
    hook = next(row for row in found if row.chain == "FORWARD")
    assert (hook.name, hook.before) == ("hook", 1)


def test_rules_of_others_are_left_out() -> None:
    found = rows_of([*LIVE_LINES, ("filter", "-A FORWARD -j DOCKER-USER")])
    assert not [row for row in found if "DOCKER" in row.rule]


def test_rules_are_explained_with_counters_for_people() -> None:
    text = rules.as_text(rows_of(LIVE_LINES), parse(saved(LIVE_LINES)), explain=True)
    assert "filter FORWARD (policy DROP)" in text
    assert re.search(r"1\.2 k +4\.8 MiB +publish-8080 +-p tcp -m tcp --dport 8080 -j DNAT", text)
    for rule in NAT.wanted:
        assert " ".join(rule.why.split()[:5]) in " ".join(text.split())


def test_flow_of_each_client_names_its_rules_in_order() -> None:
    text = rules.flows_text([PUBLICATION], rows_of(LIVE_LINES))
    flat = " ".join(text.split())
    assert "✗" not in flat
    assert (
        "a client outside: arrives with the client's own address raw PREROUTING hook → "
        "nat PREROUTING hook-clients → nat PRE publish-8080 → filter FORWARD hook → "
        "filter FWD publish-8080 → nat POSTROUTING hook"
    ) in flat
    assert (
        "nat OUTPUT hook-host → nat PRE publish-8080 → nat POSTROUTING hook → nat POST localhost"
        in flat
    )
    assert "nat POST hairpin-8080" in flat


def test_flow_shows_where_a_rule_is_missing() -> None:
    lines = [line for line in LIVE_LINES if "hairpin" not in line[1]]
    assert "nat POST hairpin-8080 ✗ missing" in rules.flows_text([PUBLICATION], rows_of(lines))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (3727, "3.6 KiB"),
        (120 << 20, "120 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_bytes_for_people(count: int, expected: str) -> None:
    assert rules.human_bytes(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0"), (999, "999"), (1000, "1.0 k"), (123_456, "123 k")]
)
def test_counts_for_people(count: int, expected: str) -> None:
    assert rules.human_count(count) == expected


def test_network_place_is_found_by_label() -> None:
    assert WHOLE.place("web") == WEB
    assert WHOLE.place("nobody") is None
    assert WHOLE.label_at("10.0.0.20") == "db"
