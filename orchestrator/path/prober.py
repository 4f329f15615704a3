"""A request of our own each second: the client's view of the path, and its way to the edge."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.path.spans import Request, own_traceparent
from orchestrator.path.totals import Histogram, Key

CLIENT = "client"  # what the other end of the first way is called
LOCALHOST = "localhost"
TIMEOUT = struct.pack("@ll", 5, 0)  # struct timeval: for connecting, sending, and each reading
KEPT = 64
READ_BYTES = 65_536
# linux/tcp.h: tcpi_rtt, in µs, and tcpi_total_retrans of struct tcp_info. Right after connect(2)
# the only sample of the first is the handshake's, and the second counts its packets sent again.
TCP_INFO = struct.Struct("=68xI28xI")


class _Sent(Struct, frozen=True):
    trace: str
    sent_us: int
    received_us: int


class Prober:
    """GETs one URL and keeps the times; `heard` gets the ways there and back."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        heard: Callable[[str, float, float], None],
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or LOCALHOST, parts.port or 80
        self._path = parts.path or "/"
        lines = {"Host": self._host, "User-Agent": "orchestrator", **headers}
        self._headers = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        self._heard = heard
        self._sent: dict[str, _Sent] = {}
        self.phases: dict[Key, Histogram] = {
            (phase,): Histogram() for phase in ("connect", "ttfb", "total")
        }
        self.handshake: dict[Key, Histogram] = {(): Histogram()}
        self.results: dict[Key, int] = {("ok",): 0, ("error",): 0}

    def probe(self) -> None:
        """One request; whatever goes wrong is counted, never raised. Blocks: for a thread."""
        try:
            self._ask()
        except (OSError, ValueError):
            self.results["error",] += 1

    def _ask(self) -> None:
        trace, parent = own_traceparent()
        # Asking the resolver for localhost would take longer than to connect.
        host = "127.0.0.1" if self._host == LOCALHOST else self._host
        begun_us = _now_us()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            # By the kernel: Python's own timeout costs a poll before each call.
            for each in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                connection.setsockopt(socket.SOL_SOCKET, each, TIMEOUT)
            connection.connect((host, self._port))
            connected_us = _now_us()
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
            sent_us = _now_us()
            connection.sendall(
                f"GET {self._path} HTTP/1.1\r\n{self._headers}Connection: close\r\n"
                f"traceparent: {parent}\r\n\r\n".encode()
            )
            head = connection.recv(READ_BYTES)
            first_us = _now_us()
            while connection.recv(READ_BYTES):
                pass
            done_us = _now_us()
        is_ok = head.startswith(b"HTTP/") and head.partition(b" ")[2].startswith(b"2")
        self.results["ok" if is_ok else "error",] += 1
        self.phases["connect",].add(connected_us - begun_us)
        self.handshake[()].add(handshake_us(info, connected_us - begun_us))
        self.phases["ttfb",].add(first_us - sent_us)
        self.phases["total",].add(done_us - begun_us)
        self._sent[trace] = _Sent(trace, sent_us, first_us)
        for old in list(self._sent)[:-KEPT]:
            self._sent.pop(old, None)  # it may have been heard of this moment

    def own(self, request: Request) -> None:
        """A request that was logged: if it is ours, both ends of its way are known now."""
        sent = self._sent.pop(request.trace, None) if self._sent else None
        if sent is not None and request.resolution_us == 1:
            there_us = max(0, request.root.arrived_us - sent.sent_us)
            back_us = max(0, sent.received_us - request.root.left_us)
            self._heard(request.root.hop, there_us, back_us)


def handshake_us(info: bytes, connect_us: int) -> int:
    """By the kernel's clock; where a packet was sent again its sample begins there, and what
    connect(2) took is told."""
    rtt_us, sent_again = TCP_INFO.unpack(info)
    return connect_us if sent_again or not rtt_us else int(rtt_us)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
