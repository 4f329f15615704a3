"""The sockets of page and metrics: one on loopback, one on each bridge's address."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address

from orchestrator.errors import HostError

LOOPBACK = "127.0.0.1"
BACKLOG = 64
IP_FREEBIND = 15  # linux/in.h; Python names it from 3.12 on


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. Raises HostError, with who has the port where that can be seen.

    With IP_FREEBIND the address of a bridge need not be there yet, and a socket that has it
    outlives a rebuild of the bridge (ip(7)).
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)  # here, so that a port taken shows now and not while serving
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            reason = os.strerror(error.errno or 0)
            raise HostError(f"cannot listen on {address}:{port}: {reason}") from error
        raise HostError(
            f"port {port} of {address} is taken",
            mend="give another one in the stack file, supervision: {port: …}, or 0 for none",
        ) from error
    listener.setblocking(False)
    return listener


def listen_on_all(
    addresses: Iterable[IPv4Address], port: int
) -> tuple[list[socket.socket], list[HostError]]:
    """A socket for every address where that can be had, and what came in the way elsewhere."""
    found: list[socket.socket] = []
    problems: list[HostError] = []
    for address in addresses:
        try:
            found.append(listen(str(address), port))
        except HostError as error:
            problems.append(error)
    return found, problems
