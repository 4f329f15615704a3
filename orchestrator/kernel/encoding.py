"""Rules of iptables' nft variant: encoded by it once, written without it wherever they belong.

iptables-restore is asked for all rules of a lab at once, in a namespace that ends with the
question; a process in each place would take longer than the rest of a network. What cannot be
written that way (OSError) can still be given to iptables-restore.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator import linux
from orchestrator.kernel import iptables, nftables
from orchestrator.kernel.iptables import NO_TABLES, Rule
from orchestrator.kernel.messages import attribute
from orchestrator.kernel.nftables import (
    IPV4,
    RULE_EXPRESSIONS,
    RULE_USERDATA,
    message,
    named,
    number,
)
from orchestrator.kernel.ruleset import RuleSet

PROTOCOL = re.compile(r"(?:^| )-p (\w+)")
CREATE, APPEND = nftables.NLM_F_CREATE, nftables.NLM_F_APPEND


class Encoded(Struct, frozen=True):
    """Attributes of a table's built-in chains by name, and of its rules by line."""

    built_in: dict[str, bytes]
    rules: dict[str, bytes]


class Encoder:
    """Knows rules, and the built-in chains that hooks of ours stand in, as nf_tables has them."""

    def __init__(self, prefix: str, rules: Sequence[Rule]) -> None:
        distinct = {(rule.table, rule.line()): rule for rule in rules}  # many have the same
        self._all = RuleSet(prefix, tuple(distinct.values()))
        self._known: asyncio.Task[dict[str, Encoded]] | None = None  # by table

    def begin(self) -> None:
        """Asks iptables, in a thread, if nobody has done so: `write` will want its answer."""
        if self._known is None or (self._known.done() and _has_failed(self._known)):
            self._known = asyncio.get_running_loop().create_task(self._encode())
            self._known.add_done_callback(_has_failed)  # heard even if nobody writes

    async def _encode(self) -> dict[str, Encoded]:
        return await linux.in_thread(_encoded, self._all)

    async def write(
        self,
        wanted: RuleSet,
        namespace: Path | None = None,
        live: Collection[tuple[str, str]] = (),
    ) -> None:
        """Puts the rules into a namespace that has none of them, but may have the (table, chain)
        of others: all of them or none. Raises OSError, ResourceError, HostError."""
        self.begin()
        assert self._known is not None
        encoded = await asyncio.shield(self._known)
        tables = ((table, encoded[table]) for table in wanted.tables)
        changes = [each for at in tables for each in self._table(wanted, *at, live)]
        nftables.commit([*changes[:-1], nftables.acknowledged(changes[-1])], namespace)

    def _table(
        self, wanted: RuleSet, table: str, known: Encoded, live: Collection[tuple[str, str]]
    ) -> list[bytes]:
        at = named(1, table)
        alone = 0 if any(name == table for name, _ in live) else nftables.NLM_F_EXCL
        found = [message(nftables.NEW_TABLE, CREATE | alone, IPV4, at)]
        hooks = wanted.hooks(table)
        found += [
            message(nftables.NEW_CHAIN, CREATE, IPV4, at + named(3, name))
            for name in wanted.chains(table)
        ]
        for name in dict.fromkeys(rule.chain for rule in hooks):
            if (table, name) not in live:  # with a policy: it must not be that of another's chain
                body = at + named(3, name) + known.built_in[name]
                found.append(message(nftables.NEW_CHAIN, CREATE | nftables.NLM_F_EXCL, IPV4, body))
        own = [rule for rule in wanted.wanted if rule.table == table and rule not in hooks]
        # Each hook goes before all that is in its chain, so the last of them goes first.
        for rule, place in [*((r, 0) for r in reversed(hooks)), *((r, APPEND) for r in own)]:
            body = at + named(2, rule.chain) + known.rules[rule.line()]
            found.append(message(nftables.NEW_RULE, CREATE | place, IPV4, body))
        return found


def _has_failed(task: asyncio.Task[dict[str, Encoded]]) -> bool:
    return task.cancelled() or task.exception() is not None


def _encoded(rules: RuleSet) -> dict[str, Encoded]:
    """What each table takes. For a thread of its own.

    iptables has a rule's comment as one more match, asked with every packet, so it is given none;
    what it reads as well, and shows alike, is the comment of nft(8).
    """
    here = linux.own_namespace()
    try:
        linux.unshare_net()
        try:
            plain = RuleSet(rules.prefix, tuple(replace(each, comment="") for each in rules.wanted))
            iptables.restore_here(plain.replacement(NO_TABLES))
            made = {table: nftables.encoded(IPV4, table) for table in rules.tables}
        finally:
            linux.setns(here)
    finally:
        os.close(here)
    found = {}
    for table, (built_in, by_chain) in made.items():
        known: dict[str, bytes] = {}
        for chain, encoded in by_chain.items():
            lines = [r for r in rules.wanted if (r.table, r.chain) == (table, chain)]
            for rule, expressions in zip(lines, encoded, strict=True):
                body = attribute(RULE_EXPRESSIONS, expressions)
                body += attribute(RULE_USERDATA, nftables.comment(rule.comment))
                known[rule.line()] = body + _compatibility(rule)
        found[table] = Encoded(built_in, known)
    return found


def _compatibility(rule: Rule) -> bytes:
    """NFTA_RULE_COMPAT: the protocol, which matches and targets of iptables insist on."""
    if not (found := PROTOCOL.search(rule.match)):
        return b""
    protocol = getattr(socket, f"IPPROTO_{found[1].upper()}")
    return attribute(5, number(1, protocol) + number(2, 0))
