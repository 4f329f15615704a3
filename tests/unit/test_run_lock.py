"""Who finds a lab busy is told by whom: never by nobody, nor by one of before."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import lock as run_lock
from orchestrator import resident
from orchestrator.errors import BusyError
from orchestrator.lab import Lab
from orchestrator.lock import is_held, lock, refuse_if_busy
from orchestrator.processes import procfs


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    found = Lab("tiny", "", tmp_path / "state", tmp_path / "run")
    found.run_dir.mkdir(parents=True)
    return found


def name(command: str, pid: int, **more: float) -> str:
    seen = procfs.stat(pid)
    ticks = seen.start_ticks if seen else 1
    return json.dumps(
        {"pid": pid, "start_ticks": ticks, "command": command, "since_s": time.monotonic(), **more}
    )


def dead() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


# What the file says while its holder has not written its name yet.
BEFORE = {
    "nothing": lambda: "",
    "half of it": lambda: '{"pid": 1',
    "one who let go": lambda: name("heal", os.getpid(), until_s=1.0),
    "one who was killed": lambda: name("down", dead()),
}


@contextlib.contextmanager
def held(lab: Lab, text: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """By another one, who has got no further than that."""
    lab.lock_file.write_text(text)
    descriptor = os.open(lab.lock_file, os.O_RDWR)
    fcntl.flock(descriptor, how)
    try:
        yield
    finally:
        os.close(descriptor)


async def taken(lab: Lab, patience_s: float = 0.0) -> str:
    async with lock(lab, "up", patience_s=patience_s):
        return lab.lock_file.read_text()


def meanwhile(lab: Lab, act: Callable[[], object], patience_s: float = 0.0) -> str:
    """Of one who comes, what the file says when it is its own."""

    async def both() -> str:
        comes = asyncio.ensure_future(taken(lab, patience_s))
        await asyncio.sleep(0.05)
        assert not comes.done()
        act()
        return await asyncio.wait_for(comes, 10)

    return asyncio.run(both())


@pytest.mark.parametrize("before", BEFORE)
def test_who_has_just_taken_it_is_named(lab: Lab, before: str) -> None:
    new = name("replay", os.getppid())
    with held(lab, BEFORE[before]()), pytest.raises(BusyError, match=f"`replay` .*{os.getppid()}"):
        meanwhile(lab, lambda: lab.lock_file.write_text(new))


@pytest.mark.parametrize("before", BEFORE)
def test_who_only_asks_hears_the_new_name_too(
    lab: Lab, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = name("replay", os.getppid())
    monkeypatch.setattr("time.sleep", lambda _: lab.lock_file.write_text(new))
    with held(lab, BEFORE[before]()), pytest.raises(BusyError, match=f"`replay` .*{os.getppid()}"):
        refuse_if_busy(lab)


@pytest.mark.parametrize("how", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_who_lets_go_before_its_name_is_there_kept_nobody_away(lab: Lab, how: int) -> None:
    """As one who looks whether it is held has it for an instant."""
    with contextlib.ExitStack() as other:
        other.enter_context(held(lab, BEFORE["one who let go"](), how))
        assert json.loads(meanwhile(lab, other.close))["command"] == "up"


def test_healing_is_waited_for_and_no_longer(lab: Lab) -> None:
    with contextlib.ExitStack() as other:
        other.enter_context(held(lab, name("heal", os.getppid())))
        refuse_if_busy(lab)
        assert json.loads(meanwhile(lab, other.close, patience_s=10))["command"] == "up"
    with held(lab, name("heal", os.getppid())), pytest.raises(BusyError, match="`heal`"):
        asyncio.run(taken(lab))


def test_healing_of_a_supervisor_that_is_stopped_is_not_waited_for(lab: Lab) -> None:
    """However long the patience."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped
            with held(lab, name("heal", process.pid)):
                told = advice(lambda: taken(lab, patience_s=3600))
        finally:
            process.kill()
    assert f"`heal` with pid {process.pid}, which is stopped (state T)" in told
    assert f"mend: `kill -CONT {process.pid}` lets it go on" in told


def test_holder_without_a_name_is_another_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "UNNAMED_S", 0.01)
    with held(lab, ""):
        asks: list[Callable[[], object]] = [
            lambda: asyncio.run(taken(lab)),
            lambda: refuse_if_busy(lab),
        ]
        for ask in asks:
            with pytest.raises(BusyError, match="busy: another run"):
                ask()


def test_who_let_go_is_no_holder(lab: Lab) -> None:
    asyncio.run(taken(lab))
    assert not is_held(lab)
    assert run_lock._holder(lab.lock_file) == {}


def advice(work: Callable[[], Awaitable[object]]) -> str:
    async def run() -> None:
        await work()

    with pytest.raises(BusyError) as caught:
        asyncio.run(run())
    return str(caught.value)


def test_only_a_persons_command_is_to_be_stopped_with_ctrl_c(lab: Lab) -> None:
    async def second() -> None:
        async with lock(lab, "replay"):
            await taken(lab)

    assert f"`replay` with pid {os.getpid()}, for 0 s" in advice(second)
    assert "Ctrl-C" in advice(second)
    with resident.hold(lab, "digest"):
        assert f"`replay` with pid {os.getpid()}, its supervisor, for 0 s" in advice(second)
        assert "Ctrl-C" not in advice(second)
