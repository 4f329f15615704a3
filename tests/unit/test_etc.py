"""The /etc of a sandbox: copies of the host's, open to all, and a place for each mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.processes import etc
from orchestrator.processes.files import Folder

if TYPE_CHECKING:
    from pathlib import Path

SEEN = {"host.conf", "localtime", "alternatives", "perl", "passwd", "group", "hosts"}
SEEN |= {"nsswitch.conf"}  # written, not copied


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
    (place / "host.conf").write_text("multi on\n")
    (place / "zone").write_text("UTC")
    (place / "localtime").symlink_to("zone")
    (place / "shadow").write_text("secret")
    (place / "alternatives").mkdir()
    return place


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_holds_copies_of_what_is_looked_up_and_nothing_else(host: Path, tmp_path: Path) -> None:
    made = etc.furnish(tmp_path / "node" / "etc")
    assert tree(made) == SEEN
    assert (made / "localtime").read_text() == "UTC"
    assert not (made / "localtime").is_symlink()


def test_names_are_looked_up_where_a_sandbox_can_ask(host: Path, tmp_path: Path) -> None:
    (host / "nsswitch.conf").write_text("passwd: files systemd\n")
    made = etc.furnish(tmp_path / "etc") / "nsswitch.conf"
    (first, written) = (made.stat().st_ino, made.read_text())
    assert "systemd" not in written
    assert "hosts: files dns\n" in written
    etc.furnish(tmp_path / "etc")
    assert made.stat().st_ino == first
    made.chmod(0o600)
    made.write_text("passwd: files systemd\n")  # as an earlier version left it
    etc.furnish(tmp_path / "etc")
    assert made.read_text() == written


def test_is_as_open_as_the_host_s_whatever_umask_we_have(host: Path, tmp_path: Path) -> None:
    (host / "ssl").mkdir()
    (host / "ssl/openssl.cnf").write_text("x")
    (host / "resolv.conf").write_text("of root alone")
    (host / "resolv.conf").chmod(0o600)
    before = os.umask(0o077)
    try:
        etc.furnish(tmp_path / "etc", directories=[f"{host}/app/settings"])
    finally:
        os.umask(before)
    for path in (tmp_path / "etc", *(tmp_path / "etc").rglob("*")):
        wanted = 0o755 if path.is_dir() else 0o400 if path.name == "resolv.conf" else 0o444
        assert path.stat().st_mode & 0o777 == wanted, path


def test_has_a_place_for_each_mount_of_the_host_s_kind(host: Path, tmp_path: Path) -> None:
    (host / "mailname").write_text("host")
    (host / "app").mkdir()
    mounts = [f"{host}/mailname", f"{host}/app/", f"{host}/away/deep", "/var/lib/x"]
    made = etc.furnish(tmp_path / "etc", host=mounts, files=[f"{host}/shop/own"])
    assert (made / "mailname").read_text() == ""  # what is mounted there is seen instead
    assert (made / "app").is_dir()
    assert (made / "away/deep").is_dir()
    assert (made / "shop/own").is_file()
    assert not (made / "var").exists()


def test_what_is_mounted_over_is_never_replaced(host: Path, tmp_path: Path) -> None:
    """That would end the mount of whoever runs with it."""
    mounts = [f"{host}/host.conf"]
    place = etc.furnish(tmp_path / "etc", files=mounts) / "host.conf"
    first = place.stat().st_ino
    (host / "host.conf").write_text("multi off\n")
    etc.furnish(tmp_path / "etc", files=mounts)
    assert place.stat().st_ino == first


def test_a_file_of_one_may_be_a_directory_of_another(host: Path, tmp_path: Path) -> None:
    mounted = f"{host}/app"
    file = etc.furnish(tmp_path / "etc", files=[mounted])
    directory = etc.furnish(tmp_path / "etc", directories=[mounted])
    below = etc.furnish(tmp_path / "etc", files=[f"{mounted}/own"])
    assert (file / "app").is_file()
    assert (directory / "app").is_dir()
    assert (below / "app/own").is_file()


def test_follows_the_host(host: Path, tmp_path: Path) -> None:
    made = etc.furnish(tmp_path / "etc") / "host.conf"
    first = made.stat().st_ino
    assert etc.furnish(tmp_path / "etc") == made.parent
    assert made.stat().st_ino == first
    (host / "host.conf").write_text("multi off\n")
    etc.furnish(tmp_path / "etc")
    assert made.read_text() == "multi off\n"
    (host / "host.conf").unlink()
    etc.furnish(tmp_path / "etc")
    assert not made.exists()


def test_what_an_earlier_one_left_half_written_is_not_taken(host: Path, tmp_path: Path) -> None:
    made = etc.furnish(tmp_path / "etc")
    (made / "host.conf").rename(made / "host.conf.new")
    (made / "host.conf.new").chmod(0o600)
    etc.furnish(tmp_path / "etc")
    assert tree(made) == SEEN
    assert (made / "host.conf").read_text() == "multi on\n"


def test_files_of_a_node_never_take_each_others_place(tmp_path: Path) -> None:
    inside = ["/run/a.conf", "/run/a/conf", "/run-a.conf", "/a.conf", "/notify", "/run/x/a.conf"]
    # The longest names that there are; in UTF-8 ł takes two bytes, 漢 three.
    inside += [f"/run/{first}{'漢' * 84}" for first in ("łb", "cł")]
    inside += [f"/run/{first}{'a' * 254}" for first in "xy"]
    folder = Folder(tmp_path / "node")
    placed = folder.write(dict(zip(inside, inside, strict=True)), uid=0, gid=0, mode=0o400)
    assert {path: placed[path].read_text() for path in inside} == {path: path for path in inside}
    assert tmp_path / "node" / "notify" not in placed.values()  # a socket has that name
