"""Rules that somebody adds by hand as a textbook has them lead where ours do: no conflict."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import World

PLATFORM = """
name: hand
networks: {br-hand: {address: 10.0.0.1/16}}
services:
  nginx-lb:
    networks: {br-hand: 10.0.0.10}
    command: [python, -m, http.server, "80"]
    ports: ["8080:80"]
    readiness: {http: {port: 80, path: /, contains: stack.yaml}}
"""
BY_HAND = (
    "-t nat -A POSTROUTING -s 10.0.0.0/16 ! -o br-app -j MASQUERADE",
    "-t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.10:80",
    "-A FORWARD -p tcp -d 10.0.0.10 --dport 80 -j ACCEPT",
)


@pytest.mark.parametrize("is_first", [True, False])
def test_rules_of_the_textbook_are_left_and_said(
    world: World, tmp_path: Path, is_first: bool
) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(PLATFORM)
    if not is_first:
        world.orchestrator("up", stack=stack).ok()
    for line in BY_HAND:
        world.on_host("iptables", *line.split()).ok()
    done = world.orchestrator("up", stack=stack).ok()
    assert "warning: port 8080 is led to nginx-lb by another rule too: -A PREROUTING" in done.err
    assert ("already up: " in done.out) is not is_first
    assert "stack.yaml" in world.curl("http://localhost:8080/").ok().out
    assert "stack.yaml" in world.curl("http://203.0.113.2:8080/", where="outside").ok().out
    told = world.orchestrator("doctor", "--json", stack=stack).json()["findings"]
    assert [each["level"] for each in told if each["check"] == "ports"] == ["ok"]
    world.orchestrator("down", stack=stack).ok()
    left = world.on_host("iptables-save").ok().out
    for end in ("-j MASQUERADE", "--to-destination 10.0.0.10:80", "--dport 80 -j ACCEPT"):
        assert end in left


@pytest.mark.parametrize(
    "place", ["10.0.0.10:8080", "10.0.0.10:800", "10.0.0.1:80", "10.0.0.10", "10.0.0.10:80-90"]
)
def test_rule_that_leads_elsewhere_is_a_conflict(world: World, tmp_path: Path, place: str) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(PLATFORM)
    rule = f"-t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination {place}"
    world.on_host("iptables", *rule.split()).ok()
    failed = world.orchestrator("up", stack=stack)
    assert (failed.code, "already redirected by: -A PREROUTING" in failed.err) == (3, True)


def test_rules_that_are_gone_are_told_a_line_each(world: World, tmp_path: Path) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(PLATFORM)
    world.orchestrator("up", stack=stack).ok()
    world.on_host("iptables", "-t", "nat", "-F").ok()
    rows = {row["node"]: row for row in world.orchestrator("plan", "--json", stack=stack).json()}
    gone = rows["nat:rules"]["why"].split("; ")
    assert len(gone) > 2
    lines = world.orchestrator("plan", stack=stack).ok().out.splitlines()
    first = next(number for number, line in enumerate(lines) if "nat:rules" in line)
    told = lines[first : first + len(gone)]
    assert [line.split(maxsplit=2)[2] for line in told[:1]] == gone[:1]
    assert [line.strip() for line in told[1:]] == gone[1:]
    status = world.orchestrator("status", stack=stack).ok().out
    assert f"nat:rules: drifted: {gone[0]} (and {len(gone) - 1} more)\n" in status
