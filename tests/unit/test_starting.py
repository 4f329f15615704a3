"""Who is cancelled while a thread starts a process waits for it: it uses his descriptors."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.errors import ProcessError
from orchestrator.events import Event, Noticed
from orchestrator.linux import in_own_thread, in_thread_to_its_end
from orchestrator.processes import child
from orchestrator.processes.prepared import Prepared, Store, draft, publish
from orchestrator.processes.service import Job, Program

TURNS = 20  # of the loop: far more than a cancel needs to come through


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@dataclass
class Held:
    """Work of a thread that goes on until it is let."""

    begun: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        self.begun.set()
        assert self.let.wait(60)


@pytest.mark.parametrize("run", [in_own_thread, in_thread_to_its_end])
@pytest.mark.parametrize("cancels", [1, 2])
async def test_cancel_comes_through_once_the_thread_has_ended(
    run: Callable[[Callable[[], None]], Awaitable[None]], cancels: int
) -> None:
    held = Held()
    task = asyncio.ensure_future(run(held.work))
    assert await asyncio.to_thread(held.begun.wait, 60)
    for _ in range(cancels):
        task.cancel()
        await turns()
    ended_early = task.done()
    held.let.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended_early


@dataclass
class FakeProgram:
    """A program whose start is held, and uses what it was given at its end."""

    node: str = "job:make"
    held: Held = field(default_factory=Held)
    told: list[Event] = field(default_factory=list)
    tellers: list[threading.Thread] = field(default_factory=list)
    found: list[bytes] = field(default_factory=list)
    looks: int = 0

    def running(self) -> list[object]:
        self.looks += 1
        return []

    def emit(self, event: Event) -> None:
        self.told.append(event)
        self.tellers.append(threading.current_thread())

    async def start(self, *, given: int | None, **_: Any) -> child.Child:
        def late() -> None:
            self.held.work()
            assert given is not None
            self.found.append(os.read(given, 100))

        await in_own_thread(late)
        raise ProcessError(self.node, "start", "it is none")


def job(program: FakeProgram, place: Path) -> Job:
    """Beside one that can be trusted, one that cannot."""
    store = Store(place / "cache")
    prepared = Prepared(program.node, store, ("true",), {"PATH": "/usr/bin"}, (), place)
    with store.writing() as directory:
        assert directory is not None
        descriptor = draft(directory)
        os.write(descriptor, b"whole")
        publish(directory, prepared.key, descriptor)
        os.close(descriptor)
    (store.directory / f"{prepared.key}.0").write_text("damaged")
    return Job(cast("Program", program), place / "made", place / "stamp", prepared)


async def test_job_cancelled_while_it_starts_keeps_its_input_open_and_stops_what_began(
    tmp_path: Path,
) -> None:
    program = FakeProgram()
    task = asyncio.ensure_future(job(program, tmp_path).ensure())
    assert await asyncio.to_thread(program.held.begun.wait, 60)
    looks = program.looks
    task.cancel()
    await turns()
    program.held.let.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert program.found == [b"whole"]
    assert program.looks > looks  # for what to stop


async def test_what_is_not_used_is_told_on_the_loop(tmp_path: Path) -> None:
    program = FakeProgram()
    program.held.let.set()
    with pytest.raises(ProcessError):
        await job(program, tmp_path).ensure()
    (noticed,) = program.told
    assert isinstance(noticed, Noticed)
    assert "is not used" in noticed.text
    assert program.tellers == [threading.current_thread()]
