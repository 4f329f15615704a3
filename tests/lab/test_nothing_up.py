"""Commands where nothing is up: what they refuse, and what they say is to be done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rig import World

PAIR = """
name: pair
networks: {br-pair: {address: 10.9.0.1/24}}
services:
  cache:
    networks: {br-pair: 10.9.0.20}
    command: [python, -m, http.server, "6379"]
    readiness: {tcp: 6379}
    layer: data
  web:
    networks: {br-pair: 10.9.0.10}
    command: [python, -m, http.server, "80"]
    needs: [cache]
    readiness: {tcp: 80}
    layer: edge
"""


@pytest.fixture
def stack(write_stack: Callable[..., Path]) -> Path:
    return write_stack(PAIR)


@pytest.mark.parametrize("words", [[], ["edge"], ["web"], ["bridge"], ["--dry-run"]])
def test_replay_of_nothing_refuses(world: World, stack: Path, words: list[str]) -> None:
    before = world.fingerprint()
    for _ in ("before the first up", "after a down"):
        done = world.orchestrator("replay", *words, stack=stack)
        assert (done.code, "nothing is up" in done.err) == (2, True), done.text
        assert "mend: `orchestrator up --host-netns" in done.err
        assert world.fingerprint() == before
        world.orchestrator("up", stack=stack).ok()
        world.orchestrator("down", stack=stack).ok()


def test_replay_rebuilds_what_a_reboot_took(world: World, stack: Path) -> None:
    world.orchestrator("up", stack=stack).ok()
    journal = world.state / f"pair@{world.host}" / "journal.jsonl"
    kept = journal.read_bytes()
    world.orchestrator("down", stack=stack).ok()
    journal.write_bytes(kept)  # as after a reboot: nobody took it down, and nothing is there
    shutil.rmtree(world.run_dir, ignore_errors=True)
    world.orchestrator("replay", stack=stack).ok()
    assert set(world.node_states(stack=stack).values()) == {"ready"}


def test_why_has_one_mend(world: World, stack: Path) -> None:
    done = world.orchestrator("why", "web", stack=stack)
    assert done.code == 1
    assert [line.split()[:3] for line in done.text.splitlines() if "mend:" in line] == [
        ["mend:", "orchestrator", "up"]
    ]
    assert "orchestrator replay" not in done.text


def test_down_says_what_became_of_the_data(world: World, stack: Path) -> None:
    place = world.state / f"pair@{world.host}"
    none = world.orchestrator("down", "--volumes", stack=stack).ok().out
    assert "\nnothing was up (" in none
    assert none.endswith("; there was no data to delete\n")
    world.orchestrator("up", stack=stack).ok()
    assert world.orchestrator("down", stack=stack).ok().out.endswith(f"; data stays in {place}\n")
    gone = world.orchestrator("down", "--volumes", stack=stack).ok().out
    assert "\nnothing was up (" in gone
    assert gone.endswith(f"; deleted data, secrets, logs and journal in {place}\n")
    assert not place.exists()


def test_verify_says_once_that_nothing_is_up(world: World, stack: Path) -> None:
    done = world.orchestrator("verify", stack=stack)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert done.err.startswith("nothing is up: `orchestrator up --host-netns")
    told = world.orchestrator("verify", "--json", stack=stack)
    assert told.code == 1
    rows = told.json_of_failure()["rows"]
    assert not any(row["passed"] for row in rows if row["group"] == "ping")


@pytest.mark.parametrize("options", [[], ["--volumes"]])
def test_down_of_nothing_leaves_no_directory(
    world: World, stack: Path, options: list[str], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    elsewhere = replace(world, state=new / "state", run_dir=new / "run", cache=new / "cache")
    elsewhere.orchestrator("down", *options, stack=stack).ok()
    assert not new.exists()
    world.state.mkdir()  # of who named it
    world.orchestrator("down", *options, stack=stack).ok()
    assert list(world.state.iterdir()) == []


def test_down_of_a_host_that_is_gone_says_what_it_deleted(world: World, stack: Path) -> None:
    words = ["down", "--host-netns", f"{world.host}-none"]
    place = world.state / f"pair@{world.host}-none"
    place.mkdir(parents=True)
    first = world.orchestrator(*words, "--volumes", stack=stack).ok().out
    assert first == f"nothing is up; deleted data, secrets, logs and journal in {place}\n"
    second = world.orchestrator(*words, "--volumes", stack=stack).ok().out
    assert second == "nothing is up; there was no data to delete\n"
    as_json = world.orchestrator(*words, "--json", stack=stack).ok().out
    assert [json.loads(line) for line in as_json.splitlines()] == []
