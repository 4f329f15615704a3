"""The neighbour table of a namespace: which MAC an IPv4 address resolved to (ARP)."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel.dump import attributes, dump

RTM_GETNEIGH = 30  # linux/rtnetlink.h
NDMSG = struct.Struct("=BBHiHBB")  # linux/neighbour.h: family, padding, index, state, flags, type
NDA_DST, NDA_LLADDR = 1, 2
# NUD_* of linux/neighbour.h
STATES = {
    0x01: "INCOMPLETE",
    0x02: "REACHABLE",
    0x04: "STALE",
    0x08: "DELAY",
    0x10: "PROBE",
    0x20: "FAILED",
    0x40: "NOARP",
    0x80: "PERMANENT",
}


class Neighbour(Struct, frozen=True):
    """One entry, as `ip neigh` shows it; no MAC while nobody has answered."""

    address: IPv4Address
    mac: str
    state: str

    @property
    def failed(self) -> bool:
        """Nobody answered for that address, or nobody has yet."""
        return self.state in ("INCOMPLETE", "FAILED")


def neighbours(namespace: Path | None) -> dict[IPv4Address, Neighbour]:
    """Every IPv4 neighbour that the namespace knows. Raises ResourceError."""
    body = NDMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0)
    found = {}
    for payload in dump(socket.NETLINK_ROUTE, RTM_GETNEIGH, body, namespace):
        family, _, _, _, state, _, _ = NDMSG.unpack_from(payload)
        given = attributes(payload[NDMSG.size :])
        if family == socket.AF_INET and NDA_DST in given:
            address = IPv4Address(given[NDA_DST])
            mac = given.get(NDA_LLADDR, b"").hex(":")
            found[address] = Neighbour(address, mac, STATES.get(state, str(state)))
    return found
