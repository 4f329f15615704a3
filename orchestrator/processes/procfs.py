"""The process table: who runs, since when, and who is ours (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.onelook import once

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COMM_BYTES = 65  # TASK_COMM_LEN is 16; kernel threads show more (proc_task_name)
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
        text = (PROC / str(pid) / "stat").read_text()
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
        for task in (PROC / str(pid) / "task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


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
    return once("sandboxes", _all_sandboxes).get(mark, [])


def _all_sandboxes() -> dict[str, list[Sandbox]]:
    """Every sandbox of whichever lab, by its mark."""
    marks, digests = f"{MARK}=".encode(), f"{DIGEST}=".encode()
    found: dict[str, list[Sandbox]] = {}
    for pid in _pids_named("bwrap"):
        try:
            environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
            mark = _value(environment, marks)
            if not mark:
                continue
            levels = _status_field(pid, "NSpid").split()
            seen = stat(pid)
            inode = (PROC / str(pid) / "ns/net").stat().st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if seen is None:
            continue
        is_init = len(levels) > 1 and levels[-1] == "1"
        each = Sandbox(pid, seen.start_ticks, is_init, _value(environment, digests), inode)
        found.setdefault(mark, []).append(each)
    return found


def _value(environment: list[bytes], prefix: bytes) -> str:
    """Of the variable that the prefix ends with `=`; empty if it is not set."""
    found = (word[len(prefix) :] for word in environment if word.startswith(prefix))
    return next(found, b"").decode(errors="replace")


def _pids_named(name: str) -> Iterator[int]:
    """Reads a file of every process on this host, often: by plain calls, at a tenth of the
    cost of Path and text."""
    wanted = f"{name}\n".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if entry.isdigit():
            try:
                file = os.open(f"/proc/{entry}/comm", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if os.read(file, COMM_BYTES) == wanted:
                    yield int(entry)
            except ProcessLookupError:
                continue
            finally:
                os.close(file)


def _status_field(pid: int, name: str) -> str:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""
