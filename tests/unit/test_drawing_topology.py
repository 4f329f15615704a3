"""The network's picture: what is there, what is foreign, what is missing."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from drawings import assert_apart, assert_stands_alone, boxes
from msgspec import to_builtins
from msgspec.structs import replace

from orchestrator.drawing import topology, topology_svg
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


def test_topology_picture_stands_alone() -> None:
    assert_stands_alone(topology_svg.as_svg(WHOLE))


def test_topology_picture_is_free_of_process_ids() -> None:
    later = replace(WEB, listeners=(Listener(80, "0.0.0.0", "nginx", 9999),))
    assert topology_svg.as_svg(WHOLE) == topology_svg.as_svg(replace(WHOLE, places=(later, DB)))


def test_network_is_json() -> None:
    assert json.loads(json.dumps(to_builtins(WHOLE)))["places"][0]["listeners"][0]["port"] == 80


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


def test_network_place_is_found_by_label() -> None:
    assert WHOLE.place("web") == WEB
    assert WHOLE.place("nobody") is None
    assert WHOLE.label_at("10.0.0.20") == "db"
