"""Which sandboxes are looked for while a lab is held."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.processes import procfs
from orchestrator.processes.procfs import Sandbox

OURS, THEIRS = "test:lab", "test:other"


class Table:
    """A process table in place of the kernel's; it counts who walks it."""

    def __init__(self) -> None:
        self.marks: set[str] = set()
        self.walks = 0

    def walk(self, only: str = "") -> dict[str, list[Sandbox]]:
        self.walks += 1
        return {mark: [Sandbox(2, 1, True, "digest", 1)] for mark in self.marks if only in mark}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    found = Table()
    monkeypatch.setattr(procfs, "_all_sandboxes", found.walk)
    return found


def test_what_did_not_run_is_looked_for_once_it_starts(table: Table) -> None:
    with procfs.held(OURS):
        assert table.walks == 0  # a network alone has no processes to ask for
        assert procfs.sandboxes(f"{OURS}/a") == []
        assert procfs.sandboxes(f"{OURS}/b") == []
        assert table.walks == 1
        procfs.starts(f"{OURS}/a")
        assert procfs.sandboxes(f"{OURS}/a") == []  # not there yet
        table.marks.add(f"{OURS}/a")
        assert procfs.sandboxes(f"{OURS}/a")
        assert procfs.sandboxes(f"{OURS}/b") == []


def test_what_ran_is_looked_for_each_time(table: Table) -> None:
    table.marks.add(f"{OURS}/a")
    with procfs.held(OURS):
        assert procfs.sandboxes(f"{OURS}/a")
        table.marks.clear()
        assert procfs.sandboxes(f"{OURS}/a") == []


def test_other_labs_and_other_times_are_not_concerned(table: Table) -> None:
    with procfs.held(OURS):
        table.marks |= {f"{OURS}/a", f"{THEIRS}/a"}
        assert procfs.sandboxes(f"{THEIRS}/a")
    assert procfs.sandboxes(f"{OURS}/a")


async def test_steps_within_and_tasks_outside(table: Table) -> None:
    """A step that starts one tells all steps of the run; who is not in it looks for itself."""
    go = asyncio.Event()

    async def outside() -> list[Sandbox]:
        await go.wait()
        return procfs.sandboxes(f"{OURS}/b")

    async def step() -> None:
        procfs.starts(f"{OURS}/a")
        table.marks |= {f"{OURS}/a", f"{OURS}/b"}

    other = asyncio.create_task(outside())
    with procfs.held(OURS):
        await asyncio.create_task(step())
        assert procfs.sandboxes(f"{OURS}/a")
        go.set()
        assert await other
