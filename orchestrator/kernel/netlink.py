"""Links, addresses and routes over rtnetlink: batches out, snapshots in.

Requests for one namespace are encoded by pyroute2
and sent as one batch over one socket, which was opened inside that namespace: a round trip
per request is what makes building networks slow.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from orchestrator.errors import ResourceError, TransientError
from orchestrator.kernel.pyroute import ifaddrmsg, ifinfmsg, rtmsg
from orchestrator.linux import in_thread, inside
from orchestrator.onelook import once

# linux/netlink.h and linux/rtnetlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x4, 0x100, 0x200, 0x400
CREATE = NLM_F_CREATE | NLM_F_EXCL
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 22, 24, 26
HEADER = struct.Struct("=IHHII")
IFF_UP, IFF_RUNNING = 0x1, 0x40
RT_TABLE_MAIN, RTN_UNICAST, RTPROT_BOOT = 254, 1, 3
RECEIVE_BYTES = 1 << 20

# What concurrent changes of the same objects produce for a moment; worth another attempt.
BUSY_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.EFAULT, errno.ENODEV, errno.EEXIST}
)


@dataclass(frozen=True, slots=True)
class Link:
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
    stats: dict[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """One IPv4 unicast route of the main table; no gateway: on the link."""

    destination: IPv4Network
    gateway: IPv4Address | None
    oif: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one namespace holds now."""

    links: dict[str, Link]
    addresses: dict[int, list[IPv4Interface]]
    routes: list[Route]

    def of(self, name: str) -> list[IPv4Interface]:
        """The addresses of a link."""
        link = self.links.get(name)
        return self.addresses.get(link.index, []) if link else []


@dataclass(frozen=True, slots=True)
class Request:
    """One message, encoded but for its sequence number; `what` names it in errors."""

    what: str
    kind: int
    flags: int
    body: bytes


def _request(what: str, kind: int, flags: int, message: Any) -> Request:
    message.encode()
    return Request(
        what, kind, NLM_F_REQUEST | NLM_F_ACK | flags, bytes(message.data)[HEADER.size :]
    )


def _links(index: int, attributes: dict[str, Any], *, up: bool | None) -> Any:
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"], message["change"] = (IFF_UP if up else 0), IFF_UP
    message["attrs"] = list(attributes.items())
    return message


def new_bridge(name: str, *, mac: str, group: int) -> Request:
    """A bridge without STP and without forward delay."""
    options = {"attrs": [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_STP_STATE", 0)]}
    kind = [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", options)]
    fields = {
        "IFLA_IFNAME": name,
        "IFLA_ADDRESS": mac,
        "IFLA_GROUP": group,
        "IFLA_LINKINFO": {"attrs": kind},
    }
    return _request(f"add bridge {name}", RTM_NEWLINK, CREATE, _links(0, fields, up=None))


def new_veth(
    name: str, *, mac: str, master: int, group: int, peer: str, peer_mac: str, peer_namespace: int
) -> Request:
    """A pair: `name` here as a port of `master`, `peer` in the namespace of the descriptor."""
    other = {
        "IFLA_IFNAME": peer,
        "IFLA_ADDRESS": peer_mac,
        "IFLA_GROUP": group,
        "IFLA_NET_NS_FD": peer_namespace,
    }
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": list(other.items())})]}
    kind = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]
    fields = {
        "IFLA_IFNAME": name,
        "IFLA_ADDRESS": mac,
        "IFLA_GROUP": group,
        "IFLA_MASTER": master,
        "IFLA_LINKINFO": {"attrs": kind},
    }
    return _request(f"add veth {name}", RTM_NEWLINK, CREATE, _links(0, fields, up=None))


def set_link(
    index: int,
    *,
    up: bool | None = None,
    alias: str | None = None,
    group: int | None = None,
    master: int | None = None,
    mac: str | None = None,
) -> Request:
    """Changes what is given."""
    given = {
        "IFLA_IFALIAS": alias,
        "IFLA_GROUP": group,
        "IFLA_MASTER": master,
        "IFLA_ADDRESS": mac,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    return _request(f"set link {index}", RTM_NEWLINK, 0, _links(index, fields, up=up))


def set_hairpin(index: int) -> Request:
    """Lets the bridge port send frames back to where they came from."""
    data = {"attrs": [("IFLA_BRPORT_MODE", 1)]}
    port = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
    return _request(
        f"set hairpin {index}", RTM_NEWLINK, 0, _links(index, {"IFLA_LINKINFO": port}, up=None)
    )


def remove_link(index: int) -> Request:
    """Takes the link away, and the other end of a veth with it."""
    return _request(f"remove link {index}", RTM_DELLINK, 0, _links(index, {}, up=None))


def add_address(index: int, address: IPv4Interface) -> Request:
    """An IPv4 address with its broadcast address."""
    message = ifaddrmsg()
    message["family"], message["index"] = socket.AF_INET, index
    message["prefixlen"] = address.network.prefixlen
    message["attrs"] = [
        ("IFA_LOCAL", str(address.ip)),
        ("IFA_ADDRESS", str(address.ip)),
        ("IFA_BROADCAST", str(address.network.broadcast_address)),
    ]
    return _request(f"add address {address}", RTM_NEWADDR, CREATE, message)


def set_default_route(index: int, gateway: IPv4Address) -> Request:
    """The default route, in place of one that may be there: `ip route replace default`."""
    message = rtmsg()
    message["family"], message["table"] = socket.AF_INET, RT_TABLE_MAIN
    message["proto"], message["type"] = RTPROT_BOOT, RTN_UNICAST
    message["attrs"] = [("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)]
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return _request(f"set default route via {gateway}", RTM_NEWROUTE, flags, message)


class Netlink:
    """Batches and snapshots of one network namespace at a time.

    Looking takes a millisecond and blocks; changing is done in threads. `namespace` None
    is the lab's host, where this process itself lives.
    """

    async def apply(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """Sends the batch from a thread: taking links away waits for the kernel's RCU.

        Raises the error of the first request that failed: TransientError where another
        attempt may help, else ResourceError. Requests after a failed one are carried out
        all the same (rtnetlink knows no transactions).
        """
        await in_thread(self.apply_here, resource, action, requests, namespace)

    def apply_here(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """The same from the calling thread."""
        if not requests:
            return
        batch = bytearray()
        for number, request in enumerate(requests, start=1):
            length = HEADER.size + len(request.body)
            batch += HEADER.pack(length, request.kind, request.flags, number, 0) + request.body
            batch += bytes(-length % 4)
        with _socket(resource, action, namespace) as channel:
            channel.send(batch)
            answers = _acknowledgements(channel, len(requests))
        for request, code in zip(requests, answers, strict=True):
            if code:
                kind = TransientError if code in BUSY_ERRNOS else ResourceError
                raise kind(resource, action, f"{request.what}: {os.strerror(code)}")

    def snapshot(self, namespace: Path | None = None) -> Snapshot:
        """Links, IPv4 addresses and main-table routes. Raises ResourceError."""
        return once(("snapshot", namespace), lambda: self._snapshot(namespace))

    def _snapshot(self, namespace: Path | None) -> Snapshot:
        where = namespace.name if namespace else "host"
        with _socket(where, "observe", namespace) as channel:
            links = [_link(raw) for raw in _dump(channel, RTM_GETLINK, ifinfmsg, where)]
            addresses: dict[int, list[IPv4Interface]] = {}
            for raw in _dump(channel, RTM_GETADDR, ifaddrmsg, where):
                if raw["family"] == socket.AF_INET:
                    text = raw.get_attr("IFA_LOCAL") or raw.get_attr("IFA_ADDRESS")
                    interface = IPv4Interface(f"{text}/{raw['prefixlen']}")
                    addresses.setdefault(raw["index"], []).append(interface)
            routes = [
                _route(raw)
                for raw in _dump(channel, RTM_GETROUTE, rtmsg, where)
                if raw["family"] == socket.AF_INET
                and raw["type"] == RTN_UNICAST
                and raw["table"] == RT_TABLE_MAIN
            ]
        return Snapshot({each.name: each for each in links}, addresses, routes)


@contextlib.contextmanager
def _socket(resource: str, action: str, namespace: Path | None) -> Iterator[socket.socket]:
    """A NETLINK_ROUTE socket that belongs to the namespace; OSError becomes ours."""
    try:
        with inside(namespace):
            channel = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
    except OSError as error:
        raise ResourceError(resource, action, f"{error.strerror} ({namespace})") from error
    with channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        channel.bind((0, 0))
        yield channel


def _acknowledgements(channel: socket.socket, count: int) -> list[int]:
    """The errno of each request, numbered from 1; 0 for success."""
    codes: dict[int, int] = {}
    while len(codes) < count:
        data, offset = channel.recv(RECEIVE_BYTES), 0
        while offset < len(data):
            length, kind, _, number, _ = HEADER.unpack_from(data, offset)
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, offset + HEADER.size)
                codes[number] = -code
            offset += (length + 3) & ~3
    return [codes[number] for number in range(1, count + 1)]


def _dump(channel: socket.socket, kind: int, parser: Any, where: str) -> list[Any]:
    """All messages of one dump; an interrupted one (NLM_F_DUMP_INTR) is asked for again."""
    for _ in range(10):
        # struct ifinfomsg, ifaddrmsg and rtmsg all begin with the family; zeros ask for all
        body = bytes([socket.AF_UNSPEC if kind == RTM_GETLINK else socket.AF_INET]) + bytes(15)
        length = HEADER.size + len(body)
        channel.send(HEADER.pack(length, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        found, interrupted, done = [], False, False
        while not done:
            data, offset = channel.recv(RECEIVE_BYTES), 0
            while offset < len(data):
                length, answer, flags, _, _ = HEADER.unpack_from(data, offset)
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    done = True
                elif answer == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, offset + HEADER.size)
                    raise ResourceError(where, "observe", os.strerror(-code))
                else:
                    message = parser(data[offset : offset + length])
                    message.decode()
                    found.append(message)
                offset += (length + 3) & ~3
        if not interrupted:
            return found
    raise TransientError(where, "observe", "dump interrupted ten times")


def _link(raw: Any) -> Link:
    info = raw.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    port_state, hairpin = -1, False
    if info and info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge":
        data = info.get_attr("IFLA_INFO_SLAVE_DATA")
        if data:
            port_state = data.get_attr("IFLA_BRPORT_STATE")
            hairpin = bool(data.get_attr("IFLA_BRPORT_MODE"))
    stats = raw.get_attr("IFLA_STATS64") or {}
    return Link(
        index=raw["index"],
        name=raw.get_attr("IFLA_IFNAME"),
        kind=kind,
        mac=raw.get_attr("IFLA_ADDRESS") or "",
        group=raw.get_attr("IFLA_GROUP") or 0,
        alias=raw.get_attr("IFLA_IFALIAS") or "",
        up=bool(raw["flags"] & IFF_UP),
        running=bool(raw["flags"] & IFF_RUNNING),
        master=raw.get_attr("IFLA_MASTER") or 0,
        port_state=port_state,
        hairpin=hairpin,
        peer_index=(raw.get_attr("IFLA_LINK") or 0) if kind == "veth" else 0,
        stats={
            name: int(stats.get(name, 0))
            for name in (
                "rx_bytes",
                "tx_bytes",
                "rx_packets",
                "tx_packets",
                "rx_dropped",
                "tx_dropped",
            )
        }
        if stats
        else {},
    )


def _route(raw: Any) -> Route:
    destination = raw.get_attr("RTA_DST") or "0.0.0.0"
    gateway = raw.get_attr("RTA_GATEWAY")
    return Route(
        destination=IPv4Network(f"{destination}/{raw['dst_len']}"),
        gateway=IPv4Address(gateway) if gateway else None,
        oif=raw.get_attr("RTA_OIF") or 0,
    )
