"""A relay in front of a server, in the server's own namespace, that holds requests when told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.linux import NETNS_DIR, inside

if TYPE_CHECKING:
    from rig import World

CHUNK = 65_536
PORT = 7000  # a stack file with relays names flows to it


@dataclass
class Relay:
    """Takes over the new connections from one client's address to one port of a service."""

    world: World
    service: str
    address: str
    port: int
    sources: tuple[str, ...]
    _hold_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)

    def start(self) -> None:
        server = self._socket()
        server.bind(("0.0.0.0", PORT))
        server.listen(64)
        for source in self.sources:
            words = ["iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-s", source]
            words += ["--syn", "--dport", str(self.port), "-j", "REDIRECT", "--to-ports", str(PORT)]
            self.world.inside(self.service, *words).ok()
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def hold(self, seconds: float) -> None:
        """What the next client says is passed on so much later."""
        with self._lock:
            self._hold_s = seconds

    def stop(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _socket(self) -> socket.socket:
        with inside(NETNS_DIR / f"{self.world.host}.{self.service}"):
            found = socket.socket()
        self._sockets.append(found)
        return found

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
                upstream = self._socket()
                upstream.connect((self.address, self.port))
            except OSError:
                return
            self._sockets.append(client)
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((client, upstream, True), (upstream, client, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if is_request:
                    with self._lock:
                        held_s, self._hold_s = self._hold_s, 0.0
                    if held_s:
                        time.sleep(held_s)
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
