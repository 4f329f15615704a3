"""Only declared flows: every connection that could be tried is tried, exactly the declared pass."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from attempts import (
    CONNECTED,
    METRICS,
    PLACES,
    REFUSED,
    Attempt,
    attempt_all,
    listeners,
    listening,
    way_from_outside,
)
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World, eventually

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
