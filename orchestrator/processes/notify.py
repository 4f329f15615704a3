"""sd_notify(3) from the listener's side: a datagram socket that hears READY=1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path


class Notifications:
    """Hears one attempt's messages. Opened before the program starts, closed after."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Makes the socket anew; what an earlier attempt may still send is not heard."""
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        # A socket's address holds 108 bytes (unix(7)); by way of its directory any path fits.
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        # Only this program's sandbox has it mounted; on the host its directory is root's.
        self.path.chmod(0o666)

    async def wait_for_ready(self) -> None:
        """Returns when READY=1 has come."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        while True:
            message = await loop.sock_recv(self._socket, 4096)
            if b"READY=1" in message.split(b"\n"):
                return

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
