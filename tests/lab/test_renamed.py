"""What is ours stays ours under another name: it is healed, and `down` takes it away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from rig import World, eventually

STACK = """
name: tiny
networks: {br-app: {address: 10.0.0.1/16}}
services:
  one:
    networks: {br-app: 10.0.0.10}
    command: [sleep, "1000"]
    ports: ["8080:80"]
supervision: {start_limit: 1000}
"""
Rename = Callable[[World], object]


@pytest.fixture
def stack(world: World, tmp_path: Path) -> Iterator[Path]:
    """Taken down with whatever was done to it; the host is as it was before."""
    path = tmp_path / "stack.yaml"
    path.write_text(STACK)
    before = world.fingerprint()
    yield path
    world.orchestrator("down", "--volumes", stack=path).ok()
    assert world.fingerprint() == before
    assert "nothing was up" in world.orchestrator("down", "--volumes", stack=path).out


def bridge(world: World) -> None:
    world.on_host("ip", "link", "set", "br-app", "down").ok()
    world.on_host("ip", "link", "set", "br-app", "name", "br-x").ok()


def outer_end(world: World) -> None:
    world.on_host("ip", "link", "set", "veth-one-br", "down").ok()
    world.on_host("ip", "link", "set", "veth-one-br", "name", "one-x").ok()


def inner_end(world: World) -> None:
    world.inside("one", "ip", "link", "set", "veth-one", "down").ok()
    world.inside("one", "ip", "link", "set", "veth-one", "name", "one-y").ok()


def both_ends(world: World) -> None:
    outer_end(world)
    inner_end(world)


def chain(table: str, end: str) -> Rename:
    def act(world: World) -> None:
        listed = world.on_host("iptables-save", "-t", table).ok().out
        (name,) = re.findall(rf"^:(ORC-\S+-{end}) ", listed, re.MULTILINE)
        world.on_host("iptables", "-t", table, "-E", name, "FOO").ok()

    return act


def inner_chain(world: World) -> None:
    listed = world.inside("one", "iptables-save").ok().out
    (name,) = re.findall(r"^:(ORC-\S+-IN) ", listed, re.MULTILINE)
    world.inside("one", "iptables", "-E", name, "FOO").ok()


CHAINS = [chain("nat", "PRE"), chain("filter", "FWD"), chain("raw", "RAW"), inner_chain]
LINKS = [bridge, outer_end, inner_end, both_ends]


def left(world: World) -> str:
    """Other names that something of ours has."""
    shown = "".join(
        place(*words).out
        for place in (world.on_host, partial(world.inside, "one"))
        for words in (("ip", "-o", "link"), ("iptables-save",))
    )
    return " ".join(name for name in ("br-x", "one-x", "one-y", "FOO") if name in shown)


@pytest.mark.parametrize("rename", [*LINKS, *CHAINS])
def test_what_is_renamed_is_taken_away_by_down(world: World, stack: Path, rename: Rename) -> None:
    world.orchestrator("up", stack=stack).ok()
    rename(world)


@pytest.mark.parametrize("rename", [*LINKS, *CHAINS])
def test_what_is_renamed_is_brought_back_by_up(world: World, stack: Path, rename: Rename) -> None:
    world.orchestrator("up", stack=stack).ok()
    rename(world)
    assert set(world.node_states(stack=stack).values()) != {"ready"}
    world.orchestrator("up", stack=stack).ok()
    assert left(world) == ""
    assert set(world.node_states(stack=stack).values()) == {"ready"}


@pytest.mark.parametrize("rename", [bridge, both_ends, *CHAINS])
def test_supervisor_leaves_nothing_renamed_beside_the_new_one(
    world: World, stack: Path, rename: Rename
) -> None:
    world.orchestrator("up", "--supervise", stack=stack).ok()
    rename(world)
    eventually(lambda: left(world) == "")
    eventually(lambda: set(world.node_states(stack=stack).values()) == {"ready"})
