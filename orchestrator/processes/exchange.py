"""One HTTP request and its answer, by hand: a client library takes 100 ms to load, and probes are
asked while the platform needs both cores to start.

In HTTP/1.0 (RFC 1945) the answer ends with its connection and is never in chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.processes import connecting

LIMIT_BYTES = 1_000_000  # of an answer; what comes after it is not read


class Reply(Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


async def request(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Reply:
    """Asks once; redirects are answers like others. Raises OSError."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    host = parts.netloc.rpartition("@")[2]
    lines = {"Host": host, "User-Agent": "orchestrator", "Accept": "*/*", **(headers or {})}
    if body:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    reader, writer = await connecting.streams(parts.hostname or "", parts.port or 80)
    try:
        writer.write(f"{method} {target} HTTP/1.0\r\n{head}\r\n".encode() + body)
        return await _reply(reader)
    finally:
        writer.close()


async def _reply(reader: asyncio.StreamReader) -> Reply:
    data = bytearray()
    while len(data) < LIMIT_BYTES and (some := await reader.read(1 << 16)):
        data += some
    head, end, body = bytes(data).partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not (end and version.startswith("HTTP/") and rest[:3].isdigit()):
        raise ConnectionResetError(_what(head))
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() == "content-length" and value.strip().isdigit():
            wanted = min(int(value), LIMIT_BYTES - len(head) - len(end))
            if len(body) < wanted:
                raise ConnectionResetError("it broke off its answer")
    return Reply(int(rest[:3]), body)


def _what(head: bytes) -> str:
    return "its answer is not HTTP" if head else "it closed the connection without an answer"
