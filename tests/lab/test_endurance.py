"""Three cycles in CI; `make endurance` does fifty with the shop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from endurance import endure
from sweep import STACK

if TYPE_CHECKING:
    from rig import World


def test_cycles_leave_nothing_and_grow_nothing_but_the_journal(
    world: World, write_stack: Callable[..., Path]
) -> None:
    found, wrong = endure(replace(world, stack=write_stack(STACK)), 3)
    assert wrong == []
    growth = [late.journal_bytes - early.journal_bytes for early, late in itertools.pairwise(found)]
    assert all(0 < bytes_ < 100_000 for bytes_ in growth)
