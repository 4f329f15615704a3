"""One file under many names."""

from __future__ import annotations

from pathlib import Path

from orchestrator.linux import OneFile


def test_every_name_is_of_one_file_with_the_whole_text(tmp_path: Path) -> None:
    names, paths = OneFile(), [tmp_path / name for name in "abc"]
    for path in paths:
        names.appear(path, "# lab\n")
    assert {path.read_text() for path in paths} == {"# lab\n"}
    assert len({path.stat().st_ino for path in paths}) == 1


def test_another_text_is_another_file(tmp_path: Path) -> None:
    names = OneFile()
    names.appear(tmp_path / "a", "# lab\n")
    names.appear(tmp_path / "b", "# other lab\n")
    assert (tmp_path / "a").read_text() == "# lab\n"
    assert (tmp_path / "b").read_text() == "# other lab\n"


def test_what_a_crash_left_under_the_name_is_replaced(tmp_path: Path) -> None:
    names = OneFile()
    names.appear(tmp_path / "a", "# lab\n")
    (tmp_path / "b").write_text("# la")
    names.appear(tmp_path / "b", "# lab\n")
    assert (tmp_path / "b").read_text() == "# lab\n"


def test_a_file_of_which_no_name_is_left_is_made_anew(tmp_path: Path) -> None:
    names = OneFile()
    for _ in range(2):
        names.appear(tmp_path / "a", "# lab\n")
        assert (tmp_path / "a").read_text() == "# lab\n"
        (tmp_path / "a").unlink()
