"""How far bubblewrap's pid 1 is with its program, as the kernel's process table tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rig import eventually

from orchestrator.processes import procfs


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """Pid 1 of a sandbox, and a descriptor: what is written there lets its program begin."""
    held, release = os.pipe()
    words = ["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc"]
    words += ["--die-with-parent", "--block-fd", str(held), "sleep", "600"]
    waiter = subprocess.Popen(words, pass_fds=[held])
    os.close(held)
    try:
        eventually(lambda: bool(procfs.children(waiter.pid)))
        (init,) = procfs.children(waiter.pid)
        yield init, release
    finally:
        waiter.kill()
        waiter.wait()
        os.close(release)


def test_one_that_is_about_to_begin_is_not_done(held: tuple[int, int]) -> None:
    init, release = held
    assert procfs.children(init) == []
    assert not procfs.is_done(init)
    os.write(release, b"x")
    eventually(lambda: bool(procfs.children(init)))
    assert not procfs.is_done(init)


def test_one_whose_program_has_ended_is_done() -> None:
    code = "import subprocess, sys; subprocess.run(['true']); print(); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert procfs.is_done(process.pid)
        process.kill()
    assert procfs.is_done(process.pid)
