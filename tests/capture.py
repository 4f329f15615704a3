"""Packets on the lab's bridge with the kernel's time of each (packet(7), SO_TIMESTAMPNS)."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from orchestrator.linux import NETNS_DIR, inside

if TYPE_CHECKING:
    from rig import World

SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h; Python has no name for it
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
ETHERNET, TCP = 14, 6
BUFFER_BYTES = 256_000_000


@dataclass(frozen=True)
class Packet:
    """One that carries something. Its time is of CLOCK_MONOTONIC, as the hops' stamps are."""

    at_us: float
    source: tuple[str, int]
    target: tuple[str, int]
    payload: bytes


@dataclass
class Capture:
    """What passes one port of the bridge, both ways, for the length of a with statement."""

    world: World
    port: str
    packets: list[Packet] = field(default_factory=list)

    def __enter__(self) -> Self:
        with inside(NETNS_DIR / self.world.host):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.bind((self.port, ETH_P_ALL))
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        """Only now are they read: nobody is woken for a packet while others are at work."""
        offset_ns = wall_ahead_ns()
        with self._socket, contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._socket.recvmsg(65_536, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                at_ns = seconds * 1_000_000_000 + nanoseconds - offset_ns
                if (packet := parsed(data, at_ns / 1000)) is not None:
                    self.packets.append(packet)


def wall_ahead_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC: of several readings the one least in between."""
    found = []
    for _ in range(100):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        found.append((after - before, wall - (before + after) // 2))
    return min(found)[1]


def parsed(frame: bytes, at_us: float) -> Packet | None:
    """None if it is not TCP over IPv4, or carries nothing."""
    if frame[12:14] != b"\x08\x00" or frame[ETHERNET + 9] != TCP:
        return None
    header = (frame[ETHERNET] & 15) * 4
    length = int.from_bytes(frame[ETHERNET + 2 : ETHERNET + 4])
    segment = frame[ETHERNET + header : ETHERNET + length]
    payload = segment[(segment[12] >> 4) * 4 :]
    if not payload:
        return None
    source, target = (
        (socket.inet_ntoa(frame[at : at + 4]), int.from_bytes(segment[place : place + 2]))
        for at, place in ((ETHERNET + 12, 0), (ETHERNET + 16, 2))
    )
    return Packet(at_us, source, target, payload)
