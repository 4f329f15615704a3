"""A service's first moments: how far bubblewrap's pid 1 is with its program, as the kernel's
process table tells, and who is served first meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import World, eventually

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


# `first` is ready a moment after /stack/go is there.
AWAITED = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  first:
    networks: {br-app: 10.0.0.10}
    command:
      [sh, -c, "until [ -e /stack/go ]; do sleep 0.1; done; exec python -m http.server 80"]
    readiness: {tcp: 80}
  other:
    networks: {br-app: 10.0.0.20}
    command: [sh, -c, "until [ -e /stack/go ]; do sleep 0.1; done; exec python -m http.server 80"]
    readiness: {tcp: 80}
  last:
    networks: {br-app: 10.0.0.30}
    command: [sleep, "1000"]
    needs: [first]
"""


def niceness(world: World, service: str) -> set[str]:
    """Of the sessions of its processes: sched(7)."""
    pids = world.sandbox_pids(service)
    return {Path(f"/proc/{pid}/autogroup").read_text().split()[-1] for pid in pids}


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by sessions"
)
def test_who_is_awaited_goes_ahead_until_it_is_ready(
    world: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(AWAITED)
    up = world.start("up", stack=stack)
    eventually(lambda: niceness(world, "first") == {"-5"})
    eventually(lambda: bool(world.sandbox_pids("other")))
    assert niceness(world, "other") == {"0"}
    stack.with_name("go").touch()
    out, _ = up.communicate(timeout=30)
    assert up.returncode == 0, out
    assert niceness(world, "first") == niceness(world, "other") == {"0"}
