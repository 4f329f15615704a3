"""rtnetlink(7) as far as a lab needs it: links, IPv4 addresses and routes, in bytes. Pure.

Requests are encoded here and answers decoded, a few microseconds each; pyroute2's message
classes, which know every field, took ten times as long as the kernel's own work.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from msgspec import Struct

from orchestrator.kernel.messages import (
    NLM_F_REQUEST,
    attribute,
    attributes,
    find_attribute,
    picked,
)

# linux/rtnetlink.h
NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x4, 0x100, 0x200, 0x400
CREATE = NLM_F_CREATE | NLM_F_EXCL
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 22, 24, 26
RT_TABLE_MAIN, RT_SCOPE_LINK, RTN_UNICAST, RTPROT_KERNEL, RTPROT_BOOT = 254, 253, 1, 2, 3
IFF_UP, IFF_RUNNING = 0x1, 0x40
RTEXT_FILTER_SKIP_STATS = 0x8

# linux/if_link.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 27, 28, 29
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE = 1, 5
IFLA_BRPORT_STATE, IFLA_BRPORT_MODE = 1, 4
VETH_INFO_PEER = 1  # linux/veth.h

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4  # linux/if_addr.h
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 7, 8
RTAX_MTU = 2

# Those of some seventy that a `Link` is made from.
OF_LINK = frozenset({IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO})
OF_LINK |= {IFLA_IFALIAS, IFLA_GROUP}

ETHERNET_MTU = 1500  # linux/if_ether.h: ETH_DATA_LEN
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, mask of changed flags
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths of both, tos, table, protocol, scope, type
NUMBER = struct.Struct("=I")


class Link(Struct, frozen=True):
    """One interface as the kernel has it."""

    index: int
    name: str
    kind: str
    mac: str
    group: int
    alias: str
    up: bool
    running: bool
    master: int  # index of the bridge, 0 if none
    port_state: int  # linux/if_bridge.h: 3 is forwarding; -1 if it is no bridge port
    hairpin: bool  # of a bridge port: frames may leave where they came in
    peer_index: int  # of a veth: the other end's index in its namespace
    mtu: int = 0  # bytes


class Route(Struct, frozen=True):
    """One IPv4 unicast route of the main table; no gateway: on the link."""

    destination: IPv4Network
    gateway: IPv4Address | None
    oif: int


class Request(Struct, frozen=True):
    """One message, encoded but for its sequence number; `what` names it in errors."""

    what: str
    kind: int
    flags: int
    body: bytes


def _change(what: str, kind: int, flags: int, body: bytes) -> Request:
    return Request(what, kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)


def _link(index: int, *attributes: bytes, up: bool | None = None) -> bytes:
    flags, mask = (IFF_UP if up else 0, IFF_UP) if up is not None else (0, 0)
    return IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, mask) + b"".join(attributes)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, NUMBER.pack(value))


def _mac(address: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(address.replace(":", "")))


def _named(name: str, mac: str, group: int) -> bytes:
    return _text(IFLA_IFNAME, name) + _mac(mac) + _number(IFLA_GROUP, group)


def _kind(name: str, data: bytes) -> bytes:
    info = _text(IFLA_INFO_KIND, name) + attribute(IFLA_INFO_DATA, data)
    return attribute(IFLA_LINKINFO, info)


# The kernel gives each end of a veth as many as there are processors, and each of them files in
# /sys: with 64 a pair takes five times as long to come and four times to go. Nothing is gained by
# more than one: a veth needs no lock to send, and what it sends arrives on the same processor.
ONE_QUEUE = _number(IFLA_NUM_TX_QUEUES, 1) + _number(IFLA_NUM_RX_QUEUES, 1)


def new_bridge(name: str, *, mac: str, group: int) -> Request:
    """A bridge without STP and without forward delay."""
    options = _number(IFLA_BR_FORWARD_DELAY, 0) + _number(IFLA_BR_STP_STATE, 0)
    body = _link(0, _named(name, mac, group), _kind("bridge", options))
    return _change(f"add bridge {name}", RTM_NEWLINK, CREATE, body)


def new_veth(
    name: str,
    *,
    mac: str,
    master: int,
    group: int,
    peer: str,
    peer_mac: str,
    peer_namespace: int,
    mtu: int = ETHERNET_MTU,
) -> Request:
    """A pair: `name` here as a port of `master`, `peer` in the namespace of the descriptor.
    `mtu` is in bytes."""
    shape = _number(IFLA_MTU, mtu) + ONE_QUEUE
    there = _number(IFLA_NET_NS_FD, peer_namespace)
    data = attribute(VETH_INFO_PEER, _link(0, _named(peer, peer_mac, group), shape, there))
    port = _number(IFLA_MASTER, master)
    body = _link(0, _named(name, mac, group), shape, port, _kind("veth", data))
    return _change(f"add veth {name}", RTM_NEWLINK, CREATE, body)


def set_link(
    index: int,
    *,
    up: bool | None = None,
    alias: str | None = None,
    group: int | None = None,
    master: int | None = None,
    mac: str | None = None,
    mtu: int | None = None,
) -> Request:
    """Changes what is given; `mtu` in bytes."""
    changes = []
    if mtu is not None:
        changes.append(_number(IFLA_MTU, mtu))
    if mac is not None:
        changes.append(_mac(mac))
    if alias is not None:
        changes.append(attribute(IFLA_IFALIAS, alias.encode()))
    if group is not None:
        changes.append(_number(IFLA_GROUP, group))
    if master is not None:
        changes.append(_number(IFLA_MASTER, master))
    return _change(f"set link {index}", RTM_NEWLINK, 0, _link(index, *changes, up=up))


def set_hairpin(index: int) -> Request:
    """Lets the bridge port send frames back to where they came from."""
    data = attribute(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1"))
    port = attribute(IFLA_LINKINFO, _text(IFLA_INFO_SLAVE_KIND, "bridge") + data)
    return _change(f"set hairpin {index}", RTM_NEWLINK, 0, _link(index, port))


def remove_link(index: int) -> Request:
    """Takes the link away, and the other end of a veth with it."""
    return _change(f"remove link {index}", RTM_DELLINK, 0, _link(index))


def remove_group(group: int) -> Request:
    """Takes all links of the group away, in one wait for RCU."""
    return _change(
        f"remove links of group {group}", RTM_DELLINK, 0, _link(0, _number(IFLA_GROUP, group))
    )


def add_address(index: int, address: IPv4Interface) -> Request:
    """An IPv4 address with its broadcast address."""
    body = IFADDRMSG.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index)
    for kind in (IFA_LOCAL, IFA_ADDRESS):
        body += attribute(kind, address.ip.packed)
    body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    return _change(f"add address {address}", RTM_NEWADDR, CREATE, body)


def set_default_route(index: int, gateway: IPv4Address, *, mtu: int) -> Request:
    """The default route, in place of one that may be there: `ip route replace default`.

    `mtu`: bytes of a packet that takes it at most, where the link would take more.
    """
    body = RTMSG.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
    body += attribute(RTA_GATEWAY, gateway.packed) + _number(RTA_OIF, index)
    body += attribute(RTA_METRICS, _number(RTAX_MTU, mtu))
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return _change(f"set default route via {gateway}", RTM_NEWROUTE, flags, body)


def set_link_route(index: int, address: IPv4Interface) -> Request:
    """The route to the network of an address, as the kernel makes it with the address."""
    network = address.network
    body = RTMSG.pack(
        socket.AF_INET, network.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_KERNEL, RT_SCOPE_LINK,
        RTN_UNICAST, 0,
    )  # fmt: skip
    body += attribute(RTA_DST, network.network_address.packed) + _number(RTA_OIF, index)
    body += attribute(RTA_PREFSRC, address.ip.packed)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return _change(f"set route to {network}", RTM_NEWROUTE, flags, body)


def get_link(name: str) -> Request:
    """Asks for one link, without its counters."""
    mask = _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    body = _link(0, _text(IFLA_IFNAME, name), mask)
    return Request(f"look for {name}", RTM_GETLINK, NLM_F_REQUEST, body)


def get_index(index: int) -> Request:
    """The same, of the link of that index."""
    body = _link(index, _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
    return Request(f"look for link {index}", RTM_GETLINK, NLM_F_REQUEST, body)


def links_of_kind(kind: str) -> bytes:
    """The body of a dump of links of one kind, without their counters. A kernel that does not
    know the kind gives all links."""
    mask = _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return _link(0, attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, kind)), mask)


# What a dump is asked for with: every link without its counters, every IPv4 address and route.
ALL = {
    RTM_GETLINK: _link(0, _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)),
    RTM_GETADDR: IFADDRMSG.pack(socket.AF_INET, 0, 0, 0, 0),
    RTM_GETROUTE: RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0),
}


def decode_link(body: bytes) -> Link:
    """One struct ifinfomsg with its attributes."""
    _, _, index, flags, _ = IFINFOMSG.unpack_from(body)
    given = picked(body, IFINFOMSG.size, OF_LINK)
    info = dict(attributes(given.get(IFLA_LINKINFO, b"")))
    kind = _string(info.get(IFLA_INFO_KIND))
    port: dict[int, bytes] = {}
    if _string(info.get(IFLA_INFO_SLAVE_KIND)) == "bridge":
        port = dict(attributes(info.get(IFLA_INFO_SLAVE_DATA, b"")))
    state = port.get(IFLA_BRPORT_STATE)
    return Link(
        index=index,
        name=_string(given.get(IFLA_IFNAME)),
        kind=kind,
        mac=given.get(IFLA_ADDRESS, b"").hex(":"),
        group=_integer(given.get(IFLA_GROUP)),
        alias=_string(given.get(IFLA_IFALIAS)),
        up=bool(flags & IFF_UP),
        running=bool(flags & IFF_RUNNING),
        master=_integer(given.get(IFLA_MASTER)),
        port_state=state[0] if state else -1,
        hairpin=port.get(IFLA_BRPORT_MODE) == b"\1",
        peer_index=_integer(given.get(IFLA_LINK)) if kind == "veth" else 0,
        mtu=_integer(given.get(IFLA_MTU)),
    )


def group_of(body: bytes) -> int:
    """The group alone of one struct ifinfomsg with its attributes."""
    value = find_attribute(body, IFINFOMSG.size, IFLA_GROUP)
    return _integer(body[value : value + NUMBER.size]) if value else 0


def decode_address(body: bytes) -> tuple[int, IPv4Interface] | None:
    """The link's index and the address; None for another family's."""
    family, length, _, _, index = IFADDRMSG.unpack_from(body)
    given = dict(attributes(body, IFADDRMSG.size))
    packed = given.get(IFA_LOCAL) or given.get(IFA_ADDRESS)
    if family != socket.AF_INET or not packed:
        return None
    return index, IPv4Interface((packed, length))


def decode_route(body: bytes) -> Route | None:
    """None for what is no IPv4 unicast route of the main table."""
    family, length, _, _, table, _, _, kind, _ = RTMSG.unpack_from(body)
    if (family, table, kind) != (socket.AF_INET, RT_TABLE_MAIN, RTN_UNICAST):
        return None
    given = dict(attributes(body, RTMSG.size))
    gateway = given.get(RTA_GATEWAY)
    return Route(
        destination=IPv4Network((given.get(RTA_DST, bytes(4)), length)),
        gateway=IPv4Address(gateway) if gateway else None,
        oif=_integer(given.get(RTA_OIF)),
    )


def _string(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def _integer(value: bytes | None) -> int:
    found: int = NUMBER.unpack(value)[0] if value else 0
    return found
