"""Connections to what probes ask: where the other side is on this machine its answer to the first
packet is there at once, and to wait for it in the event loop would take four times as long."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

PENDING = {errno.EINPROGRESS, errno.EALREADY}


async def connected(host: str, port: int) -> socket.socket:
    """A socket, not blocking, to be closed by the caller. Raises OSError."""
    refused: OSError | None = None
    for family, address in await _addresses(host, port):
        try:
            return await _connected(family, address)
        except OSError as error:
            refused = error
    raise refused or OSError(f"{host} has no address")


async def streams(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Of a connection. Raises OSError."""
    return await asyncio.open_connection(sock=await connected(host, port))


async def _connected(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    code = made.connect_ex(address)
    if code in PENDING:
        code = made.connect_ex(address)  # tells what has come of it: connect(2)
    if code in PENDING:
        try:
            await asyncio.get_running_loop().sock_connect(made, address)
        except BaseException:
            made.close()
            raise
    elif code:
        made.close()
        raise OSError(code, os.strerror(code))
    return made


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        # As bytes: for text Python loads tables of other alphabets.
        name = host.encode() if host.isascii() else host
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]
    return [(socket.AF_INET, (host, port))]
