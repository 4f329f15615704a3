"""Our rules as a person reads them: order, counters, what is wrong, each client's way."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from orchestrator.drawing import rules
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.iptables import parse
from orchestrator.kernel.nat import Nat, Net, Publication
from orchestrator.kernel.nat import rules as wanted_rules

MARK = "orchestrator:shop"
PUBLICATION = Publication(8080, "br-app", IPv4Address("10.0.0.10"), 80)
NET = Net("br-app", IPv4Network("10.0.0.0/16"), True, IPv4Address("10.0.0.1"))
WANTED = tuple(wanted_rules("ORC-SHOP", MARK, [NET], [PUBLICATION]))
NAT = Nat("ORC-SHOP", WANTED, Path("unused"), Encoder("ORC-SHOP", WANTED))


def saved(lines: list[tuple[str, str]]) -> str:
    """What iptables-save -c would print for (table, rule)s."""
    text = []
    for table in dict.fromkeys(table for table, _ in lines):
        text += [
            f"*{table}",
            ":FORWARD DROP [0:0]" if table == "filter" else ":OUTPUT ACCEPT [0:0]",
        ]
        chains = dict.fromkeys(line.split()[1] for kind, line in lines if kind == table)
        text += [f":{chain} - [0:0]" for chain in chains if chain.startswith("ORC-")]
        text += [f"[1234:5000000] {line}" for kind, line in lines if kind == table]
        text.append("COMMIT")
    return "\n".join(text)


LIVE_LINES = [(rule.table, rule.line()) for rule in NAT.wanted]


def rows_of(lines: list[tuple[str, str]]) -> list[rules.Row]:
    return rules.rows(NAT.wanted, parse(saved(lines)), NAT.is_ours, MARK)


def test_rules_stand_in_the_order_in_which_packets_meet_them() -> None:
    found = rows_of(LIVE_LINES)
    assert len(found) == len(NAT.wanted)
    assert {row.state for row in found} == {"live"}
    assert list(dict.fromkeys(f"{row.table} {row.chain}" for row in found)) == [
        "raw PREROUTING",
        "raw ORC-SHOP-RAW",
        "nat PREROUTING",
        "nat OUTPUT",
        "nat ORC-SHOP-PRE",
        "filter INPUT",
        "filter ORC-SHOP-IN",
        "filter FORWARD",
        "filter ORC-SHOP-FWD",
        "nat POSTROUTING",
        "nat ORC-SHOP-POST",
    ]


def test_missing_unwanted_and_moved_rules_are_marked() -> None:
    guard = next(line for line in LIVE_LINES if "guard" in line[1])
    forward = [line for line in LIVE_LINES if "-A ORC-SHOP-FWD" in line[1]]
    others = [line for line in LIVE_LINES if line != guard and line not in forward]
    alien = ("filter", "-A ORC-SHOP-FWD -s 192.0.2.1/32 -j DROP")
    moved = [forward[-1], *forward[:-1]]
    found = rows_of([*others, *moved, alien])
    states = {row.name or row.rule: row.state for row in found if row.state != "live"}
    assert states == {
        "guard": "missing",
        "-s 192.0.2.1/32 -j DROP": "unwanted",
        "outbound": "out of order",
    }
    text = rules.as_text(found, parse(saved(LIVE_LINES)), explain=False)
    assert re.search(r"✗ missing +guard +-d 127", text)
    assert "-j DROP   ✗ unwanted" in text


def test_rules_of_others_before_a_hook_are_counted() -> None:
    found = rows_of([("filter", "-A FORWARD -j DOCKER-USER"), *LIVE_LINES])
    hook = next(row for row in found if row.chain == "FORWARD")
    assert (hook.name, hook.before) == ("hook", 1)


def test_rules_of_others_are_left_out() -> None:
    found = rows_of([*LIVE_LINES, ("filter", "-A FORWARD -j DOCKER-USER")])
    assert not [row for row in found if "DOCKER" in row.rule]


def test_rules_are_explained_with_counters_for_people() -> None:
    text = rules.as_text(rows_of(LIVE_LINES), parse(saved(LIVE_LINES)), explain=True)
    assert "filter FORWARD (policy DROP)" in text
    assert re.search(r"1\.2 k +4\.8 MiB +publish-8080 +-p tcp -m tcp --dport 8080 -j DNAT", text)
    for rule in NAT.wanted:
        assert " ".join(rule.why.split()[:5]) in " ".join(text.split())


def test_flow_of_each_client_names_its_rules_in_order() -> None:
    text = rules.flows_text([PUBLICATION], rows_of(LIVE_LINES))
    flat = " ".join(text.split())
    assert "✗" not in flat
    assert (
        "a client outside: arrives with the client's own address raw PREROUTING hook → "
        "nat PREROUTING hook-clients → nat PRE publish-8080 → filter FORWARD hook → "
        "filter FWD publish-8080 → nat POSTROUTING hook"
    ) in flat
    assert (
        "nat OUTPUT hook-host → nat PRE publish-8080 → nat POSTROUTING hook → nat POST localhost"
        in flat
    )
    assert "nat POST hairpin-8080" in flat


def test_flow_shows_where_a_rule_is_missing() -> None:
    lines = [line for line in LIVE_LINES if "hairpin" not in line[1]]
    assert "nat POST hairpin-8080 ✗ missing" in rules.flows_text([PUBLICATION], rows_of(lines))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (3727, "3.6 KiB"),
        (120 << 20, "120 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_bytes_for_people(count: int, expected: str) -> None:
    assert rules.human_bytes(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0"), (999, "999"), (1000, "1.0 k"), (123_456, "123 k")]
)
def test_counts_for_people(count: int, expected: str) -> None:
    assert rules.human_count(count) == expected
