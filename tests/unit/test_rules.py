"""Rules, names and sandboxes: what is generated, and when the live state differs from it."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from orchestrator.diagnosis import network
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.iptables import parse
from orchestrator.kernel.nat import Nat, Net, Publication, rules
from orchestrator.lab import Lab
from orchestrator.preflight import redirects
from orchestrator.processes.sandbox import Sandbox, User
from orchestrator.stackfile import parse_stack

LAB = Lab("shop")
FRONT = Net("br-app", IPv4Network("10.0.0.0/16"), True, IPv4Address("10.0.0.1"))
BACK = Net("br-back", IPv4Network("10.1.0.0/16"), False, IPv4Address("10.1.0.1"))
WEB = Publication(8080, "br-app", IPv4Address("10.0.0.10"), 80)


def nat(*nets: Net) -> Nat:
    wanted = tuple(rules(LAB.chain_prefix, LAB.mark, nets, [WEB]))
    return Nat(LAB.chain_prefix, wanted, Path("/nowhere"), Encoder(LAB.chain_prefix, wanted))


def saved(lines: dict[str, list[str]]) -> str:
    """What iptables-save -c prints for these rules."""
    return "".join(
        f"*{table}\n" + "".join(f"[1:60] {line}\n" for line in found) + "COMMIT\n"
        for table, found in lines.items()
    )


def live(wanted: Nat) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for rule in wanted.wanted:
        tables.setdefault(rule.table, []).append(rule.line())
    return tables


def test_rules_of_the_seed_are_there() -> None:
    lines = "\n".join(rule.line() for rule in nat(FRONT).wanted)
    assert "-s 10.0.0.0/16 ! -o br-app" in lines
    assert "--dport 8080" in lines
    assert "-j DNAT --to-destination 10.0.0.10:80" in lines
    assert "-d 127.0.0.0/8 -i br-app" in lines


def test_every_rule_is_commented_explained_and_fits() -> None:
    for rule in nat(FRONT, BACK).wanted:
        assert rule.comment.startswith("orchestrator:shop ")
        assert len(rule.comment) <= 255  # xt_comment
        assert len(rule.chain) <= 28  # XT_EXTENSION_MAXNAMELEN
        assert len(rule.why) > 20


def test_network_without_masquerade_gets_no_way_out_but_its_answers() -> None:
    lines = [rule.line() for rule in nat(BACK).wanted]
    assert not [line for line in lines if "! -o br-back" in line]
    assert [line for line in lines if "-i br-back" in line and "RELATED,ESTABLISHED" in line]


def test_two_networks_are_kept_apart_after_answers() -> None:
    forward = [r for r in nat(FRONT, BACK).wanted if r.chain.endswith("-FWD")]
    drops = [index for index, rule in enumerate(forward) if rule.target == "DROP"]
    answers = [index for index, rule in enumerate(forward) if "ESTABLISHED" in rule.more]
    assert len(drops) == 2
    assert max(answers) < min(drops)


def test_nobody_on_a_network_reaches_the_loopback_of_the_host() -> None:
    """CVE-2020-8558, since route_localnet is on: dropped before anything could accept it."""
    for net in (FRONT, BACK):
        own = [r for r in nat(FRONT, BACK).wanted if r.table == "raw" and net.bridge in r.match]
        assert own[0].chain.startswith(LAB.chain_prefix)
        assert own[0].match == f"-d 127.0.0.0/8 -i {net.bridge}"
        assert own[0].target == "DROP"


def test_same_rules_are_no_difference() -> None:
    wanted = nat(FRONT, BACK)
    assert wanted.differences(parse(saved(live(wanted)))) == []


@pytest.mark.parametrize("change", ["missing", "extra", "order", "hook", "late"])
def test_any_difference_is_told(change: str) -> None:
    wanted = nat(FRONT)
    lines = live(wanted)
    own = [line for line in lines["filter"] if "-FWD " in line.split("-m")[0]]
    if change == "missing":
        lines["filter"].remove(own[-1])
    elif change == "extra":
        lines["nat"].append(f"-A {LAB.chain_prefix}-PRE -j ACCEPT")
    elif change == "order":
        first, second = (lines["filter"].index(line) for line in own[:2])
        lines["filter"][first], lines["filter"][second] = own[1], own[0]
    elif change == "hook":
        del lines["filter"][0]
    else:
        lines["filter"].insert(0, "-A FORWARD -j DROP")
    assert wanted.differences(parse(saved(lines)))


def test_rules_of_others_are_no_difference() -> None:
    wanted = nat(FRONT)
    lines = live(wanted)
    lines["filter"].append("-A FORWARD -j DOCKER-USER")
    lines["nat"].insert(0, "-A PREROUTING -j DOCKER")
    assert wanted.differences(parse(saved(lines))) == []


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 1.2.3.4:80", True),
        ("-A D -p tcp -m multiport --dports 80,8080 -j DNAT --to-destination 1.2.3.4", True),
        ("-A D -p tcp -m tcp --dport 8000:8100 -j REDIRECT --to-ports 1", True),
        ("-A D -p tcp -m tcp --dport 18080 -j DNAT --to-destination 1.2.3.4:8080", False),
        ("-A D -p tcp -m tcp --dport 8080 -j ACCEPT", False),
    ],
)
def test_foreign_redirections_of_a_port_are_seen(line: str, taken: bool) -> None:
    assert redirects(line, 8080) is taken


def test_marks_are_stable_and_differ_between_labs() -> None:
    other = Lab("shop", "lab2")
    assert Lab("shop").group == LAB.group != other.group
    assert LAB.mac("br-app") == Lab("shop").mac("br-app") != other.mac("br-app")
    assert LAB.chain_prefix != other.chain_prefix
    assert int(LAB.mac("x").split(":")[0], 16) & 0b11 == 0b10  # locally administered, unicast
    assert 0 < LAB.group < 2**31
    assert len(Lab("a" * 31).chain_prefix) <= 24


def test_derived_interface_names_fit_and_differ() -> None:
    names = ["short", "product-service", "product-services", "p" * 40]
    data = {
        "name": "x",
        "networks": {"br-x": {"address": "10.0.0.1/16"}},
        "services": {
            name: {"networks": {"br-x": f"10.0.0.{number + 2}"}}
            for number, name in enumerate(names)
        },
    }
    stack = parse_stack(json.dumps(data), "x.yaml")
    found = [stack.interface_of(name, "br-x") for name in names]
    assert found[0] == "veth-short"
    assert all(len(f"{name}-br") <= 15 for name in found)
    assert len(set(found)) == len(found)


def test_sandbox_has_no_privileges_and_sees_no_home() -> None:
    sandbox = Sandbox(
        ("program", "--flag"),
        User(61300, 61300, "svc"),
        "svc",
        Path("/run/x/etc"),
        read_only={"/stack": Path("/home/me/shop"), "/home/me/python": Path("/home/me/python")},
        writable={"/data": Path("/var/lib/x")},
        system=("/etcetera/x", "/etc/mailname"),
        listener=9,
    )
    words = sandbox.words(info_fd=7)
    text = " ".join(words)
    for option in ("--unshare-pid", "--no-new-privs", "--bounding-set=-all", "--reuid=61300"):
        assert option in text
    assert not re.search(r"--(ro-)?bind(-try)? /(home|root|run|var/lib)? /", text)
    assert "--dir /etcetera" in text
    assert "--dir /etc " not in text
    assert words.index("/home/me") < words.index("/home/me/python")  # made passable first
    assert text.endswith("3<&9 9<&- bash program --flag")
    assert "svc:x:61300:61300:" in sandbox.user.passwd()


def test_flushed_redirection_is_named_before_all_else() -> None:
    wanted = nat(FRONT)
    lines = live(wanted)
    lines["nat"] = []
    found = network.rules(wanted, parse(saved(lines)), network.Shell(""))
    assert "-j DNAT --to-destination 10.0.0.10:80" in found.evidence
    assert "policy of FORWARD" not in found.evidence
    assert found.command == f"iptables -t nat -vnL {LAB.chain_prefix}-PRE"


def test_renamed_chain_is_emptied_and_taken_away_with_what_leads_into_it() -> None:
    wanted = nat(FRONT)
    lines = live(wanted)
    lines["nat"] = [line.replace("ORC-SHOP-PRE", "FOO") for line in lines["nat"]]
    chains = {
        table: "".join(f":{name} - [0:0]\n" for name in {line.split()[1] for line in found})
        for table, found in lines.items()
    }
    chains["nat"] += ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
    text = saved(lines)
    for table, named in chains.items():
        text = text.replace(f"*{table}\n", f"*{table}\n{named}")
    for changes in (wanted.replacement(parse(text)), wanted.removal(parse(text))):
        gone = [line for line in changes.splitlines() if line.startswith("-D ")]
        assert "-X FOO" in changes.splitlines()
        assert sum("publish-8080" in line for line in gone) == 1
        assert sum("-j FOO" in line for line in gone) == 2
        assert changes.splitlines().index("-X FOO") > max(map(changes.splitlines().index, gone[:4]))
    assert [each for each in wanted.differences(parse(text)) if "-A FOO" in each]
