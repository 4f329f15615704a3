"""The gateway's connections to services: one exchange after the other, each with its time limit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from virtualtime import VirtualLoop, run

SERVICES = Path(__file__).parents[2] / "services"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a service's own namespace."""
    monkeypatch.syspath_prepend(SERVICES)


class Transport(asyncio.Transport):
    """Answers every request after so long, or never."""

    def __init__(self, connection: Any, after_s: list[float | None]) -> None:
        super().__init__()
        self._connection, self._after_s = connection, after_s
        self.is_aborted = False

    def write(self, _: object) -> None:
        after_s = self._after_s.pop(0)
        if after_s is not None:
            asyncio.get_running_loop().call_later(after_s, self._connection.data_received, ANSWER)

    def abort(self) -> None:
        self.is_aborted = True


def connected(*after_s: float | None) -> tuple[Any, Transport]:
    from gateway.upstream import Connection

    found = Connection()
    transport = Transport(found, [*after_s])
    found.connection_made(transport)
    return found, transport


def test_each_exchange_has_its_own_time() -> None:
    """Also one that begins while the timer of the one before still runs."""
    from gateway.upstream import ANSWER_S

    async def work() -> None:
        connection, transport = connected(ANSWER_S - 1, ANSWER_S - 1, None)
        loop = asyncio.get_running_loop()
        for _ in range(2):
            assert (await connection.exchange(b"")).body == b"OK"
            await asyncio.sleep(0.5)
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            await connection.exchange(b"")
        assert loop.time() == began_s + ANSWER_S
        assert transport.is_aborted
        assert not connection.is_open

    run(work(), VirtualLoop())


def test_nothing_waits_for_a_connection_that_is_idle_or_gone() -> None:
    async def work() -> None:
        idle, _ = connected(0.5)
        gone, _ = connected(0.5)
        for each in (idle, gone):
            await each.exchange(b"")
        gone.connection_lost(None)
        assert gone._timer.cancelled()
        await asyncio.sleep(60)
        assert idle._timer is None
        assert idle.is_open

    run(work(), VirtualLoop())


def test_what_nobody_asked_for_is_no_answer() -> None:
    """A second answer in one piece with the first would be taken for that to the next request."""

    async def work() -> None:
        connection, transport = connected(None)
        loop = asyncio.get_running_loop()
        twice = ANSWER + ANSWER.replace(b"OK", b"NO")
        loop.call_later(1, connection.data_received, twice)
        assert (await connection.exchange(b"")).body == b"OK"
        assert transport.is_aborted
        assert not connection.is_open

    run(work(), VirtualLoop())
