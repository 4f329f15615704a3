"""What is seen of a service's processes, whichever come and go."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from orchestrator.processes.members import LIMITS_A_LOOK, Members
from orchestrator.processes.service import Program


@dataclass
class Group:
    """Files like a control group's."""

    directory: Path
    counts: bool

    def list_file(self) -> str:
        return str(self.directory / "cgroup.procs")

    def count_file(self) -> str | None:
        return str(self.directory / "pids.current") if self.counts else None

    def hold(self, *processes: subprocess.Popen[bytes]) -> None:
        (self.directory / "cgroup.procs").write_text("".join(f"{p.pid}\n" for p in processes))
        (self.directory / "pids.current").write_text(f"{len(processes)}\n")


@dataclass
class OfGroup:
    group: Group


@pytest.fixture(params=[True, False], ids=["counted", "not counted"])
def group(tmp_path: Path, request: pytest.FixtureRequest) -> Group:
    return Group(tmp_path, request.param)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    found = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield found
    for each in found:
        each.kill()
        each.wait()


def members(group: Group) -> Members:
    return Members(cast("Program", OfGroup(group)))


def stop(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped


def test_process_that_has_come_is_looked_at(
    group: Group, processes: list[subprocess.Popen[bytes]]
) -> None:
    first, second = processes
    group.hold(first)
    seen = members(group)
    assert not seen.look().is_stopped
    stop(second)
    assert not seen.look().is_stopped
    group.hold(first, second)
    assert seen.look().is_stopped


def test_process_that_has_taken_anothers_place_is_looked_at(
    group: Group, processes: list[subprocess.Popen[bytes]]
) -> None:
    first, second = processes
    group.hold(first)
    seen = members(group)
    assert not seen.look().is_stopped
    first.kill()
    first.wait()
    stop(second)
    group.hold(second)
    assert seen.look().is_stopped


def test_process_with_as_many_files_as_it_may_have_is_short(
    group: Group, processes: list[subprocess.Popen[bytes]]
) -> None:
    first, _ = processes
    group.hold(first)
    seen = members(group)
    assert not seen.look().is_short
    subprocess.run(["prlimit", f"--pid={first.pid}", "--nofile=3:3"], check=True)
    assert seen.look().is_short


def test_limit_of_a_process_in_anothers_place_is_read_again(
    group: Group, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Its files get the numbers that were those of the other's, which lives on elsewhere."""
    first, second = processes
    group.hold(first)
    seen = members(group)
    assert not seen.look().is_short
    group.hold(second)
    (group.directory / "pids.current").write_text("7\n")  # it has threads
    assert not seen.look().is_short
    subprocess.run(["prlimit", f"--pid={second.pid}", "--nofile=3:3"], check=True)
    assert seen.look().is_short


def test_limit_lowered_for_one_process_of_many_is_seen_in_a_few_looks(group: Group) -> None:
    """Whichever it is."""
    several = [subprocess.Popen(["sleep", "60"]) for _ in range(LIMITS_A_LOOK + 2)]
    try:
        group.hold(*several)
        for each in several:
            seen = members(group)
            assert not seen.look().is_short
            subprocess.run(["prlimit", f"--pid={each.pid}", "--nofile=3:1024"], check=True)
            assert any(seen.look().is_short for _ in several)
            subprocess.run(["prlimit", f"--pid={each.pid}", "--nofile=1024:1024"], check=True)
    finally:
        for each in several:
            each.kill()
            each.wait()
