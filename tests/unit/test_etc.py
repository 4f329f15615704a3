"""The /etc of a sandbox: copies of the host's, open to all, and a place for each mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.processes import etc

if TYPE_CHECKING:
    from pathlib import Path

SEEN = {"nsswitch.conf", "localtime", "alternatives", "perl", "passwd", "group", "hosts"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's /etc."""
    place = tmp_path / "host"
    place.mkdir()
    monkeypatch.setattr(etc, "PLACE", str(place))
    monkeypatch.setattr(etc, "BOUND", (f"{place}/alternatives", f"{place}/perl"))
    monkeypatch.setattr(
        etc, "OWN", tuple(f"{place}/{name}" for name in ("passwd", "group", "hosts"))
    )
    (place / "nsswitch.conf").write_text("hosts: files\n")
    (place / "zone").write_text("UTC")
    (place / "localtime").symlink_to("zone")
    (place / "shadow").write_text("secret")
    (place / "alternatives").mkdir()
    return place


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_holds_copies_of_what_is_looked_up_and_nothing_else(host: Path, tmp_path: Path) -> None:
    made = tmp_path / "node" / "etc"
    etc.furnish(made)
    assert tree(made) == SEEN
    assert (made / "localtime").read_text() == "UTC"
    assert not (made / "localtime").is_symlink()


def test_is_open_to_all_whatever_umask_we_have(host: Path, tmp_path: Path) -> None:
    (host / "ssl").mkdir()
    (host / "ssl/openssl.cnf").write_text("x")
    before = os.umask(0o077)
    try:
        etc.furnish(tmp_path / "etc", directories=[f"{host}/app/settings"])
    finally:
        os.umask(before)
    for path in (tmp_path / "etc", *(tmp_path / "etc").rglob("*")):
        wanted = 0o755 if path.is_dir() else 0o444
        assert path.stat().st_mode & 0o777 == wanted, path


def test_has_a_place_for_each_mount_of_the_host_s_kind(host: Path, tmp_path: Path) -> None:
    (host / "mailname").write_text("host")
    (host / "app").mkdir()
    mounts = [f"{host}/mailname", f"{host}/app/", f"{host}/away/deep", "/var/lib/x"]
    etc.furnish(tmp_path / "etc", host=mounts, files=[f"{host}/shop/own"])
    made = tmp_path / "etc"
    assert (made / "mailname").read_text() == ""  # what is mounted there is seen instead
    assert (made / "app").is_dir()
    assert (made / "away/deep").is_dir()
    assert (made / "shop/own").is_file()
    assert not (made / "var").exists()


def test_a_mount_over_a_copy_keeps_its_place(host: Path, tmp_path: Path) -> None:
    etc.furnish(tmp_path / "etc", host=[f"{host}/nsswitch.conf"])
    assert (tmp_path / "etc/nsswitch.conf").read_text() == "hosts: files\n"


def test_what_was_changed_on_the_host_is_copied_anew(host: Path, tmp_path: Path) -> None:
    made = tmp_path / "etc/nsswitch.conf"
    etc.furnish(tmp_path / "etc")
    first = made.stat().st_ino
    etc.furnish(tmp_path / "etc")
    assert made.stat().st_ino == first
    (host / "nsswitch.conf").write_text("hosts: dns\n")
    etc.furnish(tmp_path / "etc")
    assert made.read_text() == "hosts: dns\n"


def test_what_an_earlier_one_left_half_written_is_not_taken(host: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nsswitch.conf.new").write_text("hos")
    etc.furnish(tmp_path / "etc")
    assert tree(tmp_path / "etc") == SEEN
    assert (tmp_path / "etc/nsswitch.conf").read_text() == "hosts: files\n"
