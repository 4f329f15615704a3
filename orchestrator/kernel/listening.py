"""Listening TCP sockets of a namespace with their accept queues, as `ss -ltn` shows them."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel.dump import dump

# linux/sock_diag.h, linux/inet_diag.h, include/net/tcp_states.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
TCP_LISTEN = 10
WILDCARDS = ("0.0.0.0", "::")
REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, bit mask of states; no id
MESSAGE = struct.Struct("=4x2s2s16s16s12x4xIIII")  # ports, addresses, then queues, uid, inode


class Listening(Struct, frozen=True):
    """One listening socket: `waiting` connections of at most `backlog` are not accepted yet."""

    address: str
    port: int
    waiting: int
    backlog: int
    inode: int

    @property
    def is_full(self) -> bool:
        """Further connections are dropped: sk_acceptq_is_full of include/net/sock.h."""
        return self.waiting > self.backlog

    def serves(self, address: str) -> bool:
        """Whether connections to that address of the namespace come here."""
        return self.address in (address, *WILDCARDS)

    @property
    def is_local(self) -> bool:
        """Whether nobody outside of the namespace can reach it."""
        return self.address.startswith("127.") or self.address == "::1"


def listening(namespace: Path | None) -> list[Listening]:
    """Every listening TCP socket, IPv4 and IPv6. Raises ResourceError."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
        for payload in dump(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, body, namespace):
            port, _, source, _, waiting, backlog, _, inode = MESSAGE.unpack_from(payload)
            size = 4 if family == socket.AF_INET else 16
            address = socket.inet_ntop(family, source[:size])
            found.append(Listening(address, int.from_bytes(port), waiting, backlog, inode))
    return found
