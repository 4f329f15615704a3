"""The process table: who runs, since when, and who is ours (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.onelook import is_looking, once

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READ_BYTES = 1 << 17  # an environment of ours has a few thousand
GONE = frozenset("ZXx")  # zombie and dead: nothing of it runs any more

MARK = "ORCHESTRATOR_MARK"
DIGEST = "ORCHESTRATOR_DIGEST"


@dataclass(frozen=True, slots=True)
class Stat:
    """Fields of /proc/PID/stat; the start time makes the pid unique within a boot."""

    pid: int
    parent: int
    state: str
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A bubblewrap process of ours: the waiter outside, or pid 1 inside (`is_init`)."""

    pid: int
    start_ticks: int
    is_init: bool
    digest: str
    netns: int  # inode of its network namespace


def stat(pid: int) -> Stat | None:
    """None if there is no such process, or only its corpse."""
    try:
        text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field may contain anything, spaces and brackets too: go by the last bracket.
    fields = text[text.rindex(")") + 2 :].split()
    found = Stat(pid, int(fields[1]), fields[0], int(fields[19]))
    return None if found.state in GONE else found


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether that very process still runs, not another one with its pid."""
    found = stat(pid)
    return found is not None and found.start_ticks == start_ticks


def children(pid: int) -> list[int]:
    """Direct children, of whichever thread."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def soft_limits(pid: int) -> dict[str, str]:
    """What getrlimit(2) gives, by the names of /proc/PID/limits: bytes, a count or `unlimited`.

    Not by prlimit(2): that needs CAP_SYS_RESOURCE, reading is free to root. Raises OSError.
    """
    lines = (PROC / str(pid) / "limits").read_text().splitlines()[1:]
    return {line[:26].rstrip(): line[26:].split()[0] for line in lines}  # fs/proc/base.c: %-25s


def uptime_s(start_ticks: int) -> float:
    """Seconds since a process with that start time began."""
    boot_s = float((PROC / "uptime").read_text().split()[0])
    return boot_s - start_ticks / TICKS_PER_S


def boot_id() -> str:
    """Another one after each boot: what monotonic times may be compared within."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def sandboxes(mark: str) -> list[Sandbox]:
    """Our processes of one node, found by the mark in their environment.

    The waiter and pid 1 of a sandbox are bubblewrap itself, whose environment stays as it
    was given (PostgreSQL and nginx overwrite theirs). No file of ours is needed for this.
    """
    if is_looking():  # then one walk serves all who look
        return once("sandboxes", _all_sandboxes).get(mark, [])
    return _all_sandboxes(mark).get(mark, [])


def _all_sandboxes(only: str = "") -> dict[str, list[Sandbox]]:
    """Every sandbox of whichever lab, by its mark; or those of one mark alone."""
    marks, digests = f"{MARK}=".encode(), f"{DIGEST}=".encode()
    wanted = f"{MARK}={only}".encode()
    found: dict[str, list[Sandbox]] = {}
    for pid in _pids_named("bwrap"):
        try:
            text = _read(f"/proc/{pid}/environ")
            if wanted not in text:
                continue
            environment = text.split(b"\0")
            mark = _value(environment, marks)
            if not mark:
                continue
            levels = _levels(pid)
            seen = stat(pid)
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if seen is None:
            continue
        is_init = len(levels) > 1 and levels[-1] == b"1"
        each = Sandbox(pid, seen.start_ticks, is_init, _value(environment, digests), inode)
        found.setdefault(mark, []).append(each)
    return found


def _value(environment: list[bytes], prefix: bytes) -> str:
    """Of the variable that the prefix ends with `=`; empty if it is not set."""
    found = (word[len(prefix) :] for word in environment if word.startswith(prefix))
    return next(found, b"").decode(errors="replace")


def _pids_named(name: str) -> Iterator[int]:
    wanted = f"{name}\n".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdigit():
            try:
                if _read(f"/proc/{entry}/comm") == wanted:
                    yield int(entry)
            except (FileNotFoundError, ProcessLookupError):
                continue


def _levels(pid: int) -> list[bytes]:
    """Its pids in its process namespaces, the host's first."""
    for line in _read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return line.split()[1:]
    return []


def _read(path: str) -> bytes:
    """A file of /proc by plain calls: thousands are read, and Path and text cost ten times
    what the kernel does."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, READ_BYTES)
    finally:
        os.close(file)
