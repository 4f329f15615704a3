"""Replay: one layer is rebuilt, everything else is provably the same."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from books import query
from loading import load
from rig import ROOT, World, eventually, run

from orchestrator.linux import inside

LAYERS = ("bridge", "veths", "nat", "data", "services", "gateway", "edge", "monitoring")


def orders_of(shop: World) -> int:
    """How many orders the database holds."""
    return int(query(shop, "SELECT count(*) FROM orders")[0][0])


def identities(shop: World) -> dict[str, Any]:
    """Namespace inodes, interface indexes, pids and start times, read without our own code."""
    found: dict[str, Any] = {}
    for row in shop.orchestrator("status", "--json").json()["nodes"]:
        kind, _, name = row["node"].partition(":")
        if kind == "netns":
            found[row["node"]] = Path(f"/run/netns/{shop.host}.{name}").stat().st_ino
        elif kind == "service":
            fields = Path(f"/proc/{row['pid']}/stat").read_text().rpartition(")")[2].split()
            found[row["node"]] = (row["pid"], fields[19])
    links = json.loads(shop.on_host("ip", "-j", "link").ok().out)
    for each in links:
        found[f"link:{each['ifname']}"] = (each["ifindex"], each.get("link_index"))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_replay_rebuilds_its_layer_and_disturbs_nothing_else(shop: World, layer: str) -> None:
    before, orders = identities(shop), orders_of(shop)
    planned = shop.orchestrator("replay", layer, "--dry-run", "--json").json()
    assert identities(shop) == before  # a dry run touches nothing

    done = shop.orchestrator("replay", layer, "--json").ok()
    result = json.loads(done.out.splitlines()[-1])
    after = identities(shop)

    assert result["disturbed"] == []
    touched = {*planned["rebuilt"], *planned["mended"]}
    assert touched
    changed = {name for name in before if before[name] != after.get(name)}
    services = {name for name in touched if name.startswith("service:")}
    assert {name for name in changed if not name.startswith("link:")} == services
    if layer == "bridge":
        assert {name for name in changed if name.startswith("link:")} == {"link:br-app"}
    elif layer == "veths":
        assert {name for name in changed if name.startswith("link:")} == {
            f"link:veth-{short}-br"
            for short in ("nginx", "gateway", "product", "order", "redis", "pg", "prom")
        }
    else:
        assert not {name for name in changed if name.startswith("link:")}
    assert orders_of(shop) == orders
    shop.curl("http://localhost:8080/api/products", "--fail").ok()


@pytest.mark.parametrize("layer", ["services", "gateway", "edge", "nat", "veths", "bridge"])
def test_replay_under_load_costs_no_request(shop: World, layer: str) -> None:
    before = orders_of(shop)
    with load(shop) as clients:
        eventually(lambda: orders_of(shop) > before + 20)
        shop.orchestrator("replay", layer).ok()
        now = orders_of(shop)
        eventually(lambda: orders_of(shop) > now + 20)
        found = clients.end()
    assert set(found["codes"]) == {"200", "201"}, found["codes"]
    assert len(found["orders"]) == len(set(found["orders"])) == orders_of(shop) - before


def test_replay_of_all_namespaces_under_load_leaves_nobody_waiting(shop: World) -> None:
    """Whoever is answered by a namespace that goes, is so before; nobody waits out a grace."""
    graces_s = 10.0
    before = orders_of(shop)
    with load(shop) as clients:
        eventually(lambda: orders_of(shop) > before + 20)
        done = shop.orchestrator("replay", "mount:netns", "--json").ok()
        now = orders_of(shop)
        eventually(lambda: orders_of(shop) > now + 20)
        found = clients.end()
    assert json.loads(done.out.splitlines()[-1])["seconds"] < graces_s
    others = found["codes"].keys() - {"200", "201"}
    assert not [code for code in others if code.isdigit() or "timed out" in code], others
    assert len(found["orders"]) == len(set(found["orders"])) == orders_of(shop) - before
    assert set(shop.node_states().values()) == {"ready"}


def test_door_that_a_killed_replay_left_shut_is_opened_by_up(shop: World) -> None:
    """Killed in the middle of what leaves before its namespaces do."""
    words = [shop.host, shop.state, shop.run_dir, shop.stack]
    run(sys.executable, ROOT / "tests" / "crash.py", "mount:netns", "22", *words)
    shut = "FIN,SYN,RST,ACK SYN -j DROP"
    assert shut in shop.inside("nginx-lb", "iptables-save").out
    shop.orchestrator("up").ok()
    assert shut not in shop.inside("nginx-lb", "iptables-save").out
    shop.curl("http://localhost:8080/api/products", "--fail").ok()
    assert set(shop.node_states().values()) == {"ready"}


def test_connections_of_clients_outlive_bridge_links_and_rules(shop: World) -> None:
    """One connection from localhost and one from outside, used before and after each replay."""
    with contextlib.ExitStack() as opened:
        clients = []
        for name, address in ((shop.host, "127.0.0.1"), (shop.outside, "203.0.113.2")):
            client = http.client.HTTPConnection(address, 8080)
            client.auto_open = 0  # never a second connection
            with inside(Path("/run/netns", name)):
                client.sock = socket.create_connection((address, 8080), timeout=30)
            opened.callback(client.close)
            clients.append(client)
        for layer in ("", "bridge", "veths", "nat"):
            if layer:
                shop.orchestrator("replay", layer).ok()
            for client in clients:
                client.request("GET", "/api/products/1")
                answer = client.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)


def test_replay_of_a_namespace_takes_its_service_along(shop: World) -> None:
    before = identities(shop)
    planned = shop.orchestrator("replay", "netns:order-service", "--dry-run", "--json").json()
    assert set(planned["rebuilt"]) == {
        "netns:order-service",
        "policy:order-service",
        "veth:order-service",
        "service:order-service",
    }
    shop.orchestrator("replay", "netns:order-service").ok()
    after = identities(shop)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {
        "netns:order-service",
        "service:order-service",
        "link:veth-order-br",
    }


def test_replay_without_a_name_mends_what_is_broken_and_only_that(shop: World) -> None:
    assert "nothing is broken" in shop.orchestrator("replay").ok().out
    assert "nothing is broken" in shop.orchestrator("replay", "--dry-run").ok().out
    before = identities(shop)
    shop.on_host("ip", "link", "delete", "veth-redis-br").ok()
    shop.kill("order-service")
    chain = next(
        line.split()[0][1:]
        for line in shop.on_host("iptables-save", "-t", "nat").ok().out.splitlines()
        if line.startswith(":ORC-") and line.split()[0].endswith("-PRE")
    )
    shop.on_host("iptables", "-t", "nat", "-F", chain).ok()
    # What is missing is named, and what a check once found says nothing of now.
    assert "\nveth:redis-cache: down\n" in shop.orchestrator("status").ok().out
    assert shop.node_states()["check:storefront"] == "unknown"
    done = shop.orchestrator("replay").ok()
    assert "0 disturbed" in done.out
    after = identities(shop)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {"link:veth-redis-br", "service:order-service"}
    assert set(shop.node_states().values()) == {"ready"}


def test_hung_service_is_found_by_its_silence(shop: World) -> None:
    row = next(
        row
        for row in shop.orchestrator("status", "--json").json()["nodes"]
        if row["node"] == "service:redis-cache"
    )
    os.kill(row["pid"], signal.SIGSTOP)
    planned = shop.orchestrator("replay", "--dry-run", "--json").json()
    assert "service:redis-cache" in planned["rebuilt"]
    shop.orchestrator("replay").ok()
    assert "nothing is broken" in shop.orchestrator("replay").ok().out


def test_history_is_not_rewritten(shop: World) -> None:
    journal = shop.state / f"shop@{shop.host}" / "journal.jsonl"
    before = journal.read_bytes()
    shop.orchestrator("replay", "edge").ok()
    now = journal.read_bytes()
    assert now.startswith(before)
    first = json.loads(now[len(before) :].splitlines()[0])
    assert (first["event"], first["command"]) == ("RunStarted", "replay")


def test_unknown_layer_is_wrong_use(shop: World) -> None:
    failed = shop.orchestrator("replay", "attic")
    assert failed.code == 2
    assert "layers: bridge, veths, nat" in failed.err
