"""What connection tracking knows in the services' namespaces, and what is heard without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from attempts import CONNECTED, PLACES, Attempt, attempt_all, listeners, way_from_outside
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World

ASKED, NAMES = "api-gateway", 5353  # a service, and a port that nobody has declared


def test_kernel_tracks_connections_only_where_something_can_be_asked(watched: World) -> None:
    watched.curl("http://127.0.0.1:8080/api/products").ok()
    watched.inside("redis-cache", "ping", "-c", "1", OUTSIDE_ADDRESS).ok()
    count = "/proc/sys/net/netfilter/nf_conntrack_count"
    tracked = {name: int(watched.inside(name, "cat", count).ok().out) > 0 for name in PLACES}
    assert tracked == {name: name not in ("redis-cache", "postgres-db") for name in PLACES}


def test_host_says_when_a_packet_ran_out_of_hops(watched: World) -> None:
    said = watched.inside(ASKED, "ping", "-t", "1", "-c", "1", OUTSIDE_ADDRESS).text
    assert "From 10.0.0.1" in said
    assert "exceeded" in said


def test_nobody_passes_for_an_answer_from_outside(watched: World) -> None:
    """Neither a neighbour, nor the host by an address of its own, nor a stranger: a server that
    no flow leads to is asked by all of them, on the port from which it asks others itself."""
    inside = f"{watched.host}.{ASKED}"
    address = PLACES[ASKED]
    with (
        way_from_outside(watched, "10.0.0.0/16"),
        listeners(inside, f"0.0.0.0/{NAMES}/udp"),
    ):
        itself = Attempt(inside, address, NAMES, "udp")
        tried = [
            Attempt(f"{watched.host}.product-service", address, NAMES, "udp"),
            Attempt(watched.outside, address, NAMES, "udp"),
            *(
                Attempt(watched.host, address, NAMES, "udp", source)
                for source in ("", "10.0.0.1", HOST_ADDRESS, "10.77.0.1", "127.0.0.1")
            ),
        ]
        ends = attempt_all([itself, *tried])
    assert ends.pop(itself) == CONNECTED
    assert CONNECTED not in ends.values(), ends


def test_refusal_of_a_datagram_is_heard_where_nothing_is_tracked(watched: World) -> None:
    """By whoever refuses it: a neighbour, or the host on the way out."""
    code = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5);"
        "s.connect((sys.argv[1], 9)); s.send(b'?'); s.recv(1)"
    )
    for target in ("10.0.0.20", OUTSIDE_ADDRESS):
        asked = watched.inside("redis-cache", sys.executable, "-c", code, target)
        assert "ConnectionRefusedError" in asked.err, f"{target}: {asked.err}"


AFAR = """
name: afar
networks: {br-app: {address: 10.0.0.1/16}}
services:
  web:
    networks: {br-app: 10.0.0.10}
    outbound: OUTBOUND
    command: [python, -m, http.server, --directory, /stack, "80"]
    ports: ["8080:80"]
    readiness: {tcp: 80}
supervision: {port: 0}
"""
NARROW, LARGE = 1300, 1_000_000  # bytes: a link's MTU, what is asked for


@pytest.mark.parametrize(
    ("outbound", "is_tracked"), [("denied", False), ("[443]", False), ("[443, 53/udp]", True)]
)
def test_answer_gets_through_where_a_link_on_the_way_is_narrow(
    world: World, tmp_path: Path, outbound: str, *, is_tracked: bool
) -> None:
    """The host says so to whoever sends too large a packet: RFC 1191."""
    stack = tmp_path / "stack.yaml"
    stack.write_text(AFAR.replace("OUTBOUND", outbound))
    (tmp_path / "large").write_bytes(bytes(LARGE))
    world.orchestrator("up", stack=stack).ok()
    world.on_host("ip", "link", "set", "wan0", "mtu", str(NARROW)).ok()
    got = world.curl(f"http://{HOST_ADDRESS}:8080/large", "-o", tmp_path / "got", where="outside")
    got.ok()
    assert (tmp_path / "got").stat().st_size == LARGE
    # Nobody has told the other end to send less: it was the refused packet that did.
    route = world.inside("web", "ip", "route", "get", OUTSIDE_ADDRESS).ok().out
    assert f"mtu {NARROW}" in route
    count = world.inside("web", "cat", "/proc/sys/net/netfilter/nf_conntrack_count").ok().out
    assert (int(count) > 0) is is_tracked
