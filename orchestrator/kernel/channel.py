"""A NETLINK_ROUTE socket: batches of requests out; acknowledgements, links and dumps in."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
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
from orchestrator.kernel.rtnetlink import ALL, RTM_NEWLINK, Link, Request, decode_link
from orchestrator.linux import inside

QUEUE_BYTES = 1 << 20  # answers that the kernel keeps for us
RECEIVE_BYTES = 1 << 16  # the kernel fills at most 32 KiB at a time
DUMP_ATTEMPTS = 10

# What concurrent changes of the same objects produce for a moment; worth another attempt.
BUSY_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.EFAULT, errno.ENODEV, errno.EEXIST}
)


@contextlib.contextmanager
def open_channel(resource: str, action: str, namespace: Path | None) -> Iterator[socket.socket]:
    """A socket that belongs to the namespace. Raises ResourceError."""
    try:
        with inside(namespace):
            channel = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
    except OSError as error:
        raise ResourceError(resource, action, f"{error.strerror} ({namespace})") from error
    with channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
        yield channel


def refusal(resource: str, action: str, what: str, code: int) -> ResourceError:
    """The error of a request that was refused: TransientError where another attempt may help."""
    kind = TransientError if code in BUSY_ERRNOS else ResourceError
    return kind(resource, action, f"{what}: {os.strerror(code)}")


def batch(requests: Sequence[Request]) -> bytes:
    """The messages one after the other, numbered from 1."""
    joined = bytearray()
    for number, request in enumerate(requests, start=1):
        length = HEADER.size + len(request.body)
        joined += HEADER.pack(length, request.kind, request.flags, number, 0) + request.body
        joined += bytes(-length % 4)
    return bytes(joined)


def acknowledgements(channel: socket.socket, count: int) -> list[int]:
    """The errno of each request, numbered from 1; 0 for success."""
    codes: dict[int, int] = {}
    while len(codes) < count:
        for kind, _, number, body in _received(channel):
            if kind == NLMSG_ERROR:
                codes[number] = _errno(body)
    return [codes[number] for number in range(1, count + 1)]


def links(channel: socket.socket, count: int) -> list[Link]:
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


def are_there(channel: socket.socket, wanted: Sequence[Request]) -> bool:
    """Whether any of the links that are asked for exists."""
    channel.send(batch(wanted))
    return bool(links(channel, len(wanted)))


def dump(channel: socket.socket, kind: int, where: str, body: bytes = b"") -> list[bytes]:
    """All bodies of one dump; an interrupted one (NLM_F_DUMP_INTR) is asked for again."""
    for _ in range(DUMP_ATTEMPTS):
        channel.send(message(kind, NLM_F_DUMP, body or ALL[kind]))
        found, interrupted, done = list[bytes](), False, False
        while not done:
            for answer, flags, _, content in _received(channel):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    done = True
                elif answer == NLMSG_ERROR:
                    raise ResourceError(where, "observe", os.strerror(_errno(content)))
                else:
                    found.append(content)
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
