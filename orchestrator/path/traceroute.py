"""A traceroute for HTTP: OPTIONS with Max-Forwards 0, 1, 2, … (RFC 9110, section 7.6.2).

Who gets it with 0 answers itself and says who it is in `Server-Hop`; others count it down and
pass it on. Times are taken here alone, so no hop's word is taken for them.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.errors import OrchestratorError
from orchestrator.path.spans import own_traceparent

ROUNDS = 15
MAX_HOPS = 8
TIMEOUT_S = 5.0
NAME = "server-hop"


class Step(Struct, frozen=True):
    """The round trip to one hop."""

    name: str
    median_ms: float
    best_ms: float
    worst_ms: float

    def document(self) -> dict[str, Any]:
        return {
            "hop": self.name,
            "median_ms": round(self.median_ms, 3),
            "best_ms": round(self.best_ms, 3),
            "worst_ms": round(self.worst_ms, 3),
        }


async def traceroute(url: str) -> list[Step]:
    """A step for each hop, the nearest first. Raises OrchestratorError if none answers."""
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 80
    found: list[Step] = []
    try:
        async with asyncio.timeout(TIMEOUT_S * MAX_HOPS):
            for forwards in range(MAX_HOPS):
                step = await _step(host, port, parts.path or "/", forwards)
                if found and step.name == found[-1].name:
                    break  # the last one answers whatever is left of the count
                found.append(step)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise OrchestratorError(
            f"cannot probe {url}: {str(error) or 'no answer in time'}"
        ) from error
    return found


async def _step(host: str, port: int, path: str, forwards: int) -> Step:
    """Several round trips over one connection, the first of which does not count."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        times_ms, name = [], ""
        for _ in range(ROUNDS + 1):
            begun = time.perf_counter()
            writer.write(
                f"OPTIONS {path} HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: {forwards}\r\n"
                f"User-Agent: orchestrator\r\ntraceparent: {own_traceparent()[1]}\r\n\r\n".encode()
            )
            name = await asyncio.wait_for(_answer(reader), TIMEOUT_S)
            times_ms.append((time.perf_counter() - begun) * 1000)
    finally:
        writer.close()
    times_ms = times_ms[1:]
    return Step(name, statistics.median(times_ms), min(times_ms), max(times_ms))


async def _answer(reader: asyncio.StreamReader) -> str:
    """Reads one answer; returns who gave it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    headers = {}
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    await reader.readexactly(int(headers.get("content-length", "0")))
    if NAME not in headers:
        raise OSError(f"{head.splitlines()[0]}: this hop does not take Max-Forwards")
    return headers[NAME]
