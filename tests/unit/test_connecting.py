"""Connections of probes: had, refused, waited for, and by name."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from orchestrator.processes.connecting import connected, streams
from orchestrator.processes.gate import ask
from orchestrator.processes.probes import TcpProbe


def listening(backlog: int = 8) -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(backlog)
    return made


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connection_carries_what_is_sent(host: str) -> None:
    with listening() as server:
        reader, writer = await streams(host, server.getsockname()[1])
        other, _ = server.accept()
        with other:
            other.sendall(b"hello\n")
            assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()


async def test_refused_connection_leaves_no_descriptor() -> None:
    with listening() as server:
        port = server.getsockname()[1]
    before = descriptors()
    answer = await ask(TcpProbe("127.0.0.1", port))
    assert (answer.passed, answer.text) == (False, "Connection refused")
    assert descriptors() == before


async def test_connection_that_nobody_answers_is_waited_for() -> None:
    """A full backlog drops what comes; the kernel sends again, so it comes about later."""
    with listening(0) as server:
        port = server.getsockname()[1]
        first = await connected("127.0.0.1", port)
        waiting = asyncio.ensure_future(connected("127.0.0.1", port))
        await asyncio.sleep(0)
        assert not waiting.done()
        before = descriptors()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert descriptors() == before - 1
        first.close()
