"""The process table: who runs, since when, and who is ours (proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from orchestrator.onelook import is_looking, once

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
GONE = frozenset("ZXx")  # zombie and dead: nothing of it runs any more

STOPPED = b"T"
FAULTS_OF_CHILDREN = 8  # cminflt, in fields behind the name: proc_pid_stat(5)
READ_BYTES = 4096
NAME_BYTES = 64  # of /proc/PID/comm: 15 of a program's, more of a kernel thread's

MARK = "ORCHESTRATOR_MARK"
DIGEST = "ORCHESTRATOR_DIGEST"


class Stat(Struct, frozen=True):
    """Fields of /proc/PID/stat; the start time makes the pid unique within a boot."""

    pid: int
    parent: int
    state: str
    start_ticks: int


class Sandbox(Struct, frozen=True):
    """A bubblewrap process of ours: the waiter outside, or pid 1 inside (`is_init`)."""

    pid: int
    start_ticks: int
    is_init: bool
    digest: str
    netns: int  # inode of its network namespace


def read(path: str) -> bytes:
    """All of a small file of procfs, in a third of the time that pathlib takes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = part = os.read(descriptor, READ_BYTES)
        # No line is longer than half a page, so less than that is the end; more may be not.
        while len(part) > READ_BYTES // 2:
            part = os.read(descriptor, READ_BYTES)
            text += part
        return text
    finally:
        os.close(descriptor)


def stat(pid: int) -> Stat | None:
    """None if there is no such process, or only its corpse."""
    try:
        text = read(f"/proc/{pid}/stat").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field may contain anything, spaces and brackets too: go by the last bracket.
    fields = text[text.rindex(")") + 2 :].split()
    found = Stat(pid, int(fields[1]), fields[0], int(fields[19]))
    return None if found.state in GONE else found


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped it: SIGSTOP, or one of the terminal. A debugger's `t` is
    somebody at work."""
    try:
        text = read(f"{PROC}/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text[text.rindex(b")") + 2 :].startswith(STOPPED)


def is_first(pid: int) -> bool:
    """Whether it is pid 1 of a process table of its own."""
    try:
        levels = _levels(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return len(levels) > 1 and levels[-1] == b"1"


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether that very process still runs, not another one with its pid."""
    found = stat(pid)
    return found is not None and found.start_ticks == start_ticks


def children(pid: int) -> list[int]:
    """Direct children, of whichever thread."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            found += map(int, read(f"/proc/{pid}/task/{task}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def is_done(pid: int) -> bool:
    """Whether that pid 1 of a sandbox has had programs and has none any more. One that never had
    any is about to begin: it has waited for no child, of which each has faults."""
    if children(pid):
        return False
    try:
        text = read(f"{PROC}/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(b")") + 2 :].split()[FAULTS_OF_CHILDREN] != b"0"


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
    held_now = _held.get()
    if held_now is not None and mark.startswith(held_now.prefix) and mark not in held_now.marks:
        return []
    if is_looking():  # then one walk serves all who look
        return once("sandboxes", _all_sandboxes).get(mark, [])
    return _all_sandboxes(mark).get(mark, [])


class _Held:
    """Of which sandboxes it is known which may be there."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    @cached_property
    def marks(self) -> set[str]:
        """Read with the first question: a network alone has no processes to ask for."""
        return {*_all_sandboxes(self.prefix)}


_held: ContextVar[_Held | None] = ContextVar("held", default=None)


@contextlib.contextmanager
def held(prefix: str) -> Iterator[None]:
    """For the length of the block nobody but us starts sandboxes whose marks begin so: those that
    do not run at the first question are not looked for before `starts` has named them."""
    token = _held.set(_Held(prefix))
    try:
        yield
    finally:
        _held.reset(token)


def starts(mark: str) -> None:
    """From now on there may be a sandbox of that mark."""
    if held_now := _held.get():
        held_now.marks.add(mark)


def ended(mark: str) -> None:
    """There is none of that mark any more."""
    if held_now := _held.get():
        held_now.marks.discard(mark)


def sandboxes_below(prefix: str) -> list[Sandbox]:
    """As `sandboxes`, of every mark that begins so."""
    found = _all_sandboxes(prefix)
    return [each for mark, them in found.items() if mark.startswith(prefix) for each in them]


def _all_sandboxes(only: str = "") -> dict[str, list[Sandbox]]:
    """Every sandbox of whichever lab, by its mark; or those of one mark alone."""
    marks, digests = f"{MARK}=".encode(), f"{DIGEST}=".encode()
    wanted = f"{MARK}={only}".encode()
    found: dict[str, list[Sandbox]] = {}
    for pid in _pids_named("bwrap"):
        try:
            text = read(f"/proc/{pid}/environ")
            if wanted not in text:
                continue
            environment = text.split(b"\0")
            mark = _value(environment, marks)
            if not mark:
                continue
            is_init = is_first(pid)
            seen = stat(pid)
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if seen is None:
            continue
        each = Sandbox(pid, seen.start_ticks, is_init, _value(environment, digests), inode)
        found.setdefault(mark, []).append(each)
    return found


def _value(environment: list[bytes], prefix: bytes) -> str:
    """Of the variable that the prefix ends with `=`; empty if it is not set."""
    found = (word[len(prefix) :] for word in environment if word.startswith(prefix))
    return next(found, b"").decode(errors="replace")


def _pids_named(name: str) -> Iterator[int]:
    wanted = f"{name}\n".encode()
    table = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for entry in os.listdir(table):  # noqa: PTH208
            if entry.isdigit() and _name(table, entry) == wanted:
                yield int(entry)
    finally:
        os.close(table)


def _name(table: int, entry: str) -> bytes:
    """From the directory on, and with one reading: every start and every look asks for all."""
    try:
        file = os.open(f"{entry}/comm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=table)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(file, NAME_BYTES)
    except ProcessLookupError:
        return b""
    finally:
        os.close(file)


def _levels(pid: int) -> list[bytes]:
    """Its pids in its process namespaces, the host's first."""
    for line in read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"NSpid:"):
            return line.split()[1:]
    return []
