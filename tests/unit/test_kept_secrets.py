"""Secrets in their directory, their copies, and rotations that are told by what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import ResourceError
from orchestrator.processes.secrets import Phase, Rotation, Secrets

NAMES = ("one", "two", "three")


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    made = Secrets(tmp_path / "secrets", tmp_path / "copies")
    assert made.ensure(NAMES, is_new=True) == []
    return made


def texts(secrets: Secrets) -> dict[str, str]:
    return {name: secrets.get(name) for name in NAMES}


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


def test_what_was_deleted_comes_back_and_nothing_else_is_made(secrets: Secrets) -> None:
    before = texts(secrets)
    (secrets.directory / "two").unlink()
    secrets.bring_back()
    assert texts(secrets) == before
    shutil.rmtree(secrets.directory)
    assert secrets.ensure(NAMES, is_new=True) == []
    assert (texts(secrets), secrets.rotation()) == (before, None)
    assert names(secrets.directory) == names(secrets.copies) == {*NAMES}


def test_what_is_known_is_the_file_or_else_its_copy(secrets: Secrets) -> None:
    """Nothing is changed by asking."""
    secrets.begin(["one"])
    both = secrets.valid("one")
    shutil.rmtree(secrets.directory)
    assert secrets.known("one") == both
    assert secrets.missing(NAMES) == [*NAMES]
    (secrets.copies / "two").unlink()
    (secrets.copies / "three").write_bytes(b"\xff")
    assert secrets.known("two") == secrets.known("three") == ()
    assert not secrets.directory.exists()


def test_one_without_a_copy_is_made_and_handed_on(secrets: Secrets) -> None:
    """Until somebody says that it was: a crash in between changes nothing."""
    before = texts(secrets)
    for directory in (secrets.directory, secrets.copies):
        (directory / "two").unlink()
    (secrets.copies / "three").write_text("")
    (secrets.directory / "three").unlink()
    assert secrets.ensure(NAMES, is_new=False) == ["two", "three"]
    assert secrets.ensure(NAMES, is_new=False) == []
    now = texts(secrets)
    assert {name for name in NAMES if now[name] != before[name]} == {"two", "three"}
    assert secrets.rotation() == Rotation(Phase.RETIRE, *[("two", "three")] * 2)
    secrets.end()
    assert secrets.rotation() is None


def test_all_are_lost_only_where_there_was_a_lab_before(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets", tmp_path / "copies")
    assert secrets.ensure(NAMES, is_new=False) == [*NAMES]
    assert secrets.rotation() == Rotation(Phase.RETIRE, NAMES, NAMES)


def test_rotation_comes_back_with_what_it_had_made(secrets: Secrets) -> None:
    before = texts(secrets)
    begun = secrets.begin(["one"])
    both = secrets.valid("one")
    shutil.rmtree(secrets.directory)
    secrets.bring_back()
    assert (secrets.rotation(), secrets.valid("one")) == (begun, both)
    secrets.exchange(begun)
    shutil.rmtree(secrets.directory)
    secrets.bring_back()
    assert secrets.rotation() == Rotation(Phase.RETIRE, ("one",))
    assert secrets.valid("one") == (both[1],)
    secrets.end()
    assert names(secrets.directory) == names(secrets.copies) == {*NAMES}
    assert texts(secrets) == {**before, "one": both[1]}


def test_things_of_others_among_them_are_let_be(secrets: Secrets) -> None:
    (secrets.directory / "a directory").mkdir()
    os.mkfifo(secrets.directory / "a pipe")
    (secrets.directory / "picture").write_bytes(b"\xff\xd8")
    assert secrets.ensure(NAMES, is_new=True) == []
    assert names(secrets.copies) == {*NAMES}
    (secrets.directory / "one").write_bytes(b"\xff")
    with pytest.raises(ResourceError, match="secret:one"):
        secrets.get("one")


def test_exchange_that_broke_off_goes_on_whatever_the_copies_say(secrets: Secrets) -> None:
    begun = secrets.begin(["one", "two"])
    following = [secrets.valid(name)[1] for name in ("one", "two")]
    (secrets.directory / "one.next").rename(secrets.directory / "one")  # and then the crash
    secrets.bring_back()
    secrets.exchange(begun)
    assert [secrets.valid(name) for name in ("one", "two")] == [(each,) for each in following]
