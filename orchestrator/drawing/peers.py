"""In which namespace the other end of each veth is: rtnetlink's namespace ids.

An index alone does not tell: the same one exists in every namespace. `ip link` asks the same
two questions: the id of the peer's namespace (IFLA_LINK_NETNSID) and each namespace's id as
seen from here (RTM_GETNSID).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/net_namespace.h
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
RTM_GETLINK, RTM_GETNSID = 18, 90
IFINFOMSG, RTGENMSG = struct.Struct("=BxHiII"), 4
IFLA_LINK_NETNSID, NETNSA_NSID, NETNSA_FD = 37, 1, 3
RECEIVE_BYTES = 1 << 20


def peer_namespaces(candidates: Iterable[Path]) -> dict[int, Path | None]:
    """Index of a link here → the candidate that its other end is in; None if it is in none.

    Links whose other end is here, or that have none, are left out. Raises OSError.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        channel.bind((0, 0))
        # In this order: the kernel gives a peer's namespace its id when it lists the link.
        ids = dict(_link_ids(channel))
        paths: dict[int, Path] = {}
        for path in candidates if ids else ():
            found = _namespace_id(channel, path)
            if found is not None:
                paths.setdefault(found, path)
    return {index: paths.get(identifier) for index, identifier in ids.items()}


def _link_ids(channel: socket.socket) -> Iterator[tuple[int, int]]:
    """(index, id of the peer's namespace)."""
    body = IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    _send(channel, RTM_GETLINK, NLM_F_DUMP, body)
    while True:
        for kind, message in _messages(channel.recv(RECEIVE_BYTES)):
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                return
            _, _, index, _, _ = IFINFOMSG.unpack_from(message)
            value = _attribute(message[IFINFOMSG.size :], IFLA_LINK_NETNSID)
            if value is not None:
                yield index, value


def _namespace_id(channel: socket.socket, path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # its process ended
    try:
        attribute = ATTRIBUTE.pack(8, NETNSA_FD) + struct.pack("=I", descriptor)
        _send(channel, RTM_GETNSID, 0, bytes(RTGENMSG) + attribute)
        for kind, message in _messages(channel.recv(RECEIVE_BYTES)):
            if kind != NLMSG_ERROR:
                value = _attribute(message[RTGENMSG:], NETNSA_NSID)
                return value if value is not None and value >= 0 else None
    finally:
        os.close(descriptor)
    return None


def _send(channel: socket.socket, kind: int, flags: int, body: bytes) -> None:
    size = HEADER.size + len(body)
    channel.send(HEADER.pack(size, kind, NLM_F_REQUEST | flags, 1, 0) + body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        yield kind, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(data: bytes, wanted: int) -> int | None:
    """The value of a 32-bit attribute."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if kind == wanted:
            found: int = struct.unpack_from("=i", data, offset + ATTRIBUTE.size)[0]
            return found
        offset += max((length + 3) & ~3, ATTRIBUTE.size)
    return None
