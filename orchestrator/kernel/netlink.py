"""Links, addresses and routes of one namespace at a time: batches out, snapshots in.

Requests for one namespace go as one batch over one socket, which was opened inside that
namespace: a round trip per request is what makes building networks slow.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from orchestrator.errors import ResourceError, TransientError
from orchestrator.kernel.messages import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from orchestrator.kernel.messages import request as message
from orchestrator.kernel.rtnetlink import (
    ALL,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWLINK,
    Link,
    Request,
    Route,
    decode_address,
    decode_link,
    decode_route,
    get_link,
)
from orchestrator.linux import in_thread, inside
from orchestrator.onelook import is_looking, once

RECEIVE_BYTES = 1 << 20
DUMP_ATTEMPTS = 10

# What concurrent changes of the same objects produce for a moment; worth another attempt.
BUSY_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.EFAULT, errno.ENODEV, errno.EEXIST}
)


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


class Netlink:
    """Batches and snapshots. `namespace` None is the lab's host, where this process lives.

    What adds or looks takes a fraction of a millisecond and blocks; a thread would cost more.
    """

    async def apply(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """Sends the batch; taking links away is done in a thread, since it waits for RCU.

        Raises the error of the first request that failed: TransientError where another
        attempt may help, else ResourceError. Requests after a failed one are carried out
        all the same (rtnetlink knows no transactions).
        """
        if any(request.kind == RTM_DELLINK for request in requests):
            await in_thread(self.apply_here, resource, action, requests, namespace)
        else:
            self.apply_here(resource, action, requests, namespace)

    def apply_here(
        self, resource: str, action: str, requests: Sequence[Request], namespace: Path | None = None
    ) -> None:
        """The same from the calling thread."""
        if not requests:
            return
        with _socket(resource, action, namespace) as channel:
            channel.send(_batch(requests))
            answers = _acknowledgements(channel, len(requests))
        for request, code in zip(requests, answers, strict=True):
            if code:
                kind = TransientError if code in BUSY_ERRNOS else ResourceError
                raise kind(resource, action, f"{request.what}: {os.strerror(code)}")

    def links(self, *names: str) -> dict[str, Link]:
        """Those of the host's links that exist. Asks for no others: a host may have a thousand.

        Raises ResourceError.
        """
        if is_looking():  # then one dump serves all who look
            found = self.snapshot().links
            return {name: found[name] for name in names if name in found}
        with _socket("host", "observe", None) as channel:
            channel.send(_batch([get_link(name) for name in names]))
            answers = _answers(channel, len(names))
        return {link.name: link for link in answers}

    def snapshot(self, namespace: Path | None = None) -> Snapshot:
        """Links, IPv4 addresses and main-table routes. Raises ResourceError."""
        return once(("snapshot", namespace), lambda: self._snapshot(namespace))

    def _snapshot(self, namespace: Path | None) -> Snapshot:
        where = namespace.name if namespace else "host"
        with _socket(where, "observe", namespace) as channel:
            links = [decode_link(body) for body in _dump(channel, RTM_GETLINK, where)]
            addresses: dict[int, list[IPv4Interface]] = {}
            for body in _dump(channel, RTM_GETADDR, where):
                if found := decode_address(body):
                    addresses.setdefault(found[0], []).append(found[1])
            routes = [decode_route(body) for body in _dump(channel, RTM_GETROUTE, where)]
        return Snapshot(
            {link.name: link for link in links}, addresses, [each for each in routes if each]
        )


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


def _batch(requests: Sequence[Request]) -> bytes:
    """The messages one after the other, numbered from 1."""
    batch = bytearray()
    for number, request in enumerate(requests, start=1):
        length = HEADER.size + len(request.body)
        batch += HEADER.pack(length, request.kind, request.flags, number, 0) + request.body
        batch += bytes(-length % 4)
    return bytes(batch)


def _acknowledgements(channel: socket.socket, count: int) -> list[int]:
    """The errno of each request, numbered from 1; 0 for success."""
    codes: dict[int, int] = {}
    while len(codes) < count:
        for kind, _, number, body in _received(channel):
            if kind == NLMSG_ERROR:
                codes[number] = _errno(body)
    return [codes[number] for number in range(1, count + 1)]


def _answers(channel: socket.socket, count: int) -> list[Link]:
    """The links that were asked for one by one; those that do not exist are left out."""
    seen, found = set[int](), []
    while len(seen) < count:
        for kind, _, number, body in _received(channel):
            seen.add(number)
            if kind == RTM_NEWLINK:
                found.append(decode_link(body))
            elif (code := _errno(body)) != errno.ENODEV:
                raise ResourceError("host", "observe", os.strerror(code))
    return found


def _dump(channel: socket.socket, kind: int, where: str) -> list[bytes]:
    """All bodies of one dump; an interrupted one (NLM_F_DUMP_INTR) is asked for again."""
    for _ in range(DUMP_ATTEMPTS):
        channel.send(message(kind, NLM_F_DUMP, ALL[kind]))
        found, interrupted, done = list[bytes](), False, False
        while not done:
            for answer, flags, _, body in _received(channel):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    done = True
                elif answer == NLMSG_ERROR:
                    raise ResourceError(where, "observe", os.strerror(_errno(body)))
                else:
                    found.append(body)
        if not interrupted:
            return found
    raise TransientError(where, "observe", f"dump interrupted {DUMP_ATTEMPTS} times")


def _received(channel: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, number, body) of each message of one datagram."""
    data, offset = channel.recv(RECEIVE_BYTES), 0
    while offset < len(data):
        length, kind, flags, number, _ = HEADER.unpack_from(data, offset)
        yield kind, flags, number, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _errno(body: bytes) -> int:
    """Of an NLMSG_ERROR; 0 is an acknowledgement."""
    code: int = struct.unpack_from("=i", body)[0]
    return -code
