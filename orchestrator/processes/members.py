"""Which processes are a service's, and how they fare: asked again and again for little.

Files of procfs that stay open are read again in a third of the time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Collection, Iterator

from msgspec import Struct, field

from orchestrator.processes import procfs, vitals
from orchestrator.processes.service import Program

LIMITS_BYTES = 4096
COUNT_BYTES = 32
STAT_BYTES = 512  # of /proc/PID/stat: the state is among the first
LIMITS_A_LOOK = 3  # of so many processes of a service: only prlimit(2) from outside changes them
OPEN_FILES = b"Max open files"  # in /proc/PID/limits; the soft limit stands behind it


class _Process(Struct, eq=False):
    """Descriptors of what tells of one process. None is another: whoever takes one's place has
    descriptors of the same numbers."""

    state: int
    limits: int
    files: int
    is_gone: bool = False
    limit: int | None = None  # of open files; None where there is none

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
            self.is_gone = True
            return False
        return text[text.rindex(b")") + 2 :].startswith(procfs.STOPPED)

    def read_limit(self) -> None:
        """How many files it may have open now: the kernel spells all of its limits for that."""
        try:
            _, _, behind = os.pread(self.limits, LIMITS_BYTES, 0).partition(OPEN_FILES)
            self.limit = int(behind.split(None, 1)[0])
        except (OSError, IndexError, ValueError):  # it has ended, or has no limit
            self.limit = None

    def is_short(self) -> bool:
        """Whether it has as many files open as it might when its limit was read."""
        if self.limit is None:
            return False
        try:
            # Since Linux 6.2 the directory's size says how many there are: proc_pid_fd(5).
            used = os.fstat(self.files).st_size or len(os.listdir(self.files))  # noqa: PTH208
        except OSError:
            return False
        return used >= self.limit


class Look(Struct, frozen=True):
    """Of a service's processes: whether a signal has stopped one of them, and whether one cannot
    open one more file, and so accepts no connection."""

    is_stopped: bool
    is_short: bool


class Members(Struct):
    """What runs of one service, without bubblewrap itself.

    Its control group lists them in one file. Bubblewrap's are looked for only among those that
    are new there: pid 1 inside, and the parent of that, which waits outside.
    """

    program: Program
    _inits: list[procfs.Sandbox] = field(default_factory=list)
    _place: str | None = None  # which file
    _listed: bytes = b""
    _pids: list[int] = field(default_factory=list)
    _wrappers: frozenset[int] = frozenset()
    _watched: dict[int, _Process] = field(default_factory=dict)  # by pid
    _turn: deque[_Process] = field(default_factory=deque)  # whose limit is read next
    _tally: int | None = None  # descriptor of what counts the tasks
    _tasks: bytes = b""  # how many there were when the processes were listed

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

    def identity(self) -> frozenset[tuple[int, int]]:
        """Pids and start times of bubblewrap's: others, once the service was started anew."""
        found = map(procfs.stat, self.sandbox())
        return frozenset((each.pid, each.start_ticks) for each in found if each is not None)

    def _by_parents(self) -> list[int]:
        """Where there is no control group."""
        if not all(procfs.is_alive(each.pid, each.start_ticks) for each in self._inits):
            self._inits = []
        self._inits = self._inits or [each for each in self.program.running() if each.is_init]
        return vitals.programs(self._inits)

    def look(self) -> Look:
        """How they are now."""
        seen = self._processes()
        stopped = [each for each in seen if each.is_stopped()]
        if any(each.is_gone for each in seen):
            self._tasks = b""  # another may have taken its place
            return self.look()
        for each in self._turn if len(self._turn) <= LIMITS_A_LOOK else self._next():
            each.read_limit()
        return Look(bool(stopped), any(each.is_short() for each in seen))

    def _next(self) -> Iterator[_Process]:
        """Some of many: what was lowered for all of a service is seen at once, and what was for
        one alone in a few looks. How many are open is seen each time."""
        for _ in range(LIMITS_A_LOOK):
            yield self._turn[0]
            self._turn.rotate(-1)

    def _processes(self) -> Collection[_Process]:
        """Those of now. To count tasks is much cheaper than to list processes: while there are
        as many as before and none of these has ended, there is no new one."""
        tasks = self._count()
        if not tasks or tasks != self._tasks:
            self._tasks = tasks
            self._watch({*self.pids()})
        return self._watched.values()

    def _count(self) -> bytes:
        """Tasks, threads included, as the group has it; nothing where there is none."""
        try:
            if self._tally is None and (place := self.program.group.count_file()) is not None:
                self._tally = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            return b"" if self._tally is None else os.pread(self._tally, COUNT_BYTES, 0)
        except OSError:  # it was taken away; there may be a new one the next time
            if self._tally is not None:
                os.close(self._tally)
                self._tally = None
            return b""

    def _watch(self, pids: set[int]) -> None:
        before = [*self._watched.values()]
        gone = {pid for pid, each in self._watched.items() if each.is_gone}
        for pid in (self._watched.keys() - pids) | gone:
            self._watched.pop(pid).close()
        for pid in pids - self._watched.keys():
            if (found := _Process.open(pid)) is not None:
                found.read_limit()
                self._watched[pid] = found
        if before != [*self._watched.values()]:
            self._turn = deque(self._watched.values())
