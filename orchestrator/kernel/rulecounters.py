"""Counters of single iptables rules, from nf_tables itself: linux/netfilter/nf_tables.h.

iptables-save tells the same, at the price of a process that asks the kernel for everything.
The legacy variant of iptables keeps its rules elsewhere; there nothing is found here.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from orchestrator.kernel.iptables import Rule, Tables
from orchestrator.kernel.messages import (
    NLM_F_DUMP,
    NLMSG_DONE,
    attribute,
    attributes,
    messages,
    request,
)
from orchestrator.kernel.nftables import COUNTER, comment_of, count, named

NETLINK_NETFILTER = 12
GET_RULE = 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE
NFGENMSG = struct.pack("=BBH", socket.AF_INET, 0, 0)  # table family `ip`, version, resource
TABLE, CHAIN, HANDLE, EXPRESSIONS, USERDATA = 1, 2, 3, 4, 7  # NFTA_RULE_
NAME, DATA = 1, 2  # NFTA_EXPR_
MATCH_NAME, MATCH_INFO = 1, 3  # NFTA_MATCH_: an iptables match, here `comment`
MATCH = named(NAME, "match")  # how such an expression begins
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 2.0


class RuleCounter(NamedTuple):
    """`identity` tells the rule from a later one with its comment, as far as one can."""

    table: str
    comment: str
    identity: Hashable
    packets: int
    bytes: int


def read(chains: Iterable[tuple[str, str]]) -> list[RuleCounter]:
    """Rules with a comment in these chains, (table, name). Raises OSError."""
    found: list[RuleCounter] = []
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
    ) as channel:
        channel.settimeout(TIMEOUT_S)
        for table, chain in chains:
            wanted = {TABLE: table.encode() + b"\0", CHAIN: chain.encode() + b"\0"}
            body = b"".join(attribute(*each) for each in wanted.items())
            channel.send(request(GET_RULE, NLM_F_DUMP, NFGENMSG + body))
            done = False
            while not done:
                for kind, body in messages(channel.recv(RECEIVE_BYTES)):
                    fields = dict(attributes(body, len(NFGENMSG)))
                    done = done or kind == NLMSG_DONE
                    # A kernel that does not know the filter gives all rules.
                    is_wanted = not done and wanted.items() <= fields.items()
                    if is_wanted and (rule := decode(fields)) is not None:
                        found.append(rule)
    return found


def decode(fields: Mapping[int, bytes]) -> RuleCounter | None:
    """One rule by its attributes; None if it has no comment or no counter."""
    comment, counter = comment_of(fields.get(USERDATA, b"")), None  # ours, or iptables' below
    for _, expression in attributes(fields.get(EXPRESSIONS, b"")):
        if expression.startswith(COUNTER):
            counter = count(expression)
        elif not comment and expression.startswith(MATCH):
            data = dict(attributes(dict(attributes(expression)).get(DATA, b"")))
            if _text(data.get(MATCH_NAME)) == "comment":
                comment = _text(data.get(MATCH_INFO))
    if not comment or counter is None:
        return None
    return RuleCounter(_text(fields.get(TABLE)), comment, _number(fields.get(HANDLE)), *counter)


def from_tables(live: Tables, wanted: Iterable[Rule]) -> list[RuleCounter]:
    """The same from what iptables-save printed."""
    comments: Mapping[tuple[str, str], str] = {
        (rule.table, rule.line()): rule.comment for rule in wanted
    }
    return [
        RuleCounter(rule.table, comments[rule.table, rule.line], rule.line, *counted)
        for rule in live.rules
        for counted in [(rule.packets, rule.bytes)]
        if (rule.table, rule.line) in comments
    ]


def _text(value: bytes | None) -> str:
    return (value or b"").partition(b"\0")[0].decode(errors="replace")


def _number(value: bytes | None) -> int:
    """Big-endian, as nf_tables has all its numbers."""
    return int.from_bytes(value or b"")
