"""A supervisor that starts is met by the next command, however late it comes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import World, eventually, run

STACK = """
name: tiny
secrets: [word]
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1000"]
    files: {/run/word: {template: word}}
"""
# Python runs it before anything else; without an end of its own only where the test ends early.
LATE = """
import os, pathlib, sys, time
if "supervise" in sys.orig_argv:
    here = pathlib.Path(__file__).parent
    (here / "pid.new").write_text(str(os.getpid()))
    (here / "pid.new").rename(here / "pid")
    until_s = time.monotonic() + 60
    while not (here / "go").exists() and time.monotonic() < until_s:
        time.sleep(0.01)
"""


def is_gone(pid: int) -> bool:
    return run("ps", "-o", "stat=", "-p", str(pid)).out.strip() in ("", "Z", "Zs")


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("command", ["up", "rotate"])
def test_down_before_the_supervisor_is_there_does_not_bring_the_lab_back(
    world: World,
    write_stack: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    is_killed: bool,
) -> None:
    stack = write_stack(STACK)
    (tmp_path / "word").write_text("{{ secret('word') }}")
    if command == "rotate":
        world.orchestrator("up", "--supervise", stack=stack).ok()
    late = tmp_path / "late"
    late.mkdir()
    (late / "sitecustomize.py").write_text(LATE)
    monkeypatch.setenv("PYTHONPATH", str(late))
    words = ["up", "--supervise"] if command == "up" else ["secrets", "rotate"]
    first = world.start(*words, stack=stack)
    eventually((late / "pid").exists, within_s=60)
    pid = int((late / "pid").read_text())
    if is_killed:
        first.kill()
        first.wait()
    refused = world.orchestrator("down", stack=stack)
    assert refused.code == 4, refused.text
    assert is_killed or f"`{command}` with pid {first.pid}" in refused.err
    assert len(world.sandboxes()) > 0
    (late / "go").touch()
    said = first.communicate(timeout=60)[0]
    assert first.returncode == (-signal.SIGKILL if is_killed else 0), said
    assert "did not come up" not in said

    eventually(lambda: world.orchestrator("down", stack=stack).code == 0)
    assert is_gone(pid)
    assert world.sandboxes() == []
    assert not (world.run_dir / f"tiny@{world.host}").exists()
