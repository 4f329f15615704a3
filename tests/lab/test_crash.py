"""A fixed sample of the crash sweep; `make sweep` tries every boundary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sweep import Place, place, try_point

# One of each kind: before and after a kernel object, rules, a process, a job, near the end.
SAMPLE = [
    *(("up", str(at)) for at in (2, 16, 25, 36)),
    *(("down", str(at)) for at in (6, 15)),
    ("change", "3"),
    ("heal", "6"),
    ("bridge", "2"),
    ("nat", "3"),
    ("data", "4"),
    ("edge", "2"),
    ("up", "0.15s"),  # in the middle of whatever it does then
    ("down", "0.05s"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("crash")) as found:
        yield found


@pytest.mark.parametrize(("command", "kill"), SAMPLE)
def test_kill_leaks_nothing_and_loses_nothing(here: Place, command: str, kill: str) -> None:
    crashed = try_point(here, command, kill)
    assert crashed or kill.endswith("s")  # a fast machine may be done by then
