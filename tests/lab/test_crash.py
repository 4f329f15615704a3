"""A fixed sample of the crash sweep; `make sweep` tries every boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sweep import STACK, Decoys, try_point

if TYPE_CHECKING:
    from rig import World

# One of each kind: before and after a kernel object, rules, a process, a job, near the end.
SAMPLE = [
    *(("up", at) for at in (2, 16, 25, 36)),
    *(("down", at) for at in (6, 15)),
    ("bridge", 2),
    ("nat", 3),
    ("data", 4),
    ("edge", 2),
]


@pytest.fixture
def decoys(world: World) -> Iterator[Decoys]:
    made = Decoys.set_up(world)
    yield made
    made.remove()


@pytest.mark.parametrize(("command", "at"), SAMPLE)
def test_kill_at_a_boundary_leaks_nothing_and_loses_nothing(
    world: World, write_stack: Callable[..., Path], decoys: Decoys, command: str, at: int
) -> None:
    assert try_point(world, write_stack(STACK), decoys, command, at)
