"""Which files of cgroups(7) version 2 are written, in a directory that looks like a hierarchy.

Version 1 and prlimit(2) are tried for real in tests/lab/test_sandbox.py.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orchestrator.processes import cgroup
from orchestrator.processes.cgroup import MEMORY, TASKS, Controller, Group, Limits


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a version 2 hierarchy: it has no cgroup.type."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("\n")
    found = {name: Controller(name, tmp_path, 2) for name in (MEMORY, TASKS)}
    monkeypatch.setattr(cgroup, "controllers", lambda: found)
    monkeypatch.setattr(
        cgroup,
        "lacking",
        lambda: {name: why for name, each in found.items() if (why := each.missing())},
    )
    return tmp_path


def group() -> Group:
    return Group("lab@host", "service:shop", Limits(memory_bytes=(64 << 20) + 1, tasks=20))


def test_controllers_are_handed_down_level_by_level(mount: Path) -> None:
    group().confine([4711], entered=True)  # entering is version 1's alone
    own = mount / "orchestrator/lab@host/service:shop"
    levels = (mount, mount / "orchestrator", mount / "orchestrator/lab@host")
    for level in levels:
        assert (level / "cgroup.subtree_control").read_text() in ("+memory", "+pids")
    assert not (own / "cgroup.subtree_control").exists()  # no group may have both: cgroups(7)
    assert (own / "memory.max").read_text() == str(64 << 20)  # whole pages
    assert (own / "pids.max").read_text() == "20"
    assert (own / "cgroup.procs").read_text() == "4711"


def test_hierarchy_that_a_container_shares_is_not_used(mount: Path) -> None:
    (mount / "cgroup.type").write_text("domain\n")  # not the real root: processes live in it
    assert all("cannot" in why for why in cgroup.lacking().values())
    assert len(cgroup.lacking()) == 2
    (mount / "cgroup.subtree_control").write_text("memory pids\n")  # it was delegated
    assert cgroup.lacking() == {}


def test_controller_that_is_not_delegated_is_named(mount: Path) -> None:
    (mount / "cgroup.controllers").write_text("pids\n")
    assert list(cgroup.lacking()) == [MEMORY]
    assert "not delegated" in cgroup.lacking()[MEMORY]


def test_group_that_another_lab_takes_away_just_then_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def busy(_: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(Path, "rmdir", busy)
    cgroup._remove(tmp_path / "gone")
