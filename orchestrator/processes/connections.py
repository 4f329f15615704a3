"""TCP connections as each namespace has them: proc_net_tcp.rst, and how they end: RFC 4022."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from orchestrator.linux import in_thread, inside, is_namespace

ESTABLISHED = "01"  # include/net/tcp_states.h


@dataclass(frozen=True, slots=True, order=True)
class Connection:
    """One end of a connection. The inode tells it from a later one between the same ports."""

    namespace: str
    local: IPv4Address
    local_port: int
    remote: IPv4Address
    remote_port: int
    inode: int

    @property
    def ends(self) -> frozenset[tuple[IPv4Address, int]]:
        """The same for both ends."""
        return frozenset({(self.local, self.local_port), (self.remote, self.remote_port)})


async def established(namespaces: Mapping[str, Path]) -> set[Connection]:
    """All ends in the namespaces, by the names given."""
    return await in_thread(_established, namespaces)


async def resets(namespaces: Mapping[str, Path]) -> dict[str, int]:
    """How many established connections did not end by a close of their programs, but by a
    reset or because nobody answered: tcpEstabResets of each namespace."""
    return await in_thread(_resets, namespaces)


def _resets(namespaces: Mapping[str, Path]) -> dict[str, int]:
    found = {}
    for name, path in namespaces.items():
        if is_namespace(path):
            with inside(path):
                lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
            keys, values = (line.split() for line in lines if line.startswith("Tcp:"))
            found[name] = int(values[keys.index("EstabResets")])
    return found


def _established(namespaces: Mapping[str, Path]) -> set[Connection]:
    found = set()
    for name, path in namespaces.items():
        if not is_namespace(path):
            continue
        with inside(path):
            # /proc/net is the process's; what this thread sees is its own entry's.
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        for line in lines:
            fields = line.split()
            if fields[3] == ESTABLISHED:
                local, remote = _address(fields[1]), _address(fields[2])
                found.add(Connection(name, *local, *remote, int(fields[9])))
    return found


def _address(text: str) -> tuple[IPv4Address, int]:
    """`3C00000A:1538`: an address in the machine's byte order, a port in hexadecimal."""
    address, _, port = text.partition(":")
    packed = struct.pack("=I", int(address, 16))
    return IPv4Address(socket.inet_ntoa(packed)), int(port, 16)
