"""A service's listening socket, which outlives the program that answers on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from msgspec import Struct

from orchestrator.linux import duplicate, inside
from orchestrator.processes import procfs
from orchestrator.processes.sandbox import FIRST_PID

TCP_LISTEN = "0A"  # include/net/tcp_states.h, as /proc/net/tcp shows it (proc_net_tcp.rst)


class Listener(Struct, frozen=True):
    """Where a service listens, and how its program takes the socket over."""

    port: int
    handover: str  # systemd | nginx
    backlog: int

    def environment(self) -> dict[str, str]:
        """What tells the program that descriptor 3 is its listening socket."""
        if self.handover == "nginx":
            return {"NGINX": "3;"}
        return {"LISTEN_FDS": "1", "LISTEN_PID": str(FIRST_PID)}

    def open(self, namespace: Path | None) -> int:
        """A new socket in the namespace. Raises OSError."""
        with inside(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("0.0.0.0", self.port))
            made.listen(self.backlog)
            return made.detach()
        finally:
            made.close()

    def take_over(self, program: int) -> int | None:
        """A copy of the socket on which that process listens; None if it has none."""
        inodes = self._inodes(program)
        try:
            for entry in Path(f"/proc/{program}/fd").iterdir():
                target = str(entry.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return duplicate(program, int(entry.name))
        except OSError:
            return None
        return None

    def _inodes(self, program: int) -> set[str]:
        try:
            lines = Path(f"/proc/{program}/net/tcp").read_text().splitlines()[1:]
        except OSError:
            return set()
        found = set()
        for line in lines:
            fields = line.split()
            if fields[3] == TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == self.port:
                found.add(fields[9])
        return found


def program_of(sandboxes: list[procfs.Sandbox]) -> int | None:
    """The pid of the program that runs in the sandbox."""
    for each in sandboxes:
        if each.is_init:
            for child in procfs.children(each.pid):
                return child
    return None


def close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
