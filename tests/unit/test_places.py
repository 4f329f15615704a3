"""What may lie where a lab keeps its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.lab import Lab
from orchestrator.places import check_places


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab("tiny", "", tmp_path / "state", tmp_path / "run")


def test_nothing_is_fine(lab: Lab) -> None:
    check_places(lab)


def test_directory_on_another_disk_is_fine(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    lab.state_root.mkdir()
    lab.state_dir.symlink_to(tmp_path / "elsewhere")
    check_places(lab)


def test_pipe_is_refused_and_the_mend_is_told(lab: Lab) -> None:
    lab.state_dir.mkdir(parents=True)
    os.mkfifo(lab.journal)
    with pytest.raises(UsageError, match="it is a pipe, not a file\n  mend: move it away"):
        check_places(lab)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_who_may_not_look_is_told_so_later(lab: Lab, tmp_path: Path) -> None:
    """By what they wanted to do: `run it with sudo`."""
    lab.state_dir.mkdir(parents=True)
    tmp_path.chmod(0o700)

    pid = os.fork()
    if not pid:
        try:
            os.setuid(65534)
            check_places(lab)
        except BaseException:  # noqa: BLE001 - a child of a test must not live on
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
