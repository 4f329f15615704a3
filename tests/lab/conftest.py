"""Worlds for tests in namespaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import under_supervision
from names import next_name
from rig import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs root, and says so instead of failing."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("lab")
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh world; whatever a test leaves up in it is taken down."""
    tmp_path.chmod(0o755)  # the stack's directory must be readable for its services
    built = World.build(next_name(), tmp_path)
    try:
        yield built
    finally:
        for stack in tmp_path.glob("*.yaml"):
            built.orchestrator("down", "--volumes", stack=stack)
        built.remove()


@pytest.fixture
def write_stack(tmp_path: Path) -> Callable[..., Path]:
    """Writes a stack file into the test's directory."""

    def write(text: str, name: str = "stack.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop on a host with a FORWARD policy of DROP and other people's things."""
    world = World.build(next_name(), tmp_path_factory.mktemp("shop"))
    before = world.fingerprint()
    try:
        world.orchestrator("prepare").ok()
        world.orchestrator("up").ok()
        yield world
        world.orchestrator("down").ok()
        after = world.fingerprint()
        assert after == before
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop with its supervisor."""
    with under_supervision(World.build(next_name(), tmp_path_factory.mktemp("watched"))) as world:
        yield world


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop with its supervisor, for faults."""
    with under_supervision(
        World.build(next_name(), tmp_path_factory.mktemp("supervised"))
    ) as world:
        yield world
