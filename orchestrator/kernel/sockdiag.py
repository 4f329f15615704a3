"""TCP sockets as the kernel has them, by sock_diag(7): nobody's request is touched.

Numbers are those of linux/inet_diag.h, linux/tcp.h and include/net/tcp_states.h.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from orchestrator.kernel.messages import (
    NLM_F_DUMP,
    NLMSG_DONE,
    attribute_size,
    find_attribute,
    messages,
    request,
)

NETLINK_SOCK_DIAG = 4
# The old type of the same question: the new one answers for one address family at a time,
# and each answer walks the whole table of sockets, which is the larger part of its cost.
TCPDIAG_GETSOCK = 18
QUESTION = struct.Struct("=BBBB48xII")  # struct inet_diag_req: …, ext, id, states, dbs
INET_DIAG_INFO = 2

# struct inet_diag_msg: family, state, timer, retrans; ports, addresses, interface, cookie;
# expires, rqueue, wqueue, uid, inode. The ports are in network byte order.
ANSWER = struct.Struct("=BB2xHH16s16s4xQ4xIII4x")
# struct tcp_info, as far as min_rtt, which came with Linux 4.6.
INFO = struct.Struct("=24xI40xI28xI40xII")
NEVER_MEASURED = 0xFFFFFFFF

MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2
RECEIVE_BYTES = 1 << 16  # the kernel fills at most 32 KiB at a time
TIMEOUT_S = 2.0


class State(IntEnum):
    """enum of include/net/tcp_states.h."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


# Of these the kernel keeps no struct tcp_info, or one that is the listener's own.
WITHOUT_INFO = frozenset({State.TIME_WAIT, State.LISTEN, State.NEW_SYN_RECV})
ALL = sum(1 << state for state in State)


class Socket(NamedTuple):
    """One TCP socket. Addresses are packed: 4 bytes, also where IPv6 only wraps IPv4.

    Of a listening socket `queued` is its accept queue and `limit` the backlog, else they are
    bytes received and not read, bytes sent and not acknowledged. Round-trip times are None
    where the kernel has none: TIME_WAIT, listening, nothing acknowledged yet.
    """

    state: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    cookie: int  # the kernel's own number of the socket, never used again
    uid: int
    queued: int
    limit: int
    retransmits: int = 0  # segments, over the socket's life
    unacked: int = 0  # segments
    notsent_bytes: int = 0
    rtt_us: int | None = None
    min_rtt_us: int | None = None


def open_channel() -> socket.socket:
    """A socket that asks about the network namespace in which it was opened. Raises OSError.

    It keeps that namespace alive: close it soon, or a removed one would linger.
    """
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
    )
    channel.settimeout(TIMEOUT_S)
    return channel


def sockets(channel: socket.socket, states: int = ALL, limit: int | None = None) -> list[Socket]:
    """TCP sockets of both address families in these states (bits 1 << State).

    With a limit only about as many are read; the channel is of no use afterwards. Raises
    OSError.
    """
    ext = 1 << (INET_DIAG_INFO - 1)
    body = QUESTION.pack(socket.AF_UNSPEC, 0, 0, ext, states, 0)
    channel.send(request(TCPDIAG_GETSOCK, NLM_F_DUMP, body))
    found: list[Socket] = []
    while limit is None or len(found) < limit:
        for kind, answer in messages(channel.recv(RECEIVE_BYTES)):
            if kind == NLMSG_DONE:
                return found
            found.append(decode(answer))
    return found


def decode(answer: bytes) -> Socket:
    """One struct inet_diag_msg with its attributes."""
    family, state, sport, dport, source, target, cookie, queued, limit, uid = ANSWER.unpack_from(
        answer
    )
    if family == socket.AF_INET:
        local, remote = source[:4], target[:4]
    else:
        local, remote = _unmapped(source), _unmapped(target)
    basic = (
        state,
        local,
        socket.ntohs(sport),
        remote,
        socket.ntohs(dport),
        cookie,
        uid,
        queued,
        limit,
    )
    if state in WITHOUT_INFO:
        return Socket(*basic)
    value = find_attribute(answer, ANSWER.size, INET_DIAG_INFO)
    if not value or attribute_size(answer, value) < INFO.size:
        return Socket(*basic)
    unacked, rtt_us, retransmits, notsent, min_rtt_us = INFO.unpack_from(answer, value)
    return Socket(
        *basic,
        retransmits,
        unacked,
        notsent,
        rtt_us or None,
        None if min_rtt_us in (0, NEVER_MEASURED) else min_rtt_us,
    )


def _unmapped(address: bytes) -> bytes:
    return address[12:] if address.startswith(MAPPED) else address
