"""Facts of live processes and files, read where the kernel tells them: proc(5)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.processes import procfs
from orchestrator.processes.procfs import PROC
from orchestrator.processes.sandbox import SECRETS_DIR

NAMESPACES = ("pid", "ipc", "uts", "mnt", "cgroup", "net")


class Mount(Struct, frozen=True):
    """One line of /proc/PID/mountinfo."""

    place: str
    kind: str
    is_read_only: bool


class Process(Struct, frozen=True):
    """One process in a sandbox; `is_init` is bubblewrap, pid 1 in there."""

    pid: int
    name: str
    is_init: bool
    status: Mapping[str, str]  # /proc/PID/status
    environment: bytes
    command: bytes
    open_files: tuple[str, ...]
    sockets: frozenset[int]  # inodes


class Entry(Struct, frozen=True):
    """A file or directory."""

    path: str
    mode: int
    uid: int


class Seen(Struct, frozen=True):
    """All that runs for one service, and the world as it sees it."""

    processes: tuple[Process, ...]
    namespaces: Mapping[str, int]
    mounts: tuple[Mount, ...]
    visible: tuple[str, ...]  # of the paths that must not be
    secrets: tuple[Entry, ...]
    private: Mapping[str, int]  # directory → device of its file system


def look(mark: str, hidden: Iterable[Path]) -> Seen | None:
    """The service as it runs now; None if it does not."""
    init = next((each.pid for each in procfs.sandboxes(mark) if each.is_init), None)
    if init is None:
        return None
    pids = [init, *procfs.descendants(init)]
    processes = tuple(found for pid in pids if (found := _process(pid, is_init=pid == init)))
    programs = [each.pid for each in processes if not each.is_init]
    if not programs:
        return None
    root = PROC / str(programs[0]) / "root"
    return Seen(
        processes,
        namespaces_of(programs[0]),
        _mounts(programs[0]),
        tuple(str(path) for path in hidden if _exists(root / str(path).lstrip("/"))),
        entries(root / SECRETS_DIR.lstrip("/")),
        {
            place: (root / place.lstrip("/")).stat().st_dev
            for place in ("/tmp", "/run", "/dev/shm", "/var/tmp")
        },
    )


def namespaces_of(pid: int | str) -> dict[str, int]:
    """Inode of each namespace; a kernel without one leaves it out."""
    found = {}
    for kind in NAMESPACES:
        with contextlib.suppress(OSError):
            found[kind] = (PROC / str(pid) / "ns" / kind).stat().st_ino
    return found


def entries(directory: Path) -> tuple[Entry, ...]:
    """What lies in a directory; nothing if it is not there."""
    try:
        found = [(path, path.lstat()) for path in sorted(directory.iterdir())]
    except OSError:
        return ()
    return tuple(Entry(path.name, seen.st_mode & 0o7777, seen.st_uid) for path, seen in found)


def entry(path: Path) -> Entry | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return Entry(str(path), seen.st_mode & 0o7777, seen.st_uid)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _process(pid: int, *, is_init: bool) -> Process | None:
    here = PROC / str(pid)
    try:
        lines = (here / "status").read_text().splitlines()
        status = {key: value.strip() for key, _, value in (each.partition(":") for each in lines)}
        if status["State"][0] in procfs.GONE:
            return None
        environment, command = (here / "environ").read_bytes(), (here / "cmdline").read_bytes()
        files, sockets = set(), set()
        for link in os.scandir(here / "fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(link.path)  # noqa: PTH115 - not a path, for sockets
                if target.startswith("socket:["):
                    sockets.add(int(target[8:-1]))
                elif target.startswith("/"):
                    files.add(target)
    except OSError:
        return None  # it has ended
    return Process(
        pid,
        status["Name"],
        is_init,
        status,
        environment,
        command,
        tuple(sorted(files)),
        frozenset(sockets),
    )


def _mounts(pid: int) -> tuple[Mount, ...]:
    found = []
    for line in (PROC / str(pid) / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        place = fields[4].encode().decode("unicode_escape")  # spaces are \040
        found.append(Mount(place, right.split()[0], "ro" in fields[5].split(",")))
    return tuple(found)
