"""Only declared flows: every connection that could be tried is tried, exactly the declared pass."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attempts import CONNECTED, LISTENER, REFUSED, Attempt, attempt_all, listeners, listening
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World, eventually

PLACES = {
    "nginx-lb": "10.0.0.10",
    "api-gateway": "10.0.0.20",
    "product-service": "10.0.0.30",
    "order-service": "10.0.0.40",
    "redis-cache": "10.0.0.50",
    "postgres-db": "10.0.0.60",
    "prometheus": "10.0.0.70",
}
# Written by hand from services/stack.yaml: (from, to, port).
DECLARED = {
    ("nginx-lb", "api-gateway", 3000),
    ("api-gateway", "product-service", 5000),
    ("api-gateway", "order-service", 5000),
    ("api-gateway", "redis-cache", 6379),
    ("api-gateway", "nginx-lb", 80),  # the seed's curl
    ("product-service", "redis-cache", 6379),
    ("product-service", "postgres-db", 5432),
    ("order-service", "redis-cache", 6379),
    ("order-service", "postgres-db", 5432),
    ("prometheus", "nginx-lb", 80),
    ("prometheus", "nginx-lb", 8081),
    ("prometheus", "redis-cache", 6379),
    ("prometheus", "postgres-db", 5432),
    ("prometheus", "api-gateway", 9100),
    ("prometheus", "product-service", 9100),
    ("prometheus", "order-service", 9100),
    # The host asks whether they are well.
    ("host", "nginx-lb", 80),
    ("host", "api-gateway", 3000),
    ("host", "product-service", 5000),
    ("host", "order-service", 5000),
    ("host", "redis-cache", 6379),
    ("host", "postgres-db", 5432),
    *(("host", "prometheus", port) for port in (9090, 9113, 9121, 9187)),
}
METRICS = 9464


@contextmanager
def way_from_outside(world: World, subnet: str) -> Iterator[None]:
    """The outside knows the way to services, on a host whose FORWARD lets everything pass."""
    world.outside_("ip", "route", "add", subnet, "via", HOST_ADDRESS).ok()
    world.on_host("iptables", "-P", "FORWARD", "ACCEPT").ok()
    try:
        yield
    finally:
        world.on_host("iptables", "-P", "FORWARD", "DROP").ok()
        world.outside_("ip", "route", "del", subnet).ok()


def test_exactly_the_declared_connections_of_the_shop_can_be_made(watched: World) -> None:
    names = {place: f"{watched.host}.{place}" for place in PLACES}
    names |= {"host": watched.host, "outside": watched.outside}
    ports = {port for place in PLACES for port in listening(names[place])}
    assert ports >= {80, 3000, 5000, 5432, 6379, 8081, 9090, 9100}
    tried = {
        Attempt(names[source], address, port): (source, target, port)
        for source in names
        for target, address in PLACES.items()
        for port in ports
        if source != target
    }
    with way_from_outside(watched, "10.0.0.0/16"):
        ends = attempt_all(tried)
    passed = {tried[each] for each, end in ends.items() if end == CONNECTED}
    assert passed == DECLARED
    # Who is refused inside learns of it at once; strangers learn nothing.
    others = {end for each, end in ends.items() if tried[each] not in DECLARED}
    inside = {end for each, end in ends.items() if each.namespace != watched.outside}
    assert inside == {CONNECTED, REFUSED}
    assert "unreachable" not in others


def test_nothing_on_the_host_can_be_reached_from_inside_but_what_is_declared(
    watched: World,
) -> None:
    """Its own services, by each of its addresses; the supervisor; the metrics port."""
    with listeners(watched.host, "0.0.0.0/2222/tcp", "0.0.0.0/2222/udp", "127.0.0.1/2223/tcp"):
        tried = [
            Attempt(f"{watched.host}.{place}", address, port, protocol)
            for place in PLACES
            for address in ("10.0.0.1", HOST_ADDRESS, "10.77.0.1")
            for port, protocol in itertools.product((2222, 2223, METRICS), ("tcp", "udp"))
        ]
        ends = attempt_all(tried)
        assert {each for each, end in ends.items() if end == CONNECTED} == {
            Attempt(f"{watched.host}.prometheus", "10.0.0.1", METRICS)
        }
        # They are there: the host itself and the outside reach them.
        own = [Attempt(watched.host, "127.0.0.1", port) for port in (2222, 2223, METRICS)]
        own += [Attempt(watched.outside, HOST_ADDRESS, 2222, kind) for kind in ("tcp", "udp")]
        assert set(attempt_all(own).values()) == {CONNECTED}


def test_bridges_address_is_not_for_the_outside(watched: World) -> None:
    with (
        way_from_outside(watched, "10.0.0.0/16"),
        listeners(watched.host, "0.0.0.0/2222/tcp"),
    ):
        tried = [Attempt(watched.outside, "10.0.0.1", port) for port in (METRICS, 2222)]
        assert CONNECTED not in attempt_all(tried).values()


def test_published_port_goes_on_answering_everybody(watched: World) -> None:
    names = [watched.host, *(f"{watched.host}.{place}" for place in PLACES)]
    tried = [Attempt(name, "10.0.0.1", 8080) for name in names]
    tried += [Attempt(name, HOST_ADDRESS, 8080) for name in (*names, watched.outside)]
    tried += [Attempt(watched.host, "127.0.0.1", 8080)]
    assert set(attempt_all(tried).values()) == {CONNECTED}


def test_services_that_need_no_outside_have_none(watched: World) -> None:
    """But ping, which the platform promises to everybody."""
    with listeners(watched.outside, "0.0.0.0/443/tcp", "0.0.0.0/53/udp"):
        ports = ((443, "tcp"), (53, "udp"))
        tried = {
            Attempt(f"{watched.host}.{place}", OUTSIDE_ADDRESS, *port): place
            for place in PLACES
            for port in ports
        }
        ends = attempt_all(tried)
    kept_in = {tried[each] for each, end in ends.items() if end == REFUSED}
    assert kept_in == {"redis-cache", "postgres-db"}
    assert {
        tried[each] for each, end in ends.items() if end == CONNECTED
    } == PLACES.keys() - kept_in
    for place in kept_in:
        watched.inside(place, "ping", "-c", "1", OUTSIDE_ADDRESS).ok()


def test_policy_shows_each_flow_with_rule_and_counter(watched: World) -> None:
    def cells() -> dict[tuple[str, str, int], int]:
        found = watched.orchestrator("policy", "--json").json()["cells"]
        assert {each["state"] for each in found} == {"live"}
        assert all(each["rules"] and each["why"] for each in found)
        return {(e["source"], e["target"], e["port"]): e["connections"] for e in found}

    before = cells()
    published, scraped = ("outside", "nginx-lb", 80), ("prometheus", "host", METRICS)
    assert before.keys() == DECLARED | {published, scraped}
    for _ in range(3):
        watched.curl(f"http://{HOST_ADDRESS}:8080/health", where="outside").ok()
        watched.curl("http://10.0.0.10/health", where="api-gateway").ok()
    assert watched.curl("http://10.0.0.60:5432/", where="nginx-lb").code == 7
    after = cells()
    for flow in (published, ("api-gateway", "nginx-lb", 80)):
        assert after[flow] == before[flow] + 3
    shown = watched.orchestrator("policy", "--explain").ok().out
    assert "api-gateway → nginx-lb:80/tcp" in shown
    assert "the load balancer is asked from another" in shown
    assert "-s 10.0.0.20/32 -i veth-nginx -p tcp -m tcp --dport 80 -j ACCEPT" in shown
    assert "refused packets: " in shown
    assert "postgres-db" in next(
        line for line in shown.splitlines() if line.startswith("refused packets: ")
    )


def test_why_names_a_policy_that_was_flushed_and_the_supervisor_brings_it_back(
    watched: World,
) -> None:
    undeclared = Attempt(f"{watched.host}.nginx-lb", "10.0.0.60", 5432)
    assert undeclared_is_refused(undeclared)
    watched.inside("postgres-db", "iptables", "-F").ok()
    eventually(lambda: undeclared_is_refused(undeclared))


CACHE = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  web: {networks: {br-app: 10.0.0.10}, command: [sleep, "1000"]}
  other: {networks: {br-app: 10.0.0.11}, command: [sleep, "1000"]}
  cache: {networks: {br-app: 10.0.0.20}, command: [sleep, "1000"]}
flows: [{from: web, to: cache, ports: [80], why: it asks}]
"""
CHAIN = "$(iptables -S INPUT | grep -o 'ORC-[^ ]*-IN')"


@pytest.mark.parametrize(
    ("change", "is_open", "declared", "words"),
    [
        ("true", False, "0", ""),
        ("iptables -I INPUT -j ACCEPT", True, "0", "comes after: -A INPUT -j ACCEPT"),
        ("iptables -I INPUT -j DROP", False, "0", "comes after: -A INPUT -j DROP"),
        ("iptables -F", True, "✗", "missing in filter: -A INPUT"),
        (f"iptables -I {CHAIN} -j ACCEPT", True, "0", "unwanted in filter: -A ORC-"),
        (
            "iptables-save | grep -v ' from-' | iptables-restore",
            False,
            "✗",
            "missing in filter: -A ORC-",
        ),
    ],
)
def test_policy_does_not_call_refused_what_is_let_in(
    world: World, tmp_path: Path, change: str, is_open: bool, declared: str, words: str
) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(CACHE)
    world.orchestrator("up", stack=stack).ok()
    world.inside("cache", "bash", "-ec", change).ok()
    shown = world.orchestrator("policy", stack=stack)
    row = next(line.split() for line in shown.out.splitlines() if line.startswith("cache:80"))
    other = "open" if is_open else "·"
    assert row == ["cache:80/tcp", other, other, declared, other, "="]
    assert shown.code == (1 if words else 0)
    assert words in shown.err
    assert ("policy:cache is not as wanted" in shown.err) == bool(words)
    found = world.orchestrator("policy", "--json", stack=stack)
    assert found.code == shown.code
    assert found.json_of_failure()["open"] == (["cache"] if is_open else [])


def undeclared_is_refused(attempt: Attempt) -> bool:
    return attempt_all([attempt])[attempt] == REFUSED


# -- a second lab on the same host ---------------------------------------------------------

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
