"""TCP connections as each namespace has them: sock_diag(7), and how they end: RFC 4022."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from orchestrator.kernel import sockdiag
from orchestrator.linux import inside, is_namespace

IPV4_BYTES = 4


class Connection(Struct, frozen=True, order=True):
    """One end of a connection. The cookie tells it from a later one between the same ports."""

    namespace: str
    local: IPv4Address
    local_port: int
    remote: IPv4Address
    remote_port: int
    cookie: int  # the kernel's own number of the end

    @property
    def ends(self) -> frozenset[tuple[IPv4Address, int]]:
        """The same for both ends."""
        return frozenset({(self.local, self.local_port), (self.remote, self.remote_port)})


class Traffic(Struct, frozen=True):
    """Ends of established connections, and of each namespace tcpEstabResets: how many did not
    end by a close of their programs, but by a reset or because nobody answered."""

    connections: frozenset[Connection]
    resets: Mapping[str, int]


def traffic(namespaces: Mapping[str, Path]) -> Traffic:
    """All that is in the namespaces, by the names given; half a millisecond each."""
    found, resets = set(), {}
    for name, path in namespaces.items():
        if not is_namespace(path):
            continue
        with inside(path):
            channel = sockdiag.open_channel()
            counters = Path("/proc/thread-self/net/snmp").read_text()
        resets[name] = _established_resets(counters)
        with channel:
            for each in sockdiag.sockets(channel, 1 << sockdiag.State.ESTABLISHED):
                if len(each.local) == len(each.remote) == IPV4_BYTES:
                    local, remote = IPv4Address(each.local), IPv4Address(each.remote)
                    ends = (local, each.local_port, remote, each.remote_port)
                    found.add(Connection(name, *ends, each.cookie))
    return Traffic(frozenset(found), resets)


def _established_resets(counters: str) -> int:
    """Of /proc/net/snmp: a line of names and one of numbers for each protocol."""
    keys, values = (line.split() for line in counters.splitlines() if line.startswith("Tcp:"))
    return int(values[keys.index("EstabResets")])
