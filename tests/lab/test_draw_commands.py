"""`graph`, `topology` and `rules` on a real lab: they show what is, and change nothing."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rig import HOST_ADDRESS, World, eventually, run

Write = Callable[..., Path]

STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  web:
    networks: {br-app: 10.0.0.10}
    command: [python, -m, http.server, "80"]
    ports: ["8080:80"]
    readiness: {tcp: 80}
    needs: {back: started}
  back:
    networks: {br-app: 10.0.0.20}
    command: [python, -m, http.server, "5000"]
    readiness: {tcp: 5000}
    needs: [init]
jobs:
  init: {of: back, network: false, command: ["true"]}
"""


@pytest.fixture
def stack(world: World, write_stack: Write) -> Path:
    """The stack file, and it is up; the world takes it down."""
    path = write_stack(STACK)
    world.orchestrator("up", stack=path).ok()
    return path


def places(seen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {place["label"]: place for place in seen["places"]}


def ports(seen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {port["name"]: port for bridge in seen["bridges"] for port in bridge["ports"]}


def packets(world: World, stack: Path) -> dict[tuple[str, str], int]:
    """Counters by chain and name of the rule."""
    rows = world.orchestrator("rules", "--json", stack=stack).json()
    return {(row["chain"], row["name"]): row["packets"] for row in rows}


def test_topology_shows_what_is_there_and_changes_nothing(world: World, stack: Path) -> None:
    before = world.fingerprint()
    seen = world.orchestrator("topology", "--json", stack=stack).json()
    text = world.orchestrator("topology", stack=stack).ok().out
    pictures = [world.orchestrator("topology", "--svg", stack=stack).ok().out for _ in range(2)]
    assert world.fingerprint() == before

    assert seen["lacks"] == []
    assert [bridge["name"] for bridge in seen["bridges"]] == ["br-app"]
    assert list(places(seen)) == ["web", "back"]
    web = places(seen)["web"]
    assert web["namespace"] == f"{world.host}.web"
    assert [(each["name"], each["addresses"]) for each in web["interfaces"]] == [
        ("veth-web", ["10.0.0.10/16"])
    ]
    assert web["routes"] == ["default via 10.0.0.1 dev veth-web"]
    listening = [(each["port"], each["program"]) for each in web["listeners"]]
    assert listening == [(80, "python http.server")]
    assert ports(seen)["veth-web-br"]["interface"] == "veth-web"
    assert {port["state"] for port in ports(seen).values()} == {"forwarding"}
    assert seen["published"] == [{"port": 8080, "address": "10.0.0.10", "to": 80, "ours": True}]
    assert f"wan0  up  {HOST_ADDRESS}/24" in text
    assert "listens 5000  python http.server" in text
    assert "✗" not in text
    assert pictures[0] == pictures[1]
    ElementTree.fromstring(pictures[0])


def test_topology_shows_drift_and_foreign_ports(world: World, stack: Path) -> None:
    for words in (
        f"ip -n {world.host} link set veth-web-br down",
        f"ip -n {world.host}.back address del 10.0.0.20/16 dev veth-back",
        f"ip -n {world.host} link add evil type veth peer name evil-in netns {world.outside}",
        f"ip -n {world.host} link set evil master br-app up",
        f"ip -n {world.outside} link set evil-in up",
        f"ip -n {world.host} link add x1 type veth peer name x2",
        f"ip -n {world.host} link set x1 master br-app up",
        f"ip -n {world.host} link set x2 master br-foreign up",
    ):
        run(*words.split()).ok()

    def settled() -> bool:
        now = ports(world.orchestrator("topology", "--json", stack=stack).json())
        return all(now[name]["state"] == "forwarding" for name in ("evil", "x1"))

    eventually(settled)
    seen = world.orchestrator("topology", "--json", stack=stack).json()
    found = ports(seen)
    assert found["veth-web-br"]["state"] == "down"
    assert (found["evil"]["ours"], found["evil"]["place"]) == (False, world.outside)
    assert found["evil"]["interface"] == "evil-in"
    assert found["x1"]["interface"] == "x2 (port of br-foreign)"
    assert places(seen)[world.outside]["ours"] is False
    lacks = {(lack["node"], lack["text"]) for lack in seen["lacks"]}
    assert ("veth:web", "veth-web-br is down") in lacks
    assert ("veth:back", "veth-back lacks its address 10.0.0.20/16") in lacks
    text = world.orchestrator("topology", stack=stack).ok().out
    assert "├─✗ veth-web-br down" in text
    assert "evil forwarding, foreign" in text
    assert f"{world.outside} · foreign" in text
    ElementTree.fromstring(world.orchestrator("topology", "--svg", stack=stack).ok().out)


def test_topology_shows_namespaces_that_are_gone(world: World, stack: Path) -> None:
    """A name alone may go while processes hold the namespace; or all of it."""
    run("ip", "netns", "delete", f"{world.host}.web").ok()
    seen = world.orchestrator("topology", "--json", stack=stack).json()
    assert [lack["text"] for lack in seen["lacks"] if lack["node"] == "netns:web"] == [
        f"the name {world.host}.web is missing"
    ]
    assert places(seen)["web"]["interfaces"][0]["addresses"] == ["10.0.0.10/16"]

    world.orchestrator("down", stack=stack).ok()
    text = world.orchestrator("topology", stack=stack).ok().out
    assert "br-app  ✗ missing" in text
    assert re.search(rf"✗ netns:web +namespace {world.host}\.web is missing", text)


def test_rules_count_what_passes(world: World, stack: Path) -> None:
    before = packets(world, stack)
    world.curl("http://localhost:8080/").ok()
    world.curl(f"http://{HOST_ADDRESS}:8080/", where="outside").ok()
    after = packets(world, stack)
    chain = next(chain for chain, name in after if name == "publish-8080" and "PRE" in chain)
    assert after[chain, "publish-8080"] == before[chain, "publish-8080"] + 2
    assert after["PREROUTING", "hook-clients"] > before["PREROUTING", "hook-clients"]
    assert after["OUTPUT", "hook-host"] > before["OUTPUT", "hook-host"]


def test_rules_are_explained_and_drift_is_marked(world: World, stack: Path) -> None:
    text = world.orchestrator("rules", "--explain", stack=stack).ok().out
    assert "✗" not in text
    assert "port 8080 → 10.0.0.10:80 on br-app" in text
    assert "localhost: arrives with the bridge's address" in text
    assert "CVE-2020-8558" in text
    assert "filter FORWARD (policy DROP)" in text
    assert "FOREIGN" not in text

    rows = world.orchestrator("rules", "--json", stack=stack).json()
    guard = next(row for row in rows if row["name"] == "guard")
    words = re.sub(r'"(.*?)"', lambda quoted: quoted[1].replace(" ", "\0"), guard["line"]).split()
    delete = ["-D", *(word.replace("\0", " ") for word in words[1:])]
    world.on_host("iptables", "-t", "raw", *delete).ok()
    forward = next(row["chain"] for row in rows if row["name"] == "neighbours")
    world.on_host("iptables", "-A", forward, "-s", "192.0.2.1", "-j", "DROP").ok()
    world.on_host("iptables", "-I", "FORWARD", "-s", "192.0.2.2", "-j", "DROP").ok()

    rows = world.orchestrator("rules", "--json", stack=stack).json()
    states = {row["name"] or row["rule"]: row["state"] for row in rows if row["state"] != "live"}
    assert states == {"guard": "missing", "-s 192.0.2.1/32 -j DROP": "unwanted"}
    assert [row["before"] for row in rows if row["chain"] == "FORWARD"] == [1]
    done = world.orchestrator("rules", stack=stack).ok()
    assert "✗ missing  guard" in done.out
    assert "✗ unwanted" in done.out
    assert "2 of" in done.err


def test_rules_without_a_lab_are_all_missing(world: World, write_stack: Write) -> None:
    done = world.orchestrator("rules", "--explain", stack=write_stack(STACK)).ok()
    assert "none of these is live" in done.err
    assert "✗ missing" in done.out


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may read; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_graph_needs_neither_root_nor_a_lab(public: Path) -> None:
    stack = public / "stack.yaml"
    stack.write_text(STACK)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1].split(':'); sys.argv[:2] = ['orchestrator'];"
        "from orchestrator.cli import main; from orchestrator.commands import draw;"
        "from orchestrator.drawing import graph, graph_svg;"
        "from orchestrator import known, schema, stack;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); main()"
    )
    root = Path(__file__).parents[2]
    path = ":".join([str(root), *(each for each in sys.path if "site-packages" in each)])

    def graph(*options: str) -> str:
        words = ["graph", "--stack", str(stack), "--host-netns", "no-such-host", *options]
        return run(sys.executable, "-c", code, path, *words).ok().out

    text = graph()
    for name in ("netns:web", "veth:back", "bridge:br-app", "nat:rules", "job:init"):
        assert name in text
    assert re.search(r"service:web +← policy:web, veth:web, service:back \(started\)", text)
    assert "netns:web" not in graph("--services")
    assert "-- completed -->" in graph("--mermaid")
    assert graph("--dot").startswith("digraph")
    ElementTree.fromstring(graph("--svg"))


@pytest.mark.parametrize(
    "words",
    [("graph", "--svg", "--dot"), ("topology", "--json", "--svg"), ("graph", "--dot", "--mermaid")],
)
def test_two_forms_at_once_are_wrong_use(world: World, words: tuple[str, ...]) -> None:
    done = world.orchestrator(*words)
    assert (done.code, done.out) == (2, "")
    assert f"{words[1]} and {words[2]}: one form at a time" in done.err


def test_no_two_layers_of_the_shop_share_a_colour(world: World) -> None:
    layers = {node["layer"] for node in world.orchestrator("plan", "--json").ok().json()}
    picture = world.orchestrator("graph", "--svg").ok().out
    assert len(set(re.findall(r'class="s(\d+)"', picture))) == len(layers)
