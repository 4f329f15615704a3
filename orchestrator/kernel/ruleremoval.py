"""Rules of ours in nf_tables taken away, by what they are: others may have renamed chains.

Ours are the rules of chains with our names, those that lead into these, and whatever carries
our comment, wherever it stands. A chain of another name is ours if only our rules are in it and
lead into it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel.messages import attribute
from orchestrator.kernel.nftables import (
    CHAIN_NAME,
    CHAIN_TABLE,
    DELETE_CHAIN,
    DELETE_RULE,
    DELETE_TABLE,
    IPV4,
    NLM_F_ACK,
    RULE_CHAIN,
    RULE_HANDLE,
    RULE_TABLE,
    TABLE_NAME,
    Content,
    Rule,
    commit,
    generation,
    message,
    named,
    read,
)

ATTEMPTS = 100  # others that change a host's rules all the time are not waited for longer


class Owner(Struct, frozen=True):
    """What rules of ours are told by: chains by their table, and how comments begin."""

    chains: Mapping[str, Collection[str]]
    mark: str

    def is_ours(self, rule: Rule) -> bool:
        own = self.chains[rule.table]
        return rule.chain in own or rule.jumps_to in own or self._is_marked(rule)

    def _is_marked(self, rule: Rule) -> bool:
        return rule.comment.startswith(f"{self.mark} ")

    def chains_in(self, table: str, content: Content) -> list[str]:
        """Chains of ours that are there, whatever their names."""
        others = [each for each in content.rules if not self.is_ours(each)]
        foreign = {name for each in others for name in (each.chain, each.jumps_to)}
        marked = filter(self._is_marked, content.rules)
        used = {name for each in marked for name in (each.chain, each.jumps_to)}
        ours = used - foreign - content.hooked | {*self.chains[table]}
        return [name for name in content.chains if name in ours]


def is_there(owner: Owner, namespace: Path | None = None) -> bool:
    """Whether a chain or a rule of ours is left. Raises OSError."""
    found = ((table, read(IPV4, table, namespace)) for table in owner.chains)
    return any(
        bool(owner.chains_in(table, content)) or any(map(owner.is_ours, content.rules))
        for table, content in found
        if content is not None
    )


def take_away(owner: Owner, *, whole: Collection[str], namespace: Path | None = None) -> bool:
    """Takes all of ours away, in one transaction; of tables that are `whole` ours the table too,
    once nothing of others is left in it. False if nothing was there. What others change between
    the look and the transaction is looked at again. Raises OSError."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _take_away(owner, whole, namespace)
        except OSError as error:
            if error.errno not in (errno.ERESTART, errno.EINTR):
                raise
    return _take_away(owner, whole, namespace)


def _take_away(owner: Owner, whole: Collection[str], namespace: Path | None) -> bool:
    since = generation(namespace)
    changes: list[bytes] = []
    found = False
    for table in owner.chains:
        if (content := read(IPV4, table, namespace)) is not None:
            ours = [each for each in content.rules if owner.is_ours(each)]
            chains = owner.chains_in(table, content)
            found = found or bool(ours or chains)
            changes += _removal(table, chains, ours, content, whole=table in whole)
    if changes:
        commit(changes, namespace, takes_away=True, since=since)
    return found


def _removal(
    table: str, chains: Collection[str], ours: Collection[Rule], content: Content, *, whole: bool
) -> list[bytes]:
    is_alone = len(ours) == len(content.rules)
    if whole and is_alone and {*content.chains} <= {*chains} | content.open_chains:
        return [message(DELETE_TABLE, NLM_F_ACK, IPV4, named(TABLE_NAME, table))]
    at = named(RULE_TABLE, table)
    changes = [
        message(
            DELETE_RULE,
            0,
            IPV4,
            at
            + named(RULE_CHAIN, each.chain)
            + attribute(RULE_HANDLE, struct.pack("!Q", each.handle)),
        )
        for each in ours
        if each.chain not in chains
    ]
    changes += [message(DELETE_RULE, 0, IPV4, at + named(RULE_CHAIN, name)) for name in chains]
    changes += [
        message(DELETE_CHAIN, NLM_F_ACK, IPV4, named(CHAIN_TABLE, table) + named(CHAIN_NAME, name))
        for name in chains
    ]
    return changes
