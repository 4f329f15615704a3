"""sd_notify(3): tells whoever started us how far we are; silent where nobody listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends `READY=1`, `STOPPING=1`, …"""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(address)
            out.send(state.encode())
    except OSError:
        pass  # the listener is only interested in our start
