"""Rules of iptables' nft variant: encoded by it once, written to each namespace without it.

iptables-restore is asked for all rules at once, in a namespace that ends with the question; a
process in each would take longer than the rest of a network. What cannot be written that way
(OSError) can still be given to iptables-restore.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from orchestrator import linux
from orchestrator.kernel import iptables, nftables
from orchestrator.kernel.iptables import NO_TABLES, Rule
from orchestrator.kernel.messages import attribute
from orchestrator.kernel.nftables import IPV4, message, named, number
from orchestrator.kernel.ruleset import RuleSet

PROTOCOL = re.compile(r"(?:^| )-p (\w+)")
LOCAL_IN, PRIORITY, ACCEPT = 1, 0, 1  # NF_INET_LOCAL_IN, NF_IP_PRI_FILTER, NF_ACCEPT
CREATE = nftables.NLM_F_CREATE


class Encoder:
    """Knows rules of INPUT and of chains of ours as nf_tables takes them."""

    def __init__(self, prefix: str, rules: Sequence[Rule]) -> None:
        distinct = {rule.line(): rule for rule in rules}  # many namespaces have the same
        self._all = RuleSet(prefix, tuple(distinct.values()))
        self._known: dict[str, bytes] = {}
        self._lock = asyncio.Lock()

    async def write(self, wanted: RuleSet, namespace: Path) -> None:
        """Puts the rules into a namespace without a table `filter`: all of them or none.
        Raises OSError, ResourceError, HostError."""
        async with self._lock:
            if not self._known:
                self._known = await linux.in_thread(_encoded, self._all)
        table = named(1, "filter")
        hook = attribute(4, number(1, LOCAL_IN) + number(2, PRIORITY)) + number(5, ACCEPT)
        chains = [named(3, name) for name in wanted.chains("filter")]
        chains.append(named(3, "INPUT") + hook + named(7, "filter"))
        changes = [message(nftables.NEW_TABLE, CREATE | nftables.NLM_F_EXCL, IPV4, table)]
        changes += [message(nftables.NEW_CHAIN, CREATE, IPV4, table + each) for each in chains]
        for rule in wanted.wanted:
            last = nftables.NLM_F_ACK if rule is wanted.wanted[-1] else 0
            flags = CREATE | nftables.NLM_F_APPEND | last
            body = table + named(2, rule.chain) + self._known[rule.line()]
            changes.append(message(nftables.NEW_RULE, flags, IPV4, body))
        nftables.commit(changes, namespace)


def _encoded(rules: RuleSet) -> dict[str, bytes]:
    """The attributes of each rule by its line. For a thread of its own."""
    here = linux.own_namespace()
    try:
        linux.unshare_net()
        try:
            iptables.restore_here(rules.replacement(NO_TABLES))
            by_chain = nftables.encoded(IPV4, "filter")
        finally:
            linux.setns(here)
    finally:
        os.close(here)
    found = {}
    for chain, encoded in by_chain.items():
        lines = [rule for rule in rules.wanted if rule.chain == chain]
        for rule, attributes in zip(lines, encoded, strict=True):
            found[rule.line()] = attributes + _compatibility(rule)
    return found


def _compatibility(rule: Rule) -> bytes:
    """NFTA_RULE_COMPAT: the protocol, which matches and targets of iptables insist on."""
    if not (found := PROTOCOL.search(rule.match)):
        return b""
    protocol = getattr(socket, f"IPPROTO_{found[1].upper()}")
    return attribute(5, number(1, protocol) + number(2, 0))
