"""nf_tables itself, without a program in between: linux/netfilter/nf_tables.h.

iptables' nft variant keeps its rules here too. What is looked at with every look of the
supervisor is read here for a fraction of what a process costs, and the tables of bridges can
be written as one transaction. A rule is a list of expressions, each a name with attributes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel.messages import (
    ATTRIBUTE,
    HEADER,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
    request,
)
from orchestrator.linux import inside

NETLINK_NETFILTER, SUBSYSTEM = 12, 10  # linux/netlink.h, NFNL_SUBSYS_NFTABLES
IPV4, BRIDGE = 2, 7  # NFPROTO_ of linux/netfilter.h
BATCH_BEGIN, BATCH_END = 16, 17  # NFNL_MSG_BATCH_ of linux/netfilter/nfnetlink.h
BATCH_GENERATION = 1  # NFNL_BATCH_GENID, likewise
NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x4, 0x200, 0x400, 0x800
# NFT_MSG_
NEW_TABLE, GET_TABLE, DELETE_TABLE, NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = 0, 1, 2, 3, 4, 5
NEW_RULE, GET_RULE, DELETE_RULE, NEW_SET, NEW_ELEMENTS, GET_ELEMENTS = 6, 7, 8, 9, 12, 13
GET_GENERATION, GENERATION_ID = 16, 1  # NFT_MSG_GETGEN, NFTA_GEN_ID
TABLE_NAME = 1  # NFTA_TABLE_
COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT of libnftnl
CHAIN_TABLE, CHAIN_NAME = 1, 3  # NFTA_CHAIN_
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 3, 4, 7  # NFTA_RULE_
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2  # NFTA_EXPR_
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
MATCH_NAME, MATCH_INFO = 1, 3  # NFTA_MATCH_: an iptables match, here `comment`
IMMEDIATE_DATA, DATA_VERDICT, VERDICT_CHAIN = 2, 2, 2
CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, ACCEPT = 4, 5, 7, 1  # NFTA_CHAIN_, NF_ACCEPT
SO_SNDBUFFORCE = 32  # asm-generic/socket.h: a batch is one datagram, however large
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 5.0

_closers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="closing")

Expression = tuple[str, tuple[tuple[int, bytes], ...]]  # name, sorted (attribute, value)


class Rule(Struct, frozen=True):
    """One rule as the kernel has it; its counter's numbers are apart from what it does."""

    table: str
    chain: str
    handle: int
    expressions: tuple[Expression, ...]
    userdata: bytes
    packets: int
    bytes: int

    @property
    def jumps_to(self) -> str:
        """The chain that it leads into; empty if none."""
        for name, parts in self.expressions:
            for kind, value in parts:
                if name == "immediate" and kind == IMMEDIATE_DATA:
                    verdict = dict(attributes(value)).get(DATA_VERDICT, b"")
                    return text(dict(attributes(verdict)).get(VERDICT_CHAIN))
        return ""

    @property
    def comment(self) -> str:
        """In words; empty if it has none."""
        if found := comment_of(self.userdata):
            return found
        for name, parts in self.expressions:
            data = dict(parts)
            if name == "match" and text(data.get(MATCH_NAME)) == "comment":
                return text(data.get(MATCH_INFO))
        return ""


class Content(Struct, frozen=True):
    """Chains and rules of one table. Open chains are those of a hook that let everything by."""

    chains: tuple[str, ...]
    rules: tuple[Rule, ...]
    hooked: frozenset[str] = frozenset()
    open_chains: frozenset[str] = frozenset()

    @property
    def essence(self) -> tuple[object, ...]:
        """What tells it from other content: all but counters and handles."""
        rules = tuple((each.chain, each.expressions, each.userdata) for each in self.rules)
        return (self.chains, rules)


def message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    """One message to nf_tables."""
    return request(SUBSYSTEM << 8 | kind, flags, struct.pack("=BBH", family, 0, 0) + body)


def acknowledged(change: bytes) -> bytes:
    """The message, to be answered also if all is well."""
    length, kind, flags, sequence, port = HEADER.unpack_from(change)
    return HEADER.pack(length, kind, flags | NLM_F_ACK, sequence, port) + change[HEADER.size :]


def named(kind: int, name: str) -> bytes:
    """An attribute that is a zero-terminated text."""
    return attribute(kind, name.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits, big-endian as all of nf_tables."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def text(value: bytes | None) -> str:
    return (value or b"").partition(b"\0")[0].decode(errors="replace")


def comment(words: str) -> bytes:
    """A rule's comment as nft(8) keeps it: type, length, text. No packet meets it."""
    encoded = words.encode() + b"\0"
    return bytes([COMMENT, len(encoded)]) + encoded


def comment_of(userdata: bytes) -> str:
    """The comment of a rule; empty if it has none."""
    return text(userdata[2:]) if userdata[:1] == bytes([COMMENT]) else ""


def read(family: int, table: str, namespace: Path | None = None) -> Content | None:
    """The table now; None if there is none. Raises OSError."""
    with inside(namespace), _channel() as channel:
        of_it = [
            parts
            for parts in _dump(channel, GET_CHAIN, family, named(CHAIN_TABLE, table))
            if text(parts.get(CHAIN_TABLE)) == table
        ]
        if not of_it:
            return None
        rules = tuple(
            rule
            for parts in _dump(channel, GET_RULE, family, named(RULE_TABLE, table))
            if (rule := _rule(parts)).table == table
        )
    is_open = {CHAIN_POLICY: ACCEPT.to_bytes(4)}.items()
    return Content(
        tuple(text(parts.get(CHAIN_NAME)) for parts in of_it),
        rules,
        frozenset(text(parts.get(CHAIN_NAME)) for parts in of_it if CHAIN_HOOK in parts),
        frozenset(
            text(parts.get(CHAIN_NAME))
            for parts in of_it
            if CHAIN_HOOK in parts and is_open <= parts.items()
        ),
    )


def chains(family: int, namespace: Path | None = None) -> set[tuple[str, str]]:
    """(table, chain) of all chains. Raises OSError."""
    with inside(namespace), _channel() as channel:
        found = _dump(channel, GET_CHAIN, family, b"")
    return {(text(parts.get(CHAIN_TABLE)), text(parts.get(CHAIN_NAME))) for parts in found}


def encoded(family: int, table: str) -> tuple[dict[str, bytes], dict[str, list[bytes]]]:
    """Of each chain with a hook what it is, as attributes to make it with, and what each rule
    of each chain does, as a list of expressions. For the calling thread's namespace.
    Raises OSError."""
    hooked: dict[str, bytes] = {}
    rules: dict[str, list[bytes]] = {}
    with _channel() as channel:
        for parts in _dump(channel, GET_CHAIN, family, named(CHAIN_TABLE, table)):
            if text(parts.get(CHAIN_TABLE)) == table and CHAIN_HOOK in parts:
                hooked[text(parts.get(CHAIN_NAME))] = _picked(
                    parts, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE
                )
        for parts in _dump(channel, GET_RULE, family, named(RULE_TABLE, table)):
            them = rules.setdefault(text(parts.get(RULE_CHAIN)), [])
            them.append(parts.get(RULE_EXPRESSIONS, b""))
    return hooked, rules


def _picked(parts: dict[int, bytes], *kinds: int) -> bytes:
    return b"".join(attribute(kind, parts[kind]) for kind in kinds if kind in parts)


def elements(family: int, table: str, name: str, namespace: Path | None = None) -> list[bytes]:
    """The elements of a set as they are encoded; empty where there is none. Raises OSError."""
    body = named(1, table) + named(2, name)  # NFTA_SET_ELEM_LIST_TABLE, _SET
    found = []
    try:
        with inside(namespace), _channel() as channel:
            for parts in _dump(channel, GET_ELEMENTS, family, body):
                found += [value for _, value in attributes(parts.get(3, b""))]
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return found


def tables(family: int, namespace: Path | None = None) -> list[str]:
    """Names of all tables. Raises OSError where this kernel has none of that family."""
    with inside(namespace), _channel() as channel:
        found = _dump(channel, GET_TABLE, family, b"")
    return [text(parts.get(TABLE_NAME)) for parts in found]


def is_supported(family: int) -> bool:
    """Whether this kernel has tables of that family at all."""
    try:
        tables(family)
    except OSError:
        return False
    return True


def generation(namespace: Path | None = None) -> bytes:
    """Of the namespace's rules, another one after each transaction of anybody's, as it is
    encoded. Raises OSError."""
    with inside(namespace), _channel() as channel:
        channel.send(message(GET_GENERATION, 0, 0, b""))
        ((_, content),) = messages(channel.recv(RECEIVE_BYTES))
    return dict(attributes(content, 4))[GENERATION_ID]  # after struct nfgenmsg


def commit(
    changes: Sequence[bytes],
    namespace: Path | None = None,
    *,
    takes_away: bool = False,
    since: bytes = b"",
) -> None:
    """All of the messages or none of them; none, with ERESTART, if anything was changed after
    the generation `since`. Raises OSError with the first refusal.

    To close a socket waits for the kernel to free what was taken away from the namespace, a
    grace period of RCU after nobody sees it any more: with `takes_away` nobody waits for that.
    """
    edge = struct.pack("=BBH", 0, 0, socket.htons(SUBSYSTEM))
    condition = attribute(BATCH_GENERATION, since) if since else b""
    batch = [request(BATCH_BEGIN, 0, edge + condition), *changes, request(BATCH_END, 0, edge)]
    numbered = bytearray()
    for sequence, each in enumerate(batch, start=1):
        numbered += each[:8] + struct.pack("=I", sequence) + each[12:]
        numbered += bytes(-len(each) % 4)
    with inside(namespace):
        channel = _channel()
    try:
        channel.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(numbered))
        channel.send(numbered)
        # Only changes that ask for it are acknowledged, and all of a batch at once: refusals
        # come before that, or instead.
        for _, content in _answers(channel.recv(RECEIVE_BYTES)):
            (code,) = struct.unpack_from("=i", content)
            if code:
                raise OSError(-code, os.strerror(-code))
    finally:
        if takes_away:
            _closers.submit(channel.close)
        else:
            channel.close()


def expression(name: str, *parts: bytes) -> bytes:
    """One expression of a rule, ready to stand in its list."""
    body = named(EXPRESSION_NAME, name) + attribute(EXPRESSION_DATA, b"".join(parts))
    return attribute(1, body)  # NFTA_LIST_ELEM


COUNTER = named(EXPRESSION_NAME, "counter")  # how such an expression begins
COUNTS = struct.Struct("!16x4sQ4sQ")  # and goes on: one attribute of two, each after its head
COUNTS_HEADS = tuple(ATTRIBUTE.pack(12, kind) for kind in (COUNTER_BYTES, COUNTER_PACKETS))


def decode(encoded: bytes) -> tuple[tuple[Expression, ...], tuple[int, int]]:
    """Expressions of a rule in their canonical form, and its counter: packets and bytes.

    The numbers are cut out first: without them every look finds the same.
    """
    counted, number = (0, 0), encoded.count(COUNTER)
    if number == 1:
        at = encoded.index(COUNTER)
        size, _ = ATTRIBUTE.unpack_from(encoded, at - ATTRIBUTE.size)
        end = at - ATTRIBUTE.size + size
        numbers = slice(at + len(COUNTER), end)
        blank = encoded[: numbers.start] + bytes(end - numbers.start) + encoded[end:]
        expressions, where = _decoded(blank)
        if where == at:  # else these bytes only look like a counter
            return expressions, count(encoded[at:end])
    for _, each in attributes(encoded):
        if each.startswith(COUNTER):
            counted = count(each)
    return _decoded(encoded)[0], counted


@lru_cache(maxsize=1024)
def _decoded(encoded: bytes) -> tuple[tuple[Expression, ...], int]:
    """Expressions without the counter's numbers, and where a counter begins; -1 if none does."""
    found: list[Expression] = []
    where, offset = -1, 0
    for _, each in attributes(encoded):
        if each.startswith(COUNTER):
            found.append(("counter", ()))
            where = offset + ATTRIBUTE.size
        else:
            found.append(_expression(each))
        offset += (ATTRIBUTE.size + len(each) + 3) & ~3
    return tuple(found), where


def count(counter: bytes) -> tuple[int, int]:
    """Packets and bytes of that expression."""
    if len(counter) == COUNTS.size:
        first, size, second, packets = COUNTS.unpack(counter)
        if (first, second) == COUNTS_HEADS:  # as nearly all kernels have it
            return packets, size
    values = dict(attributes(dict(attributes(counter)).get(EXPRESSION_DATA, b"")))
    return (
        int.from_bytes(values.get(COUNTER_PACKETS, b"")),
        int.from_bytes(values.get(COUNTER_BYTES, b"")),
    )


@lru_cache(maxsize=4096)
def _expression(encoded: bytes) -> Expression:
    """Remembered, since every look finds the same ones."""
    parts = dict(attributes(encoded))
    data = parts.get(EXPRESSION_DATA, b"")
    return text(parts.get(EXPRESSION_NAME)), tuple(sorted(attributes(data)))


def _rule(parts: dict[int, bytes]) -> Rule:
    expressions, (packets, size) = decode(parts.get(RULE_EXPRESSIONS, b""))
    return Rule(
        text(parts.get(RULE_TABLE)),
        text(parts.get(RULE_CHAIN)),
        int.from_bytes(parts.get(RULE_HANDLE, b"")),
        expressions,
        parts.get(RULE_USERDATA, b""),
        packets,
        size,
    )


def _channel() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    channel = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    channel.settimeout(TIMEOUT_S)
    return channel


def _dump(channel: socket.socket, kind: int, family: int, body: bytes) -> list[dict[int, bytes]]:
    """The attributes of each object of one dump."""
    channel.send(message(kind, NLM_F_DUMP, family, body))
    found: list[dict[int, bytes]] = []
    while True:
        for answer, content in messages(channel.recv(RECEIVE_BYTES)):
            if answer == NLMSG_DONE:
                return found
            if answer != NLMSG_ERROR:
                found.append(dict(attributes(content, 4)))  # after struct nfgenmsg


def _answers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each acknowledgement or refusal."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        if kind == NLMSG_ERROR:
            yield kind, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3
