"""Which processes are a service's, and how they fare: asked again and again for little.

Files of procfs that stay open are read again in a third of the time.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from orchestrator.processes import procfs, vitals
from orchestrator.processes.service import Program

LIMITS_BYTES = 4096
STAT_BYTES = 512  # of /proc/PID/stat: the state is among the first
OPEN_FILES = re.compile(
    rb"^Max open files +(\d+)", re.MULTILINE
)  # of /proc/PID/limits: the soft one


@dataclass(slots=True)
class _Process:
    """Descriptors of what tells of one process."""

    state: int
    limits: int
    files: int

    @classmethod
    def open(cls, pid: int) -> _Process | None:
        """None if it has just ended."""
        # The state of its first thread: the process's own file adds up the times of all.
        with contextlib.ExitStack() as opened:

            def open_(path: str) -> int:
                found = os.open(f"{procfs.PROC}/{pid}/{path}", os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, found)
                return found

            try:
                found = cls(open_(f"task/{pid}/stat"), open_("limits"), open_("fd"))
            except OSError:
                return None
            opened.pop_all()
        return found

    def close(self) -> None:
        for each in (self.state, self.limits, self.files):
            os.close(each)

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        try:
            text = os.pread(self.state, STAT_BYTES, 0)
        except ProcessLookupError:
            return False
        return text[text.rindex(b")") + 2 :].startswith(procfs.STOPPED)

    def is_short(self) -> bool:
        """Whether it has as many files open as it may."""
        try:
            limit = OPEN_FILES.search(os.pread(self.limits, LIMITS_BYTES, 0))
            # Since Linux 6.2 the directory's size says how many there are: proc_pid_fd(5).
            used = os.fstat(self.files).st_size or len(os.listdir(self.files))  # noqa: PTH208
        except OSError:
            return False
        return limit is not None and used >= int(limit[1])


@dataclass(frozen=True, slots=True)
class Look:
    """Of a service's processes: whether a signal has stopped one of them, and whether one cannot
    open one more file, and so accepts no connection."""

    is_stopped: bool
    is_short: bool


@dataclass(slots=True)
class Members:
    """What runs of one service, without bubblewrap itself.

    Its control group lists them in one file. Bubblewrap's are looked for only among those that
    are new there: pid 1 inside, and the parent of that, which waits outside.
    """

    program: Program
    _place: str | None = field(init=False)
    _inits: list[procfs.Sandbox] = field(default_factory=list)
    _listed: bytes = b""
    _pids: list[int] = field(default_factory=list)
    _wrappers: frozenset[int] = frozenset()
    _watched: dict[int, _Process] = field(default_factory=dict)  # by pid

    def __post_init__(self) -> None:
        self._place = self.program.group.list_file()

    def pids(self) -> list[int]:
        """Now."""
        if self._place is None:
            return self._by_parents()
        try:
            # Opened anew: version 1 gives who reads on in an open one what it gave before.
            listed = procfs.read(self._place)
        except OSError:
            return self._by_parents()
        if listed != self._listed:
            before, now = {*map(int, self._listed.split())}, {*map(int, listed.split())}
            found = {*(self._wrappers & now)}
            for pid in now - before:
                if procfs.is_first(pid) and (seen := procfs.stat(pid)) is not None:
                    found |= {pid, seen.parent}
            self._listed, self._wrappers = listed, frozenset(found)
            self._pids = sorted(now - found)
        return self._pids

    def sandbox(self) -> list[int]:
        """Bubblewrap's processes: outside, and pid 1 inside."""
        self.pids()
        # A corpse that nobody has asked for is in the list as well.
        found = [pid for pid in self._wrappers if procfs.stat(pid) is not None]
        return found or [each.pid for each in self.program.running()]

    def _by_parents(self) -> list[int]:
        """Where there is no control group."""
        if not all(procfs.is_alive(each.pid, each.start_ticks) for each in self._inits):
            self._inits = []
        self._inits = self._inits or [each for each in self.program.running() if each.is_init]
        return vitals.programs(self._inits)

    def look(self) -> Look:
        """How they are now."""
        seen = self._processes()
        return Look(
            is_stopped=any(each.is_stopped() for each in seen),
            is_short=any(each.is_short() for each in seen),
        )

    def _processes(self) -> Collection[_Process]:
        pids = self.pids()
        if self._watched.keys() != {*pids}:
            for pid in self._watched.keys() - {*pids}:
                self._watched.pop(pid).close()
            for pid in {*pids} - self._watched.keys():
                if (found := _Process.open(pid)) is not None:
                    self._watched[pid] = found
        return self._watched.values()
