"""Netlink dumps that need no library: one question, every answer's payload."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import ResourceError
from orchestrator.linux import inside

# linux/netlink.h
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
RECEIVE_BYTES = 1 << 20
TIMEOUT_S = 2.0  # the kernel answers at once or never


def dump(protocol: int, kind: int, body: bytes, namespace: Path | None) -> list[bytes]:
    """What the namespace's kernel side answers to the request. Raises ResourceError."""
    where = namespace.name if namespace else "host"
    try:
        with inside(namespace):
            channel = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
            )
        with channel:
            channel.settimeout(TIMEOUT_S)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            channel.send(HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body)
            return list(_answers(channel, where))
    except OSError as error:
        raise ResourceError(where, "observe", f"netlink: {error}") from error


def _answers(channel: socket.socket, where: str) -> Iterator[bytes]:
    while True:
        data, offset = channel.recv(RECEIVE_BYTES), 0
        while offset < len(data):
            length, kind, _, _, _ = HEADER.unpack_from(data, offset)
            payload = data[offset + HEADER.size : offset + length]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", payload)
                raise ResourceError(where, "observe", os.strerror(-code))
            yield payload
            offset += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by their type."""
    found, offset = {}, 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            break
        found[kind] = data[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
