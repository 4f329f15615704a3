"""Liveness: the least that a program must do to prove that it is not hung.

Asked every few seconds for ever, so it is made of a connection and a few bytes, without the
libraries that the readiness probes use. The kernel alone accepts connections for a stopped
program; only an answer, or a connection that the program closed, shows that it runs.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from orchestrator.processes.probes import HttpProbe, PostgresProbe, Probe, RedisProbe

# A program that has nothing else to do answers in a millisecond. Late answers are no
# failures: whoever asks looks at what the program did meanwhile.
LIVENESS_TIMEOUT_S = 0.5

# PostgreSQL documentation, "Message Formats": SSLRequest; one byte, S or N, comes back.
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


async def is_alive(probe: Probe) -> bool:
    """Whether the program reacts in time, whatever it says."""
    match probe:
        case HttpProbe(url=url):
            parts = urlsplit(url)
            head = (
                f"GET {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\nConnection: close\r\n\r\n"
            )
            return await _reacts(str(parts.hostname), parts.port or 80, head.encode())
        case RedisProbe(host=host, port=port):
            return await _reacts(host, port, b"PING\r\n")  # +PONG, or -NOAUTH: it is alive
        case PostgresProbe(host=host, port=port):
            return await _reacts(host, port, SSL_REQUEST)
        case _:
            return True


async def _reacts(host: str, port: int, question: bytes) -> bool:
    try:
        async with asyncio.timeout(LIVENESS_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(question)
                await reader.read(1)  # nothing: it has no place for us, and says so by closing
            except (ConnectionResetError, BrokenPipeError):
                pass  # closed by the program as well, in the middle of our question
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return True
