"""A damaged journal costs the lines that are damaged: every command goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from names import next_name
from rig import World, eventually

STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1000"]
  two:
    layer: edge
    networks: {br-app: 10.0.0.20}
    command: [sleep, "1000"]
    needs: [one]
supervision: {start_limit: 1000}
"""

JUNK = "junk"
Damage = Callable[[bytes], bytes]


def in_the_middle(junk: bytes, *, instead: int = 0) -> Damage:
    """Junk in the middle of a line in the middle of the file."""

    def damage(text: bytes) -> bytes:
        at = text.index(b"\n", len(text) // 2) + 20
        return text[:at] + junk + text[at + instead :]

    return damage


DAMAGES: dict[str, Damage] = {
    "empty": lambda _: b"",
    "cut at a line": lambda text: text[: text.index(b"\n", len(text) // 2) + 1],
    "torn in a line": lambda text: text[:-25],
    "random bytes": in_the_middle(random.Random(7).randbytes(5000)),
    "zeros": in_the_middle(bytes(4096), instead=1000),
    "a tail of zeros": lambda text: text + bytes(4096),
    "no UTF-8": in_the_middle(b"\xff\xfe\xc3\x28", instead=4),
    "a huge line": in_the_middle(b'"' + b"x" * 3_000_000),
    "deep nesting": in_the_middle(b"\n" + b"[" * 200_000 + b"\n"),
    "JSON of other shapes": in_the_middle(
        b'\n[]\n7\n"x"\n{"event":"StepStarted"}\n{"event":[]}\n'
        b'{"seq":1,"run":"junk","wall_ns":1,"mono_ns":1,"event":"StepStarted","node":"n",'
        b'"action":[],"attempt":1}\n'
        b'{"seq":1,"run":"junk","wall_ns":1e400,"mono_ns":1,"event":"CancelRequested","signal":"x"}\n'
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    directory = tmp_path_factory.mktemp("damage")
    directory.chmod(0o755)
    stack = directory / "stack.yaml"
    stack.write_text(STACK)
    world = World.build(next_name(), directory)
    try:
        yield world, stack
    finally:
        world.orchestrator("down", "--volumes", stack=stack)
        world.remove()


def numbers(text: bytes) -> list[int]:
    """Sequence numbers of the whole records, read without our own code."""
    found = []
    for line in text.split(b"\n")[:-1]:
        try:
            data = json.loads(line)
            if data["run"] != JUNK:
                found.append(data["seq"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def healed(world: World, stack: Path) -> bool:
    rows = world.orchestrator("status", "--json", stack=stack).json()["nodes"]
    return {row["state"] for row in rows} == {"ready"}


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_command_works_and_history_goes_on(
    lab: tuple[World, Path], damage: str, supervised: bool
) -> None:
    world, stack = lab
    world.orchestrator("down", "--volumes", stack=stack).ok()
    world.orchestrator("up", *(["--supervise"] if supervised else []), stack=stack).ok()
    journal = world.state / f"tiny@{world.host}" / "journal.jsonl"
    before = journal.read_bytes()
    damaged = DAMAGES[damage](before)
    journal.write_bytes(damaged)  # in place: whoever has it open writes to the same file

    if supervised:
        world.kill("one")
        eventually(lambda: healed(world, stack), within_s=60)
    else:
        world.orchestrator("up", stack=stack).ok()
        world.orchestrator("replay", "edge", stack=stack).ok()
    told = world.orchestrator("events", "--json", stack=stack).ok()
    world.orchestrator("down", stack=stack).ok()
    after = journal.read_bytes()

    assert after.startswith(damaged)  # nothing is ever rewritten
    kept, grown = numbers(damaged), numbers(after[len(damaged) :])
    assert grown
    assert grown == list(range(grown[0], grown[0] + len(grown)))
    assert grown[0] == max(kept, default=-1) + 1
    shown = [json.loads(line)["seq"] for line in told.out.splitlines()]
    assert shown[: len(kept)] == kept
    if damage not in ("empty", "cut at a line"):
        assert "damaged lines were left out" in told.err


def test_journal_taken_away_while_a_run_writes_it_begins_again(
    world: World, write_stack: Callable[..., Path]
) -> None:
    server = "sleep 1; exec python -m http.server 80"
    slow = STACK.replace('command: [sleep, "1000"]', f'command: [sh, -c, "{server}"]')
    stack = write_stack(slow.replace("command: [sh", "readiness: {tcp: 80}\n    command: [sh"))
    journal = world.state / f"tiny@{world.host}" / "journal.jsonl"
    process = world.start("up", stack=stack)
    try:
        eventually(lambda: journal.exists() and b"StepProvisioned" in journal.read_bytes())
        journal.unlink()
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"RunFinished" in journal.read_bytes()
    world.orchestrator("down", stack=stack).ok()
