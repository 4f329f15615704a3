"""Two labs on one host do not reach each other, and frames that lie end at their port."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from attempts import (
    CONNECTED,
    LISTENER,
    METRICS,
    PLACES,
    REFUSED,
    Attempt,
    attempt_all,
    listeners,
    way_from_outside,
)
from rig import HOST_ADDRESS, World

OTHER = """
name: other
networks: {br-other: {address: 10.88.0.1/24}}
services:
  server:
    networks: {br-other: 10.88.0.10}
    command: [python, /stack/listener.py, 0.0.0.0/7000/tcp, 0.0.0.0/7001/tcp]
    readiness: {tcp: 7000}
  friend: {networks: {br-other: 10.88.0.20}}
  villain: {networks: {br-other: 10.88.0.66}}
flows:
  - {from: friend, to: server, ports: [7001]}
supervision: {port: 0}
"""


@pytest.fixture(scope="module")
def other(watched: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Another lab beside the shop: a server, its friend, and a namespace to play a villain in."""
    directory = tmp_path_factory.mktemp("other")
    directory.chmod(0o755)
    (directory / "listener.py").write_text(LISTENER)
    stack = directory / "stack.yaml"
    stack.write_text(OTHER)
    world = World(
        watched.host, watched.outside, directory / "state", directory / "run", stack=stack
    )
    world.orchestrator("up").ok()
    try:
        yield world
    finally:
        world.orchestrator("down", "--volumes").ok()


def test_two_labs_on_one_host_do_not_reach_each_other(watched: World, other: World) -> None:
    host = watched.host
    tried = [
        Attempt(f"{host}.{name}", address, port)
        for name in ("server", "friend")
        for address in (*PLACES.values(), "10.0.0.1")
        for port in (80, 3000, 5000, 5432, 6379, 9090, METRICS)
    ]
    tried += [
        Attempt(f"{host}.{place}", "10.88.0.10", port) for place in PLACES for port in (7000, 7001)
    ]
    with way_from_outside(watched, "10.88.0.0/24"):
        tried += [Attempt(watched.outside, "10.88.0.10", port) for port in (7000, 7001)]
        ends = attempt_all(tried)
    assert CONNECTED not in ends.values()
    # The server is there, for its friend and its own host; and published is for everybody.
    open_ = [Attempt(f"{host}.friend", "10.88.0.10", 7001), Attempt(host, "10.88.0.10", 7000)]
    open_ += [Attempt(f"{host}.friend", "10.88.0.1", 8080)]
    assert set(attempt_all(open_).values()) == {CONNECTED}


def guarded(world: World, bridge: str) -> int:
    """Packets from the bridge to the loopback's addresses that the rule in raw dropped so far."""
    for line in world.on_host("iptables", "-t", "raw", "-vnxL").ok().out.splitlines():
        packets, _, target, *rest = line.split() or [""] * 4
        if target == "DROP" and {bridge, "127.0.0.0/8"} <= set(rest):
            return int(packets)
    raise AssertionError(f"no guard of {bridge}")


def test_localhost_of_the_host_is_nobody_elses(watched: World, other: World) -> None:
    """route_localnet is on for the bridges: CVE-2020-8558. Two rules refuse who uses that, each
    of them alone."""
    host = watched.host
    inside = f"{host}.villain"
    attempts = {
        inside: ("10.88.0.1", Attempt(inside, "127.0.0.1", 2223)),
        watched.outside: (HOST_ADDRESS, Attempt(watched.outside, "127.0.0.1", 2223)),
    }
    for namespace, (gateway, _) in attempts.items():
        watched.direct("ip", "-n", namespace, "addr", "del", "127.0.0.1/8", "dev", "lo").ok()
        watched.direct("ip", "-n", namespace, "route", "add", "127.0.0.1", "via", gateway).ok()
        words = ("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        watched.direct("ip", "netns", "exec", namespace, *words).ok()

    def flush(table: str, chain: str) -> None:
        other.on_host("iptables", "-t", table, "-F", chain).ok()

    try:
        with listeners(host, "127.0.0.1/2223/tcp"):
            tried = [attempt for _, attempt in attempts.values()]
            assert CONNECTED not in attempt_all(tried).values()
            flush("filter", "INPUT")
            before = guarded(other, "br-other")
            assert CONNECTED not in attempt_all(tried).values()
            assert guarded(other, "br-other") > before
            other.orchestrator("replay").ok()
            flush("raw", "PREROUTING")
            assert CONNECTED not in attempt_all(tried).values()
            # Without both it is open to the neighbour: the attempt is a real one.
            flush("filter", "INPUT")
            assert attempt_all(tried[:1])[tried[0]] == CONNECTED
    finally:
        other.orchestrator("replay").ok()
        for namespace in attempts:
            watched.direct("ip", "-n", namespace, "route", "del", "127.0.0.1")
            watched.direct("ip", "-n", namespace, "addr", "add", "127.0.0.1/8", "dev", "lo").ok()


def spoofed(world: World) -> int:
    """Frames that were dropped at the villain's port so far."""
    count = world.orchestrator("policy", "--json").json()["spoofed"]["veth-villain-br"]
    assert isinstance(count, int)
    return count


def test_anothers_ip_address_is_dropped_at_the_port(other: World) -> None:
    villain, friend = f"{other.host}.villain", "10.88.0.20"
    other.direct("ip", "-n", villain, "addr", "add", f"{friend}/32", "dev", "veth-villain").ok()
    try:
        before = spoofed(other)
        stolen = Attempt(villain, "10.88.0.10", 7001, source=friend)
        assert attempt_all([stolen])[stolen] not in (CONNECTED, REFUSED)
        assert spoofed(other) > before
    finally:
        words = ("addr", "del", f"{friend}/32", "dev", "veth-villain")
        other.direct("ip", "-n", villain, *words).ok()


def test_false_arp_diverts_nobody(other: World) -> None:
    """A gratuitous announcement of another's address: RFC 826, operation 2."""
    villain, friend = f"{other.host}.villain", "10.88.0.20"
    other.direct("ip", "netns", "exec", f"{other.host}.server", "ping", "-c", "1", friend).ok()
    before, known = spoofed(other), neighbour(other, friend)
    code = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
        "s.bind(('veth-villain', 0)); me = s.getsockname()[4];"
        "ip = socket.inet_aton(sys.argv[1]); all = b'\\xff' * 6;"
        "head = bytes.fromhex('0001080006040002');"
        "s.send(all + me + b'\\x08\\x06' + head + me + ip + all + ip)"
    )
    other.direct("ip", "netns", "exec", villain, sys.executable, "-c", code, friend).ok()
    assert spoofed(other) == before + 1
    assert neighbour(other, friend) == known


def neighbour(world: World, address: str) -> str:
    """The MAC address that the server knows of it."""
    line = world.direct("ip", "-n", f"{world.host}.server", "neigh", "show", address).ok().out
    return line.split("lladdr ")[1].split()[0]


IP = "ip4 = '450000140000000040fd0000'; body = bytes.fromhex(ip4) + ip + to + bytes(40)"
ARP = "body = bytes.fromhex('0001080006040001') + me + ip + bytes(6) + to + bytes(40)"


@pytest.mark.parametrize(("ethertype", "body"), [("0800", IP), ("0806", ARP)])
def test_frame_of_a_vlan_is_dropped_whatever_is_in_it(
    other: World, ethertype: str, body: str
) -> None:
    """Also what truly says where it comes from, behind a tag: IEEE 802.1Q."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW);"
        "s.bind(('veth-villain', 0)); me = s.getsockname()[4];"
        "ip, to = map(socket.inet_aton, sys.argv[1:]);"
        f"{body}; tag = bytes.fromhex('81000001{ethertype}');"
        "s.send(b'\\xff' * 6 + me + tag + body)"
    )
    villain = f"{other.host}.villain"
    own = other.direct("ip", "-n", villain, "-4", "-br", "addr", "show", "veth-villain").ok()
    (address,) = re.findall(r"10\.88\.\d+\.\d+", own.out)
    before = spoofed(other)
    words = ("ip", "netns", "exec", villain, sys.executable, "-c", code, address, "10.88.0.10")
    other.direct(*words).ok()
    assert spoofed(other) == before + 1


def test_anothers_mac_address_is_dropped_at_the_port(other: World) -> None:
    villain = f"{other.host}.villain"
    mac = neighbour(other, "10.88.0.20")
    other.direct("ip", "-n", villain, "link", "set", "veth-villain", "address", mac).ok()
    try:
        before = spoofed(other)
        assert other.direct(*f"ip netns exec {villain} ping -c1 -W1 10.88.0.10".split()).code != 0
        assert spoofed(other) > before
        # The bridge goes on sending the friend's frames to the friend.
        fdb = other.on_host("bridge", "fdb", "show", "br", "br-other").ok().out
        assert all("veth-friend-br" in line for line in fdb.splitlines() if line.startswith(mac))
        # A false MAC is drift, and is mended.
        other.orchestrator("replay").ok()
        other.direct(*f"ip netns exec {villain} ping -c1 10.88.0.10".split()).ok()
    finally:
        other.orchestrator("replay").ok()
