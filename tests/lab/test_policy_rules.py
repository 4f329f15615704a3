"""The rules that we write by netlink are those that iptables would have written."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from rig import run

from orchestrator import linux
from orchestrator.kernel import iptables, nftables
from orchestrator.kernel.encoding import Encoder
from orchestrator.kernel.iptables import NO_TABLES
from orchestrator.kernel.nat import Net, Publication
from orchestrator.kernel.nat import rules as rules_of_host
from orchestrator.kernel.policy import Admission, policy_rules
from orchestrator.kernel.ruleset import RuleSet

Rows = dict[tuple[str, str], list[tuple[object, ...]]]


def rows_of_all_tables() -> Rows:
    """(table, chain) → its rules, in the calling thread's namespace; chains without rules too."""
    found: Rows = {chain: [] for chain in nftables.chains(nftables.IPV4)}
    for table in nftables.tables(nftables.IPV4):
        if content := nftables.read(nftables.IPV4, table):
            for rule in content.rules:
                found[table, rule.chain].append(rule.expressions)
    return found


def saved() -> str:
    """What iptables has to say of all of it."""
    lines = run("iptables-save").ok().out.splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def without_comments(rows: Rows) -> Rows:
    """iptables' own are matches, asked with every packet; ours no packet meets."""
    return {
        chain: [tuple(each for each in rule if "comment" not in repr(each)) for rule in rules]
        for chain, rules in rows.items()
    }


def both_ways(wanted: RuleSet, encoder: Encoder, others: str) -> tuple[tuple[Rows, str], ...]:
    """The rules as we write them and as iptables-restore does, beside those of others."""

    def written() -> tuple[Rows, str]:
        linux.unshare_net()
        iptables.restore_here(others)
        live = nftables.chains(nftables.IPV4)
        asyncio.run(encoder.write(wanted, Path("/proc/thread-self/ns/net"), live))
        return rows_of_all_tables(), saved()

    def restored() -> tuple[Rows, str]:
        linux.unshare_net()
        iptables.restore_here(others)
        iptables.restore_here(wanted.replacement(NO_TABLES))
        return rows_of_all_tables(), saved()

    with ThreadPoolExecutor(max_workers=1) as alone:
        return alone.submit(written).result(), alone.submit(restored).result()


OTHERS = """*filter
:FORWARD DROP [0:0]
:FOREIGN - [0:0]
-A FORWARD -s 10.77.0.0/24 -j FOREIGN
-A FOREIGN -j DROP
COMMIT
*nat
-A POSTROUTING -s 10.77.0.0/24 -j MASQUERADE
COMMIT
"""


@pytest.mark.parametrize("others", ["", OTHERS], ids=["alone", "beside others"])
def test_rules_are_read_by_iptables_as_if_it_had_written_them(others: str) -> None:
    net = IPv4Network("10.0.0.0/16")
    admissions = [
        Admission("web", "eth0", net, "tcp", 80, "", others=True),
        Admission("names", "eth0", net, "udp", 53, ""),
    ]
    rules = [tuple(policy_rules("lab", "mark", admissions[:count])) for count in (1, 2)]
    rules.append(tuple(policy_rules("lab", "mark", [], is_tracked=False)))
    lab = Net("br-app", net, True, IPv4Address("10.0.0.1"))
    published = Publication(8080, "br-app", IPv4Address("10.0.0.10"), 80)
    rules.append(tuple(rules_of_host("lab", "mark", [lab], [published])))
    encoder = Encoder("lab", [rule for each in rules for rule in each])
    for each in (RuleSet("lab", some) for some in rules):
        (ours, shown), (theirs, wanted) = both_ways(each, encoder, others)
        assert shown == wanted
        assert all(rule.line() in shown.splitlines() for rule in each.wanted)
        assert ours == without_comments(theirs) != theirs
