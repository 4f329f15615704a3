"""Netlink messages as raw bytes, for what is read often: netlink(7), linux/netlink.h. Pure.

pyroute2 decodes every field of a message into Python objects, which takes ten times as long
as taking out the few that are wanted.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterator

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: the upper two bits are flags


def request(kind: int, flags: int, body: bytes) -> bytes:
    """One message, ready to be sent."""
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message in what one recv gave.

    Raises OSError for an error in it, EINTR for a dump that what it lists changed under.
    """
    offset, end = 0, len(data)
    while offset + HEADER.size <= end:
        length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > end:
            raise OSError(errno.EBADMSG, "netlink message is cut short")
        if flags & NLM_F_DUMP_INTR:
            raise OSError(errno.EINTR, "the kernel changed what it was listing")
        body = data[offset + HEADER.size : offset + length]
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", body)
            if code:
                raise OSError(-code, os.strerror(-code))
        yield kind, body
        offset += (length + 3) & ~3


def attributes(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute from the offset on."""
    end = len(body)
    while offset + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < ATTRIBUTE.size or offset + length > end:
            return
        yield kind & TYPE_MASK, body[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def picked(body: bytes, offset: int, wanted: Collection[int]) -> dict[int, bytes]:
    """Values by type, as `attributes` gives them, of the wanted types alone."""
    found: dict[int, bytes] = {}
    unpack, end = ATTRIBUTE.unpack_from, len(body)
    while offset + 4 <= end:
        length, kind = unpack(body, offset)
        if length < 4 or offset + length > end:
            break
        kind &= TYPE_MASK
        if kind in wanted:
            found[kind] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def find_attribute(body: bytes, offset: int, wanted: int) -> int:
    """Where the value of an attribute begins, attributes starting at the offset; 0: not there.

    The value's end is checked to lie within the body.
    """
    end = len(body)
    while offset + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < ATTRIBUTE.size or offset + length > end:
            return 0
        if kind & TYPE_MASK == wanted:
            return offset + ATTRIBUTE.size
        offset += (length + 3) & ~3
    return 0


def attribute_size(body: bytes, value: int) -> int:
    """Length of the value that begins there."""
    length: int = ATTRIBUTE.unpack_from(body, value - ATTRIBUTE.size)[0]
    return length - ATTRIBUTE.size
