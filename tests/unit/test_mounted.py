"""What a sandbox has mounted: here this process's own root, which has all that is outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.processes.mounted import lost


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "x.conf"
    found.write_text("one")
    return found


def test_what_is_mounted_is_not_lost(file: Path) -> None:
    inside = str(file.parent)
    assert lost(os.getpid(), Path("/etc"), {str(file): file}, {inside: file.parent}) == ""


def test_deleted_or_replaced_file_is_lost(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "y.conf"
    assert lost(os.getpid(), Path("/etc"), {str(file): other}, {}) == f"{other} was deleted"
    other.write_text("one")
    assert lost(os.getpid(), Path("/etc"), {str(file): other}, {}) == f"{other} was deleted"


def test_file_below_a_data_directory_is_hidden_by_it_from_the_beginning(file: Path) -> None:
    data = {str(file.parent): file.parent}
    assert lost(os.getpid(), Path("/etc"), {f"{file}.not-there": file}, data) == ""


def test_what_has_ended_has_lost_nothing(file: Path) -> None:
    assert lost(1 << 22, Path("/etc"), {str(file): file}, {}) == ""
