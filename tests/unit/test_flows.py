"""Flows: what a stack file declares, what becomes of it, and what is refused in the file."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.drawing.policy import Chart, Refusal, as_text, cell, explained
from orchestrator.drawing.rules import rows
from orchestrator.errors import SpecError
from orchestrator.flows import HOST, OUTSIDE, flows_of
from orchestrator.kernel.guard import Guard, Port, guard_rules
from orchestrator.kernel.hostpolicy import Outbound
from orchestrator.kernel.iptables import Tables, parse
from orchestrator.kernel.policy import Policy
from orchestrator.lab import Lab
from orchestrator.policies import guard_of, host_rules_of, outbound_of, rules_of
from orchestrator.presence import leave_out
from orchestrator.spec import Stack
from orchestrator.stackfile import parse_stack

TEXT = """
name: tiny
networks:
  br-a: {address: 10.1.0.1/24}
  br-b: {address: 10.2.0.1/24}
services:
  web:
    networks: {br-a: 10.1.0.10}
    command: [x]
    ports: ["8080:80"]
    needs: [filled, both]
    readiness: {tcp: 81}
  side: {namespace: web, command: [x], needs: [store], readiness: {tcp: 82}}
  both: {networks: {br-a: 10.1.0.20, br-b: 10.2.0.20}, command: [x], listen: {port: 70}}
  store:
    networks: {br-a: 10.1.0.30}
    command: [x]
    readiness: {redis: {}}
    outbound: [443, 53/udp]
  far: {networks: {br-b: 10.2.0.40}, command: [x], outbound: denied}
jobs:
  filled: {of: store, command: [x]}
checks:
  direct: {steps: [{url: "http://10.2.0.40:99/"}, {url: "http://localhost:8080/"}]}
flows:
  - {from: [far, side], to: both, ports: [71, 72/udp], why: they talk}
  - {from: both, to: store}
  - {from: web, to: host, ports: [9464]}
"""
LAB = Lab("tiny")
NOWHERE = Path("/nowhere")


def stack(text: str = TEXT) -> Stack:
    return parse_stack(text, "tiny.yaml")


def live(policy: Policy) -> Tables:
    lines = "\n".join(f"[3:180] {rule.line()}" for rule in policy.wanted)
    return parse(f"*filter\n:INPUT ACCEPT [0:0]\n:{policy.chains('filter')[0]} - [0:0]\n{lines}\n")


def test_needs_probes_published_ports_checks_and_flows_are_all_there_is() -> None:
    found = {(f.source, f.target, f.port, f.protocol) for f in flows_of(stack())}
    assert found == {
        (OUTSIDE, "web", 80, "tcp"),
        *((HOST, "web", port, "tcp") for port in (80, 81, 82)),
        (HOST, "both", 70, "tcp"),
        (HOST, "store", 6379, "tcp"),
        (HOST, "far", 99, "tcp"),
        ("web", "store", 6379, "tcp"),  # by a job of it, and by web's neighbour in the namespace
        ("web", "both", 70, "tcp"),
        *((name, "both", *port) for name in ("far", "web") for port in ((71, "tcp"), (72, "udp"))),
        ("both", "store", 6379, "tcp"),
        ("web", HOST, 9464, "tcp"),
    }


def test_flow_knows_every_reason() -> None:
    reasons = {(f.source, f.target, f.port): f.reasons for f in flows_of(stack())}
    assert reasons["web", "store", 6379] == ("web needs filled", "side needs store")
    assert reasons["far", "both", 71] == ("they talk",)


def test_rules_let_callers_in_by_the_link_that_both_share() -> None:
    policies = {each.label: each for each in rules_of(stack(), LAB, NOWHERE)[1]}
    assert policies.keys() == {"web", "both", "store", "far"}
    lines = [rule.line() for rule in policies["both"].wanted]
    comment = '-m comment --comment "orchestrator:tiny from-far-72/udp"'
    link = "veth-both1"  # of its second network
    assert [line for line in lines if "from-far-72" in line] == [
        f"-A ORC-TINY-IN -s 10.2.0.40/32 -i {link} -p udp -m udp --dport 72 {comment} -j ACCEPT"
    ]
    assert [line.split()[3] for line in lines if "from-web-71" in line] == ["10.1.0.10/32"]
    # The host is on both networks, with an address on each.
    assert [line.split()[3] for line in lines if "from-host" in line] == [
        "10.1.0.1/32",
        "10.2.0.1/32",
    ]


def test_published_port_is_for_all_but_neighbours_who_must_be_declared() -> None:
    web = next(each for each in rules_of(stack(), LAB, NOWHERE)[1] if each.label == "web")
    (line,) = [rule.line() for rule in web.wanted if "from-outside" in rule.comment]
    assert "! -s 10.1.0.0/24 -i veth-web -p tcp -m tcp --dport 80 " in line


def test_what_begins_nothing_comes_first_and_what_is_not_declared_is_refused_last() -> None:
    for policy in rules_of(stack(), LAB, NOWHERE)[1]:
        rules = [rule for rule in policy.wanted if rule.chain != "INPUT"]
        assert "! --tcp-flags" in rules[0].more
        assert "ESTABLISHED" in rules[1].more
        assert [rule.target.split()[0] for rule in rules[-2:]] == ["REJECT", "REJECT"]
        assert not rules[-1].match
        assert {rule.target for rule in rules[:-2]} == {"ACCEPT"}
        assert all(len(rule.comment) <= 255 and rule.why for rule in rules)


@pytest.mark.parametrize(
    ("old", "new", "is_tracked"),
    [
        ("72/udp]", "72]", False),
        ("", "", True),  # a flow by UDP has answers
        ("72/udp], why: they talk}", "72]}\n  - {from: far, to: host, ports: [53/udp]}", True),
        ("72/udp], why: they talk}", "72]}\n  - {from: both, to: far, ports: [53/udp]}", False),
        ("command: [x], outbound: denied", "command: [x], outbound: [443]", False),
        ("command: [x], outbound: denied", "command: [x], outbound: [443, 53/udp]", True),
        ("command: [x], outbound: denied", "command: [x], outbound: allowed", True),
        ("outbound: denied", "outbound: denied, ports: ['9:9']", False),
    ],
)
def test_connections_are_tracked_where_something_can_be_asked(
    old: str, new: str, *, is_tracked: bool
) -> None:
    changed = TEXT.replace(old, new, 1) if old else TEXT
    if "outbound" in old:
        changed = changed.replace("72/udp", "72")
    assert changed != TEXT or not old
    (far,) = [
        policy for policy in rules_of(stack(changed), LAB, NOWHERE)[1] if policy.label == "far"
    ]
    assert any("conntrack" in rule.line() for rule in far.wanted) is is_tracked


def test_way_out_is_narrowed_before_the_network_is_let_out() -> None:
    assert outbound_of(stack()) == [
        Outbound("store", "br-a", IPv4Address("10.1.0.30"), (("tcp", 443), ("udp", 53))),
        Outbound("far", "br-b", IPv4Address("10.2.0.40"), ()),
    ]
    forward = [r.line() for r in host_rules_of(stack(), LAB) if r.chain == "ORC-TINY-FWD"]
    (free,) = [
        at for at, line in enumerate(forward) if line.startswith("-A ORC-TINY-FWD -i br-a !")
    ]
    limited = [at for at, line in enumerate(forward) if "-s 10.1.0.30/32" in line]
    assert max(limited) < free
    assert "REJECT" in forward[max(limited)]


def test_host_lets_in_what_is_declared_by_the_bridge_alone() -> None:
    rules = [r.line() for r in host_rules_of(stack(), LAB) if r.chain == "ORC-TINY-IN"]
    accepted = [line for line in rules if "from-" in line]
    assert len(accepted) == 1
    assert "-s 10.1.0.10/32 -i br-a -p tcp -m tcp --dport 9464 " in accepted[0]


def test_guard_knows_each_port_by_its_own_addresses() -> None:
    guard = guard_of(stack(), LAB, print)
    assert [(p.interface, str(p.address)) for p in guard.ports] == [
        ("veth-web-br", "10.1.0.10"),
        ("veth-both-br", "10.1.0.20"),
        ("veth-both1-br", "10.2.0.20"),
        ("veth-store-br", "10.1.0.30"),
        ("veth-far-br", "10.2.0.40"),
    ]
    assert guard.ports[0].mac == LAB.mac("veth-web")
    assert len(guard_rules(guard.ports)) == 4 * len(guard.ports)
    assert isinstance(guard, Guard)
    other = Port("veth-web-br", "web", "02:00:00:00:00:01", IPv4Address("10.1.0.11"))
    assert guard_rules([other])[0].expressions != guard_rules(guard.ports)[0].expressions


def test_live_policy_is_no_difference_and_a_rule_before_ours_is_one() -> None:
    policy = rules_of(stack(), LAB, NOWHERE)[1][0]
    tables = live(policy)
    assert policy.differences(tables) == []
    before = parse("*filter\n[0:0] -A INPUT -j ACCEPT\n").rules
    late = Tables((*before, *tables.rules), tables.chains, tables.policies)
    assert "comes after: -A INPUT -j ACCEPT" in policy.differences(late)[0]


@pytest.mark.parametrize(
    ("comment", "is_in_the_way"), [("orchestrator:other hook", False), ("of somebody", True)]
)
def test_hooks_of_another_lab_are_in_nobodys_way(comment: str, *, is_in_the_way: bool) -> None:
    """Two labs on one host would put their own first again and again."""
    policy = rules_of(stack(), LAB, NOWHERE)[1][0]
    tables = live(policy)
    line = f'-A INPUT -i br-b -m comment --comment "{comment}" -j ORC-OTHER-IN'
    before = parse(f"*filter\n[0:0] {line}\n").rules
    late = Tables((*before, *tables.rules), tables.chains, tables.policies)
    assert bool(policy.differences(late)) is is_in_the_way


def test_matrix_has_counters_and_marks_what_is_missing() -> None:
    policy = next(each for each in rules_of(stack(), LAB, NOWHERE)[1] if each.label == "store")
    tables = live(policy)
    found = rows(policy.wanted, tables, policy.is_ours, LAB.mark)
    web, both = (cell(name, "store", 6379, "tcp", found) for name in ("web", "both"))
    assert (web.state, web.connections) == ("live", 3)
    kept = tuple(rule for rule in tables.rules if "from-web" not in rule.line)
    partly = Tables(kept, tables.chains, tables.policies)
    gone = cell("web", "store", 6379, "tcp", rows(policy.wanted, partly, policy.is_ours, LAB.mark))
    assert gone.state == "missing"
    chart = Chart(
        places=("web", "both", "store", "far"),
        cells=(gone, both),
        refused=(Refusal("store", 7),),
        outbound={"web": "allowed", "far": "denied"},
        outbound_refused=0,
        strangers=0,
        spoofed={"veth-far-br": 2},
        guard="",
    )
    lines = as_text(chart).splitlines()
    assert lines[1].split() == ["store:6379/tcp", "✗", "3", "=", "·"]
    assert "refused packets: store 7" in lines
    assert "to the outside denied: far" in lines
    assert "frames with another's address: veth-far-br 2 dropped" in lines
    assert chart.missing == 1
    shown = as_text(replace(chart, open=("store",))).splitlines()
    assert shown[1].split() == ["store:6379/tcp", "✗", "3", "=", "open"]
    assert "not refused now" in shown[3]
    assert "web needs filled; side needs store" in " ".join(explained(chart).split())


def test_flows_of_what_is_left_out_go_with_it() -> None:
    text = TEXT.replace("far: {", "far: {when: {program: rare}, ")
    left, _ = leave_out(stack(text), lambda program: program != "rare")
    assert [flow.sources for flow in left.flows] == [("side",), ("both",), ("web",)]
    assert not [flow for flow in flows_of(left) if "far" in (flow.source, flow.target)]


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        ("{from: nobody, to: web}", "unknown service nobody"),
        ("{from: web, to: filled}", "its connections are those of store"),
        ("{from: web, to: far, ports: [1]}", "share no network"),
        ("{from: web, to: side}", "share a namespace"),
        ("{from: web, to: host}", "host declares no port: give ports"),
        ("{from: host, to: host, ports: [1]}", "passes no network"),
        ("{from: both, to: far}", "far declares no port: give ports"),
        ("{from: web, to: both, ports: [0]}", "write 443 or 53/udp"),
        ("{from: web, to: both, ports: [70000]}", "write 443 or 53/udp"),
        ("{from: web, to: both, ports: ['80; reboot']}", "write 443 or 53/udp"),
        ("{from: [], to: both}", "at least 1"),
        ("{from: web, to: both, protocol: udp}", "unknown key"),
    ],
)
def test_wrong_flow_is_told_with_its_line(flow: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        stack(f"{TEXT}  - {flow}\n")
    text = str(caught.value)
    assert words in text
    assert f":{len(TEXT.splitlines()) + 1}:" in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("outbound: denied", "outbound: maybe", "outbound"),
        ("outbound: denied", "outbound: [tcp]", "write 443 or 53/udp"),
        ("{namespace: web,", "{namespace: web, outbound: denied,", "give it at web"),
        ("far:", "host:", "means the lab's host"),
    ],
)
def test_wrong_words_about_ways_out_and_names(old: str, new: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        stack(TEXT.replace(old, new))
    assert words in str(caught.value)
