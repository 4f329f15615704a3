"""Two ways to be served, asked by turns that are far shorter than what else moves a machine.

One process asks all of them: its connections are made before, each in the network namespace
that it is asked from, and stay. So no turn begins with a new client, and what the client itself
costs is the same for all.
"""

from __future__ import annotations

import math
import re
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from bench import cpu
from orchestrator.linux import inside

CONNECTIONS = 50
USAGE = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
OK = b"HTTP/1.1 200 "
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
ANSWER_S = 10.0
LONGEST_IDLE_S = 10.0  # nginx ends it after 30


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn has measured."""

    requests: int
    wall_ns: int
    cpu_ns: int  # of the whole machine, the client included

    @property
    def cost_us(self) -> float:
        """CPU of one request."""
        return self.cpu_ns / self.requests / 1e3

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.wall_ns * 1e9


def machine_ns() -> int:
    """Processor time so far of all tasks of the machine. What an interrupt takes is the task's
    that it interrupts. To the nanosecond where there are control groups of version 1
    (cpuacct.rst), where not in hundredths of a second: whoever adds many turns up loses little.
    """
    try:
        return int(USAGE.read_text())
    except FileNotFoundError:
        return round(cpu.machine_s() * 1e9)


class UnservedError(Exception):
    """A request was refused, or not answered in time."""


class Client:
    """Keep-alive connections to one server, which stand still between turns."""

    def __init__(
        self,
        namespace: Path | None,
        host: str,
        port: int,
        target: str,
        *,
        connections: int = CONNECTIONS,
    ) -> None:
        self._request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self._namespace, self._address = namespace, (host, port)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._connect(connections)
        self.answered = 0
        self._used = time.monotonic()

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._epoll.close()

    def connect_anew(self) -> None:
        """Every connection, to what serves now."""
        for each in [*self._sockets.values()]:
            self._replaced(each)

    def _connect(self, count: int) -> list[socket.socket]:
        with inside(self._namespace):
            made = [socket.create_connection(self._address) for _ in range(count)]
        for each in made:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[each.fileno()] = each
            self._epoll.register(each, select.EPOLLIN)
        return made

    def _replaced(self, one: socket.socket) -> socket.socket:
        """Another for a connection that the server has ended, as it does after many requests."""
        del self._sockets[one.fileno()]
        self._epoll.unregister(one)
        one.close()
        (other,) = self._connect(1)
        return other

    def turn(self, seconds: float, *, warm_s: float = 0.0) -> Turn:
        """Every connection asks, and asks again when it is answered, until the time is over.

        Measured is what happens between `warm_s` and the end, while all of them wait for answers.
        Raises UnservedError.
        """
        if time.monotonic() - self._used > LONGEST_IDLE_S:
            self.connect_anew()
        self._used = -math.inf  # whoever fails leaves answers behind that nobody waits for
        request, sockets = self._request, self._sockets
        poll, now = self._epoll.poll, time.monotonic
        for number, _ in poll(0):  # nothing was asked: the server has ended it
            self._replaced(sockets[number])
        left_of = dict.fromkeys(sockets, 0)  # of those that wait; 0: the answer is to begin
        seen: list[tuple[int, int, int]] = []  # at the beginning of what is measured, at its end
        due = [now() + warm_s, now() + warm_s + seconds]
        for each in sockets.values():
            each.send(request)
        while left_of:
            ready = poll(ANSWER_S)
            if not ready:
                raise UnservedError(f"no answer to {len(left_of)} requests in {ANSWER_S:.0f} s")
            if due and now() >= due[0]:
                del due[0]
                seen.append((self.answered, time.monotonic_ns(), machine_ns()))
            for number, _ in ready:
                one = sockets[number]
                if not (data := _received(one)):
                    other = self._replaced(one)
                    # Whoever has his answer already, as with the last one that nginx gives on a
                    # connection, must not ask again: nobody would wait for it.
                    if left_of.pop(number, None) is not None:
                        other.send(request)
                        left_of[other.fileno()] = 0
                    continue
                left = left_of.get(number)
                if left is None:
                    raise UnservedError(f"not asked for: {data[:200]!r}")
                if not left:
                    if not data.startswith(OK):
                        raise UnservedError(f"refused: {data[:200]!r}")
                    left = _size(data)
                left_of[number] = left = left - len(data)
                if left:
                    continue
                self.answered += 1
                if due:
                    one.send(request)
                else:
                    del left_of[number]
        self._used = now()
        return Turn(*(after - before for before, after in zip(*seen, strict=True)))


def _size(data: bytes) -> int:
    """Bytes of the answer that begins so. Each says it anew: a stock that falls by orders has
    fewer digits. Raises UnservedError."""
    end = data.find(b"\r\n\r\n") + 4
    length = LENGTH.search(data, 0, end)
    if length is None:
        raise UnservedError(f"no length: {data[:200]!r}")
    return end + int(length[1])


def _received(one: socket.socket) -> bytes:
    """What has come; nothing once the server has ended the connection."""
    try:
        return one.recv(1 << 16)
    except ConnectionResetError:
        return b""
