"""Commands at the same time: one works, the other waits or is told who works."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from names import next_name
from rig import World, eventually, names_of_namespaces, run

Write = Callable[..., Path]

# A second until it is ready: long enough to meet it while it starts.
SLOW = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  slow:
    networks: {br-app: 10.0.0.10}
    command: [sh, -c, "sleep 1; exec python -m http.server 80"]
    readiness: {tcp: 80}
  quick:
    layer: edge
    networks: {br-app: 10.0.0.20}
    command: [sleep, "1000"]
"""


def supervisor(world: World, stack: Path) -> int | None:
    found = world.orchestrator("status", "--json", stack=stack).json()["supervisor"]
    return None if found is None else int(found)


def healing(world: World) -> bool:
    """Whether a healing has begun to start the service and is not done yet."""
    text = (world.state / f"tiny@{world.host}" / "journal.jsonl").read_text()
    return "StepProvisioned" in text.rpartition('"command":"heal"')[2]


@pytest.mark.parametrize("number", range(3))
def test_two_ups_at_once_on_a_host_that_is_not_there_yet(
    tmp_path: Path, write_stack: Write, number: int
) -> None:
    tmp_path.chmod(0o755)
    stack = write_stack(SLOW)
    world = World(next_name(), "", tmp_path / "state", tmp_path / "run")
    try:
        both = [world.start("up", stack=stack) for _ in range(2)]
        outs = [process.communicate(timeout=60)[0] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes in ([0, 4], [0, 0]), outs
        assert set(world.node_states(stack=stack).values()) == {"ready"}
    finally:
        world.orchestrator("down", "--volumes", stack=stack).ok()
    assert [name for name in names_of_namespaces() if name.startswith(world.host)] == []
    assert world.sandboxes() == []
    assert not world.run_dir.exists()


def test_down_during_up_is_refused_and_leaves_the_supervisor(
    world: World, write_stack: Write
) -> None:
    stack = write_stack(SLOW.replace("sleep 1;", "until [ -e /stack/go ]; do sleep 0.1; done;"))
    go = stack.with_name("go")
    go.touch()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    present = supervisor(world, stack)
    go.unlink()
    replay = world.start("replay", "slow", stack=stack)
    assert replay.stdout is not None
    for line in replay.stdout:
        if "replay: " in line:
            break
    for command in ("down", "up", "replay"):
        second = (
            world.orchestrator(command, "--supervise", stack=stack)
            if command == "up"
            else (
                world.orchestrator(
                    command, *(["quick"] if command == "replay" else []), stack=stack
                )
            )
        )
        assert second.code == 4, second.text
        assert f"`replay` with pid {present}, its supervisor" in second.err  # it does it for us
        assert "Ctrl-C" not in second.err  # which ends a person's command, not the supervisor's
    go.touch()
    replay.communicate(timeout=60)
    assert replay.returncode == 0
    assert supervisor(world, stack) == present
    assert set(world.node_states(stack=stack).values()) == {"ready"}


@pytest.mark.parametrize("ends", ["replay", "supervisor"])
def test_replay_of_the_supervisor_that_is_interrupted(
    world: World, write_stack: Write, ends: str
) -> None:
    """Without who watches it goes on; without the supervisor it says what to do."""
    stack = write_stack(SLOW.replace("sleep 1;", "until [ -e /stack/go ]; do sleep 0.1; done;"))
    go = stack.with_name("go")
    go.touch()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    present = supervisor(world, stack)
    assert present is not None
    go.unlink()
    replay = world.start("replay", "slow", stack=stack)
    assert replay.stdout is not None
    assert any("replay: " in line for line in replay.stdout)
    if ends == "replay":
        replay.send_signal(signal.SIGINT)
    else:
        os.kill(present, signal.SIGKILL)
    said = replay.communicate(timeout=60)[0]
    go.touch()
    if ends == "replay":
        assert (replay.returncode, said) == (130, "interrupted: the supervisor goes on with it\n")
        eventually(lambda: set(world.node_states(stack=stack).values()) == {"ready"})
    else:
        assert replay.returncode == 1
        assert "the supervisor has gone" in said
        world.orchestrator("replay", stack=stack).ok()
        assert set(world.node_states(stack=stack).values()) == {"ready"}


def test_replay_during_up_is_refused(world: World, write_stack: Write) -> None:
    """What it would call broken is only not there yet."""
    stack = write_stack(SLOW.replace("sleep 1;", "until [ -e /stack/go ]; do sleep 0.1; done;"))
    up = world.start("up", stack=stack)
    assert up.stdout is not None
    assert any("service:quick: ready" in line for line in up.stdout)
    for words in (["quick"], ["slow"], []):
        second = world.orchestrator("replay", *words, stack=stack)
        assert second.code == 4, second.text
        assert f"`up` with pid {up.pid}" in second.err
    stack.with_name("go").touch()
    up.communicate(timeout=60)
    assert up.returncode == 0


def test_refused_command_leaves_the_supervisor(world: World, write_stack: Write) -> None:
    text = SLOW.replace("networks:", "secrets: [word, other]\nnetworks:", 1)
    text = text.replace("layer: edge", "layer: edge\n    secrets: [word]")
    stack = write_stack(text)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    present = supervisor(world, stack)
    assert present is not None
    assert world.orchestrator("secrets", "rotate", "nonsense", stack=stack).code == 2
    assert supervisor(world, stack) == present

    foreign = "{br-other: {address: 10.77.0.1/24}, br-app"  # the host has that network
    refused = world.orchestrator(
        "up", "--supervise", stack=write_stack(text.replace("{br-app", foreign, 1))
    )
    assert refused.code == 3, refused.text
    assert supervisor(world, stack) == present

    write_stack(text)
    world.orchestrator("secrets", "rotate", "word", stack=stack).ok()
    assert supervisor(world, stack) not in (None, present)


@pytest.mark.parametrize("command", ["up", "replay", "down"])
def test_command_during_a_healing_waits_for_it_or_ends_it(
    world: World, write_stack: Write, command: str
) -> None:
    stack = write_stack(SLOW)
    before = world.fingerprint()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    world.kill("slow")
    eventually(lambda: healing(world))
    words = {"up": ["--supervise"], "replay": ["quick"], "down": []}[command]
    world.orchestrator(command, *words, stack=stack).ok()
    if command != "down":
        assert supervisor(world, stack) is not None
        eventually(lambda: set(world.node_states(stack=stack).values()) == {"ready"})
        world.orchestrator("down", stack=stack).ok()
    assert world.fingerprint() == before


def test_two_downs_at_once_leave_nothing(world: World, write_stack: Write) -> None:
    stack = write_stack(SLOW)
    before = world.fingerprint()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    both = [world.start("down", stack=stack) for _ in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 4]), outs
    assert world.fingerprint() == before


def test_supervisor_asked_to_end_during_a_healing_ends(world: World, write_stack: Write) -> None:
    stack = write_stack(SLOW)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    pid = supervisor(world, stack)
    assert pid is not None
    world.kill("slow")
    eventually(lambda: healing(world))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: supervisor(world, stack) is None, within_s=60)
    world.orchestrator("up", "--supervise", stack=stack).ok()
    assert set(world.node_states(stack=stack).values()) == {"ready"}


def test_commands_of_another_clock_work_on_the_same_lab(world: World, write_stack: Write) -> None:
    """A process in a time namespace: its monotonic clock is ten days ahead."""
    stack = write_stack(SLOW)
    before = world.fingerprint()
    world.orchestrator("up", "--supervise", stack=stack).ok()
    ahead = ["unshare", "--time", "--fork", "--monotonic=864000", "--boottime=864000"]

    def elsewhere(*words: str) -> str:
        return run(*ahead, *world.words(*words, stack=stack)).ok().out

    rows = json.loads(elsewhere("status", "--json"))["nodes"]
    assert {row["state"] for row in rows} == {"ready"}
    assert all(row["uptime_s"] < 1000 for row in rows if row["uptime_s"] is not None)
    assert "already up" in elsewhere("up", "--supervise")
    elsewhere("replay", "quick")
    world.kill("slow")
    eventually(lambda: set(world.node_states(stack=stack).values()) == {"ready"}, within_s=60)
    elsewhere("down")
    assert world.fingerprint() == before
