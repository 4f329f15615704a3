"""Resource: frames with another's address are dropped where they enter the bridge.

Each port lets in IPv4 and ARP from its own MAC and IP address and nothing else: no other source,
no IPv6, no VLAN. In a table of its own in nf_tables' bridge family, on the host's side, where
nobody in a namespace can undo it; ports are known by name, so the guard stands before they do.
iptables' package has ebtables for the same, but that knows no comments, shares its tables with
others, and costs a process each time it is looked at.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from functools import cache
from ipaddress import IPv4Address

from msgspec import Struct

from orchestrator.errors import ResourceError
from orchestrator.events import Noticed, Outcome
from orchestrator.kernel import nftables
from orchestrator.kernel.messages import attribute
from orchestrator.kernel.nftables import BRIDGE, comment, expression, message, named, number
from orchestrator.resource import Emit, Observation, State

# linux/netfilter/nf_tables.h
ACCEPT, DROP, GOTO = 1, 0, -4  # NF_ACCEPT, NF_DROP, NFT_GOTO
VERDICT, REGISTER = 0, 1  # NFT_REG_VERDICT, NFT_REG_1
META_IIFNAME = 6  # NFT_META_
LINK, NETWORK = 0, 1  # NFT_PAYLOAD_: which header an offset counts from
EQUAL, NOT_EQUAL = 0, 1  # NFT_CMP_
SET_IS_MAP, VERDICTS, IFNAMES = 0x8, 0xFFFFFF00, 41  # NFT_SET_MAP, NFT_DATA_VERDICT, nft(8) ifname
ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0800, 0x0806  # linux/if_ether.h
IFNAMSIZ = 16
PRE_ROUTING, FIRST = 0, -300  # NF_BR_PRE_ROUTING, NF_BR_PRI_NAT_DST_BRIDGED: before all others
ENTRY, PORTS = "prerouting", "ports"
COUNTER = expression("counter")
SAID = "this kernel has no nf_tables for bridges: frames with another's address are not dropped"


class Port(Struct, frozen=True):
    """One port of a bridge and the only addresses that may send from behind it."""

    interface: str
    label: str
    mac: str
    address: IPv4Address


class GuardRule(Struct, frozen=True):
    """One rule as it is explained, and as the kernel takes it."""

    chain: str
    name: str
    rule: str
    why: str
    expressions: bytes


def guard_rules(ports: Sequence[Port]) -> list[GuardRule]:
    """The rules of every port, in the order of matching."""
    return [rule for port in ports for rule in _rules(port)]


def _rules(port: Port) -> list[GuardRule]:
    mac, address = bytes.fromhex(port.mac.replace(":", "")), port.address.packed

    def rule(name: str, words: str, why: str, *parts: bytes, verdict: int) -> GuardRule:
        end = (COUNTER, _verdict(verdict))
        return GuardRule(port.interface, f"{name}-{port.label}", words, why, b"".join(parts + end))

    def kind(ethertype: int) -> bytes:
        """Of this MAC address and type, compared as one; behind a VLAN's tag it is another type."""
        return _payload(LINK, 6, 8) + _compare(mac + struct.pack("!H", ethertype))

    return [  # nearly every packet ends at the first one
        rule(
            "ip",
            f"ether saddr {port.mac} ether type ip ip saddr {port.address} accept",
            "Packets that say truly where they come from.",
            kind(ETHERTYPE_IPV4) + _payload(NETWORK, 12, 4) + _compare(address),
            verdict=ACCEPT,
        ),
        rule(
            "mac",
            f"ether saddr != {port.mac} drop",
            "A frame with another's MAC address would make the bridge send that one's here.",
            _payload(LINK, 6, 6) + _compare(mac, NOT_EQUAL),
            verdict=DROP,
        ),
        rule(
            "arp",
            f"ether saddr {port.mac} ether type arp arp saddr ether {port.mac} "
            f"arp saddr ip {port.address} accept",
            "Announces the address as its own, which it is; anything else would divert another's.",
            kind(ETHERTYPE_ARP) + _payload(NETWORK, 8, 6) + _compare(mac),
            _payload(NETWORK, 14, 4) + _compare(address),
            verdict=ACCEPT,
        ),
        rule(
            "spoofed",
            "drop",
            "Another's IP address, or a protocol that no rule of this lab would see.",
            verdict=DROP,
        ),
    ]


@cache
def _meta(key: int) -> bytes:
    return expression("meta", number(1, REGISTER), number(2, key))


@cache
def _payload(base: int, offset: int, length: int) -> bytes:
    parts = (number(1, REGISTER), number(2, base), number(3, offset), number(4, length))
    return expression("payload", *parts)


def _compare(value: bytes, operator: int = EQUAL) -> bytes:
    return expression("cmp", number(1, REGISTER), number(2, operator), attribute(3, _data(value)))


def _data(value: bytes) -> bytes:
    return attribute(1, value)  # NFTA_DATA_VALUE


def _to(code: int, chain: str = "") -> bytes:
    """NFTA_DATA_VERDICT: a code, and the chain of a goto."""
    return attribute(2, number(1, code) + (named(2, chain) if chain else b""))


@cache
def _verdict(code: int) -> bytes:
    return expression("immediate", number(1, VERDICT), attribute(2, _to(code)))


def _dispatch() -> bytes:
    """One look-up by the port's name, however many ports there are."""
    looked = (named(1, PORTS), number(2, REGISTER), number(3, VERDICT), number(5, 0))
    return _meta(META_IIFNAME) + expression("lookup", *looked)


class Guard(Struct, frozen=True):
    """The table of one lab, replaced as a whole."""

    table: str
    mark: str
    ports: tuple[Port, ...]
    emit: Emit

    @property
    def name(self) -> str:
        return "guard:ports"

    async def observe(self) -> Observation:
        content = self._read()
        if content is None:
            if not nftables.is_supported(BRIDGE):
                return Observation(State.PRESENT, SAID)
            return Observation(State.ABSENT)
        wrong = self.differences(content)
        return Observation(State.PARTIAL if wrong else State.PRESENT, "; ".join(wrong))

    def _read(self) -> nftables.Content | None:
        try:
            return nftables.read(BRIDGE, self.table)
        except OSError as error:
            if error.errno == errno.EINTR:  # changed while it was listed
                return nftables.Content((), ())
            return None

    def differences(self, content: nftables.Content) -> list[str]:
        """Ports whose rules are not as wanted, in words."""
        wanted: dict[str, list[tuple[object, bytes]]] = {ENTRY: [self._row(_dispatch(), "hook")]}
        for rule in guard_rules(self.ports):
            row = self._row(rule.expressions, rule.name)
            wanted.setdefault(rule.chain, []).append(row)
        found: dict[str, list[tuple[object, bytes]]] = {name: [] for name in content.chains}
        for each in content.rules:
            found.setdefault(each.chain, []).append((each.expressions, each.userdata))
        chains = dict.fromkeys((*wanted, *found))
        wrong = [f"rules of {name}" for name in chains if wanted.get(name) != found.get(name)]
        if not wrong and {*nftables.elements(BRIDGE, self.table, PORTS)} != {*self._elements()}:
            wrong.append("the list of ports")
        return wrong

    def _row(self, expressions: bytes, name: str) -> tuple[object, bytes]:
        return nftables.decode(expressions)[0], comment(f"{self.mark} {name}")

    async def ensure(self) -> Outcome:
        seen = await self.observe()
        if seen.state is State.PRESENT:
            if seen.detail:
                self.emit(Noticed(self.name, seen.detail))
            return Outcome.UNCHANGED
        await self._replace(anew=seen.state is State.ABSENT)
        return Outcome.CHANGED

    async def ensure_from_nothing(self) -> Outcome:
        await self._replace(anew=True)
        return Outcome.CHANGED

    async def rebuild(self) -> Outcome:
        """All in one transaction: no frame passes unseen meanwhile."""
        if (await self.observe()).detail == SAID:
            return Outcome.UNCHANGED
        await self._replace()
        return Outcome.CHANGED

    async def _replace(self, *, anew: bool = False) -> None:
        try:
            cleared = [] if anew else self._cleared()
            nftables.commit([*cleared, *self._messages()], takes_away=bool(cleared))
        except OSError as error:
            raise ResourceError(self.name, "ensure", f"bridge table: {error.strerror}") from error

    async def is_absent(self) -> bool:
        try:
            return self.table not in nftables.tables(BRIDGE)
        except OSError:
            return True  # nor can it be there

    async def remove(self) -> Outcome:
        if await self.is_absent():
            return Outcome.UNCHANGED
        try:
            gone = self._table(nftables.DELETE_TABLE, last=True)
            nftables.commit([gone], takes_away=True)
        except OSError as error:
            raise ResourceError(self.name, "remove", f"bridge table: {error.strerror}") from error
        return Outcome.CHANGED

    # -- as the kernel takes it ------------------------------------------------------------

    def _table(self, kind: int, *, last: bool = False) -> bytes:
        flags = nftables.NLM_F_ACK if last else nftables.NLM_F_CREATE * (kind == nftables.NEW_TABLE)
        return message(kind, flags, BRIDGE, named(nftables.TABLE_NAME, self.table))

    def _cleared(self) -> list[bytes]:
        """Takes away what is there, or may be. The kernel's clearing up waits for RCU."""
        return [self._table(nftables.NEW_TABLE), self._table(nftables.DELETE_TABLE)]

    def _messages(self) -> list[bytes]:
        create, append = nftables.NLM_F_CREATE, nftables.NLM_F_CREATE | nftables.NLM_F_APPEND
        table = named(nftables.TABLE_NAME, self.table)
        found = [message(nftables.NEW_TABLE, create | nftables.NLM_F_EXCL, BRIDGE, table)]
        hook = attribute(4, number(1, PRE_ROUTING) + number(2, FIRST))
        entry = named(1, self.table) + named(3, ENTRY) + hook + number(5, ACCEPT)
        found.append(message(nftables.NEW_CHAIN, create, BRIDGE, entry + named(7, "filter")))
        chains = [named(1, self.table) + named(3, port.interface) for port in self.ports]
        found += [message(nftables.NEW_CHAIN, create, BRIDGE, body) for body in chains]
        # NFTA_SET_: table, name, flags, key type and length, data type and length, id; and how
        # many there are at most, with which the kernel takes a kind of set that is looked up faster
        shape = number(3, SET_IS_MAP) + number(4, IFNAMES) + number(5, IFNAMSIZ)
        shape += number(6, VERDICTS) + number(7, 0) + number(10, 1)
        shape += attribute(9, number(1, len(self.ports)))
        body = named(1, self.table) + named(2, PORTS) + shape
        found.append(message(nftables.NEW_SET, create, BRIDGE, body))
        for element in self._elements():
            body = named(1, self.table) + named(2, PORTS) + attribute(3, attribute(1, element))
            found.append(message(nftables.NEW_ELEMENTS, create, BRIDGE, body))
        rules = [(rule.chain, rule.name, rule.expressions) for rule in guard_rules(self.ports)]
        for chain, name, expressions in [*rules, (ENTRY, "hook", _dispatch())]:
            body = named(1, self.table) + named(2, chain) + attribute(4, expressions)
            body += attribute(7, comment(f"{self.mark} {name}"))
            flags = append | (nftables.NLM_F_ACK if chain == ENTRY else 0)
            found.append(message(nftables.NEW_RULE, flags, BRIDGE, body))
        return found

    def _elements(self) -> list[bytes]:
        """Port → goto its chain: NFTA_SET_ELEM_KEY, _DATA."""
        return [
            attribute(1, _data(port.interface.encode().ljust(IFNAMSIZ, b"\0")))
            + attribute(2, _to(GOTO, port.interface))
            for port in self.ports
        ]
