"""What is prepared for jobs is taken only as it was put there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.processes.prepared import KEPT, Store, draft, key_of, publish

KEY = "a" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "here")


def put(store: Store, content: bytes = b"whole", key: str = KEY) -> Path:
    with store.writing() as directory:
        assert directory is not None
        descriptor = draft(directory)
        os.write(descriptor, content)
        name = publish(directory, key, descriptor)
        os.close(descriptor)
    return store.directory / name


def take(store: Store, key: str = KEY) -> tuple[bytes | None, list[str]]:
    descriptor, refused = store.open(key)
    if descriptor is None:
        return None, refused
    with os.fdopen(descriptor, "rb") as file:
        return file.read(), refused


def test_what_was_put_is_found_from_its_beginning(store: Store) -> None:
    assert (take(store), store.has(KEY)) == ((None, []), False)
    put(store)
    assert (take(store), store.has(KEY)) == ((b"whole", []), True)
    assert take(store, "b" * 32) == (None, [])


def test_nobody_else_may_look(store: Store) -> None:
    path = put(store)
    assert (store.directory.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_draft_that_is_not_published_leaves_nothing(store: Store) -> None:
    with store.writing() as directory:
        assert directory is not None
        os.write(draft(directory), b"half")
    assert list(store.directory.iterdir()) == []


def test_one_writes_at_a_time(store: Store) -> None:
    with store.writing() as first, store.writing() as second:
        assert (first is None, second) == (False, None)


def linked(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def other_key(path: Path) -> None:
    """Whole, but made from something else: the other one's name is not the wanted one's."""
    path.write_bytes(b"another")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (lambda path: os.truncate(path, 2), "damaged"),
    "empty": (lambda path: os.truncate(path, 0), "damaged"),
    "changed": (lambda path: path.write_bytes(b"wh0le"), "damaged"),
    "longer": (lambda path: path.write_bytes(b"whole and more"), "damaged"),
    "of another content": (other_key, "damaged"),
    "a link": (linked, "it is a link"),
    "a second name": (lambda path: os.link(path, path.parent.parent / "x"), "another name"),
    "a pipe": (pipe, "no file"),
    "a directory": (directory, "no file"),
    "readable for all": (lambda path: path.chmod(0o644), "its mode is 0644, not 0600"),
    "directory writable for all": (lambda path: path.parent.chmod(0o777), "mode is 0777, not 0700"),
}
if os.geteuid() == 0:
    HOSTILE |= {
        "another owner": (lambda path: os.chown(path, 61184, 0), "belongs to user 61184"),
        "directory of another": (lambda path: os.chown(path.parent, 61184, 0), "user 61184"),
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_tampered_with_is_refused_with_a_word_and_replaced(
    store: Store, name: str
) -> None:
    tamper, word = HOSTILE[name]
    path = put(store)
    tamper(path)
    content, refused = take(store)
    assert content is None
    assert len(refused) == 1
    assert word in refused[0]
    if name.startswith("directory"):
        return  # who put it there has to see to it: nothing of others is changed
    put(store, b"anew")
    assert take(store)[0] == b"anew"


def test_what_nobody_has_written_to_is_not_read(store: Store) -> None:
    path = put(store)
    descriptor, refused = store.open(KEY, may_read=False)
    assert (descriptor is None, refused) == (False, [])
    os.close(descriptor or 0)
    with path.open("r+b") as file:
        file.write(b"wh0le")
    assert store.open(KEY, may_read=False)[0] is None


def test_what_has_another_time_is_read(store: Store) -> None:
    path = put(store)
    os.utime(path)
    assert store.open(KEY, may_read=False)[0] is None
    assert take(store) == (b"whole", [])


def test_link_in_place_of_the_directory_is_refused(store: Store, tmp_path: Path) -> None:
    put(store)
    store.directory.rename(tmp_path / "moved")
    store.directory.symlink_to(tmp_path / "moved")
    content, (word,) = take(store)
    assert content is None
    assert "link" in word


def test_oldest_of_others_go(store: Store) -> None:
    for number in range(KEPT + 2):
        put(store, key=f"{number:032}")
        time.sleep(0.02)  # longer than a tick of the clock that files have their times from
    left = {path.name.partition(".")[0] for path in store.directory.iterdir()}
    assert left == {f"{number:032}" for number in range(2, KEPT + 2)}


def test_key_changes_with_whatever_goes_into_it(tmp_path: Path) -> None:
    program, script = tmp_path / "initdb", tmp_path / "make.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    script.write_text("initdb")

    def key(
        *words: str, programs: tuple[str, ...] = ("initdb",), lang: str = "C.UTF-8", path: str = ""
    ) -> str:
        environment = {"PATH": f"{tmp_path}:/bin:/usr/bin{path}", "LANG": lang}
        return key_of(words or ("sh", "/stack/make.sh"), environment, programs, tmp_path)

    first = key()
    assert key() == first == key(path=":/elsewhere")
    found = [first, key("sh", "/stack/make.sh", "-x"), key(programs=()), key(lang="de_DE.UTF-8")]
    script.write_text("initdb --wal-segsize=1")
    found.append(key())
    program.write_text("#!/bin/sh\n# another version\n")
    found.append(key())
    os.utime(program, (1, 1))
    found.append(key())
    program.unlink()
    found.append(key())
    assert len(set(found)) == len(found)
