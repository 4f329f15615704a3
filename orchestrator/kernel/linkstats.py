"""A link's counters by rtnetlink, without the rest of what it knows: linux/if_link.h."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from orchestrator.kernel.messages import attribute, attribute_size, find_attribute, messages
from orchestrator.kernel.messages import request as message

RTM_GETLINK = 18
IFLA_IFNAME, IFLA_STATS64 = 3, 23
IFINFOMSG = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
STATS = struct.Struct("=8Q")  # struct rtnl_link_stats64, its first eight fields
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 2.0


class LinkCounters(NamedTuple):
    """Since the link was made; `ifindex` tells it from a later one of its name."""

    ifindex: int
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


def open_channel() -> socket.socket:
    """A socket that asks in the network namespace in which it was opened. Raises OSError.

    It keeps that namespace alive: close it soon, or a removed one would linger.
    """
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.settimeout(TIMEOUT_S)
    return channel


def counters(channel: socket.socket, name: str) -> LinkCounters:
    """The link of that name. Raises OSError, ENODEV if there is none."""
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    channel.send(message(RTM_GETLINK, 0, body + attribute(IFLA_IFNAME, name.encode() + b"\0")))
    return decode(next(answer for _, answer in messages(channel.recv(RECEIVE_BYTES))))


def decode(answer: bytes) -> LinkCounters:
    """One struct ifinfomsg with its attributes. Raises OSError if it has no counters."""
    _, _, index, _, _ = IFINFOMSG.unpack_from(answer)
    value = find_attribute(answer, IFINFOMSG.size, IFLA_STATS64)
    if not value or attribute_size(answer, value) < STATS.size:
        raise OSError("the kernel gave no counters")
    return LinkCounters(index, *STATS.unpack_from(answer, value))
