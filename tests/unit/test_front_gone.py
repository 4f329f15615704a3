"""Whoever asks the supervisor may be gone before it answers: that is no error of its own, and
what was asked for is done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from orchestrator.engine.executor import Result
from orchestrator.errors import BusyError
from orchestrator.events import Outcome
from orchestrator.front.control import Control
from orchestrator.front.metrics import Metrics
from orchestrator.front.page import Page, Sources
from orchestrator.front.serve import serving
from orchestrator.lab import Lab

RECORD = '{"seq":0,"run":"a","wall_ns":1,"mono_ns":1,"event":"CancelRequested","signal":"x"}\n'
DOWN = "POST /down HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextlib.contextmanager
def listening(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        listener.listen()
        yield listener


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n"


class House:
    """The control socket of a lab that is not there; what was called, in order."""

    def __init__(self, place: Path, error: Exception | None = None) -> None:
        self.lab = Lab("gone", "", place / "state", place / "run")
        self.lab.journal.parent.mkdir(parents=True)
        self.lab.journal.write_text(RECORD)
        self.calls: list[str] = []
        self._error = error

    async def down(self, *_: Any, **__: Any) -> Result:
        self.calls.append("down begins")
        await asyncio.sleep(0.05)
        if self._error is not None:
            raise self._error
        self.calls.append("down is done")
        return Result({"a": Outcome.CHANGED})

    def application(self) -> web.Application:
        signature = SimpleNamespace(signature=lambda: "")
        compiler = SimpleNamespace(templates=signature)
        app: Any = SimpleNamespace(lab=self.lab, down=self.down, compiler=compiler)

        async def end() -> None:
            self.calls.append("end")

        def note(word: str) -> Callable[[], None]:
            return lambda: self.calls.append(word)

        return Control(
            app, rest=note("rest"), wake=note("wake"), end=end, watch=None, metrics=Metrics()
        ).application()


def ask(application: web.Application, place: Path, text: str) -> bytes:
    """The answer."""

    async def talk() -> bytes:
        with listening(place) as listener:
            async with serving(application, [listener]):
                reader, writer = await asyncio.open_unix_connection(place / "s")
                writer.write(text.encode())
                answer = await reader.read()
                writer.close()
                return answer

    return asyncio.run(asyncio.wait_for(talk(), 10))


def ask_and_go(application: web.Application, place: Path, text: str) -> None:
    """One who goes at once, before it is even heard; the next one is answered as ever."""

    async def talk() -> None:
        with listening(place) as listener:
            async with serving(application, [listener]):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(place / "s"))
                    client.sendall(text.encode())
                reader, writer = await asyncio.open_unix_connection(place / "s")
                writer.write(
                    get("/none").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode()
                )
                assert b" 404 " in await reader.read()
                writer.close()

    asyncio.run(asyncio.wait_for(talk(), 10))


@pytest.mark.parametrize("path", ["/events", "/nothing", "/traces"])
def test_reader_who_is_gone_is_not_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.DEBUG, "aiohttp"):
        ask_and_go(House(tmp_path).application(), tmp_path, get(path))
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/api/events?last=10", "/api/status"])
def test_page_that_is_closed_is_not_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async def nothing() -> Any:
        return {}

    journal = House(tmp_path).lab.journal
    sources = Sources({}, journal, nothing, lambda: None, nothing)  # type: ignore[arg-type, return-value]
    application = web.Application()
    application.add_routes(Page(sources).routes())
    with caplog.at_level(logging.DEBUG, "aiohttp"):
        ask_and_go(application, tmp_path, get(path))
    assert caplog.records == []


def test_down_that_was_asked_for_is_done_though_nobody_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    with caplog.at_level(logging.DEBUG, "aiohttp"):
        ask_and_go(house.application(), tmp_path, DOWN)
    assert house.calls == ["rest", "down begins", "down is done", "end"]
    assert caplog.records == []


def test_supervisor_of_a_busy_lab_goes_on(tmp_path: Path) -> None:
    house = House(tmp_path, BusyError("lab gone is busy"))
    answer = ask(house.application(), tmp_path, DOWN)
    assert b"lab gone is busy" in answer
    assert house.calls == ["rest", "down begins", "wake"]


def test_supervisor_ends_after_a_down_that_broke(tmp_path: Path) -> None:
    house = House(tmp_path, OSError("broken"))
    ask(house.application(), tmp_path, DOWN)
    assert house.calls == ["rest", "down begins", "end"]
