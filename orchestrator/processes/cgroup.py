"""Limits of memory and tasks for all that a node runs: cgroups(7), version 1 or 2.

Where this host's control groups cannot be used, prlimit(2) sets the nearest there is: RLIMIT_DATA
for each process, RLIMIT_NPROC for the user, who is the service's alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct

from orchestrator.processes import procfs
from orchestrator.processes.procfs import PROC

OURS = "orchestrator"  # the group above those of every lab
MEMORY, TASKS = "memory", "pids"  # controllers, by their kernel names
# What getrlimit(2) calls the nearest to it, and how /proc/PID/limits does.
FALLBACK = {
    MEMORY: (resource.RLIMIT_DATA, "Max data size"),
    TASKS: (resource.RLIMIT_NPROC, "Max processes"),
}
BUSY_LOOKS, BUSY_PAUSE_S = 100, 0.002
PAGE_BYTES = resource.getpagesize()


class Limits(Struct, frozen=True):
    """For all processes of one node together."""

    memory_bytes: int
    tasks: int  # processes and threads

    def values(self) -> dict[str, int]:
        """By controller; memory in whole pages, as the kernel keeps it."""
        return {MEMORY: self.memory_bytes // PAGE_BYTES * PAGE_BYTES, TASKS: self.tasks}


class Controller(Struct, frozen=True):
    """Where a controller is mounted."""

    name: str
    mount: Path
    version: int

    @property
    def file(self) -> str:
        """Which file of a group holds the limit."""
        if self.name == MEMORY:
            return "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        return "pids.max"

    def missing(self) -> str:
        """Why it cannot be used here; empty if it can."""
        if not os.access(self.mount, os.W_OK) or os.statvfs(self.mount).f_flag & os.ST_RDONLY:
            return f"{self.mount} is read-only here"
        if self.version == 1:
            return ""
        if self.name not in _words(self.mount / "cgroup.controllers"):
            return f"it is not delegated to {self.mount}"
        given = self.mount / "cgroup.subtree_control"
        # Only the real root may hold processes and give controllers on: cgroup.type is not there.
        if self.name not in _words(given) and (self.mount / "cgroup.type").exists():
            return f"{given} does not give it on, and cannot: processes live beside it"
        return ""


@cache
def controllers() -> Mapping[str, Controller]:
    """Where memory and pids are; version 1 where a controller is mounted as such."""
    found: dict[str, Controller] = {}
    for line in (PROC / "self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        mount = Path(left.split()[4])
        if kind == "cgroup":
            for name in {MEMORY, TASKS} & set(options.split(",")):
                found[name] = Controller(name, mount, 1)
        elif kind == "cgroup2":
            for name in _words(mount / "cgroup.controllers"):
                if name in (MEMORY, TASKS):
                    found.setdefault(name, Controller(name, mount, 2))
    return found


def version() -> int:
    """Of the hierarchy that limits memory; 0 if none does."""
    found = controllers().get(MEMORY)
    return found.version if found else 0


@cache
def lacking() -> Mapping[str, str]:
    """Controllers that this host does not let us use, each with the reason."""
    here = controllers()
    found = {
        name: here[name].missing() if name in here else "no control group of this host has it"
        for name in (MEMORY, TASKS)
    }
    return {name: reason for name, reason in found.items() if reason}


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


class Group(Struct, frozen=True):
    """One node's control group, below /orchestrator/LAB in each hierarchy."""

    lab: str
    node: str
    limits: Limits

    @property
    def path(self) -> str:
        return f"{OURS}/{self.lab}/{self.node}"

    def _used(self) -> Iterator[tuple[Controller, Path, int]]:
        """Usable controllers, each with our directory and the value it must have."""
        values = self.limits.values()
        for name, controller in controllers().items():
            if name not in lacking():
                yield controller, controller.mount / self.path, values[name]

    def enter(self) -> None:
        """Puts the calling thread under those limits that a thread can have for itself, for the
        processes that it starts; the rest waits for `confine`. Raises OSError.

        That is version 1: there a thread moves itself without the lock that every fork on this
        host shares, for which moving another process waits an RCU grace period (10 ms).
        """
        for controller, directory, _ in self._made():
            if controller.version == 1:
                (directory / "tasks").write_text("0")

    def confine(self, processes: Iterable[int], *, entered: bool = False) -> None:
        """Puts processes under the limits; their children inherit them. Raises OSError.

        `entered`: they were started by a thread that had entered.
        """
        moved = list(processes)
        for controller, directory, _ in self._made():
            for pid in moved if controller.version == 2 or not entered else ():
                (directory / "cgroup.procs").write_text(str(pid))
        values = self.limits.values()
        for name in lacking():
            for pid in moved:
                resource.prlimit(pid, FALLBACK[name][0], (values[name], values[name]))

    def _made(self) -> Iterator[tuple[Controller, Path, int]]:
        """As `_used`, with the group there and its limit set."""
        for controller, directory, value in self._used():
            _make(controller, directory)
            if _differs(directory / controller.file, value):
                (directory / controller.file).write_text(str(value))
            yield controller, directory, value

    def lost(self, pid: int) -> str:
        """What is wrong with the limits of a process that should be under them; or nothing."""
        try:
            places = (PROC / str(pid) / "cgroup").read_text().splitlines()
            soft = procfs.soft_limits(pid) if lacking() else {}
        except OSError:
            return ""  # it is about to end
        for controller, directory, value in self._used():
            if found := _differs(directory / controller.file, value):
                return f"its {controller.name} limit is {found}, not {value}"
            if not any(_is_of(line, controller) and line.endswith(self.path) for line in places):
                return f"it has left its control group for {controller.name}"
        for name in lacking():
            if (found := soft[FALLBACK[name][1]]) != str(self.limits.values()[name]):
                return f"its {name} limit is {found}, not {self.limits.values()[name]}"
        return ""

    def list_file(self) -> str | None:
        """What lists the pids of everything in it, bubblewrap's too; None where there is no
        group."""
        return next((f"{directory}/cgroup.procs" for _, directory, _ in self._used()), None)

    def count_file(self) -> str | None:
        """What counts the tasks in it; None where nothing limits their number."""
        used = (f"{at}/pids.current" for each, at, _ in self._used() if each.name == TASKS)
        return next(used, None)

    def remove(self) -> None:
        """Takes the group away, and those above it once they are empty."""
        for controller in controllers().values():
            directory = controller.mount / self.path
            with contextlib.suppress(OSError):
                for each in (directory, directory.parent, directory.parent.parent):
                    each.rmdir()


def forget(lab: str) -> None:
    """Takes away every group of the lab in which nothing runs: also those of nodes whose
    processes ended, but whose removal was cut short."""
    for controller in controllers().values():
        directory = controller.mount / OURS / lab
        for each in (*directory.glob("*:*/"), directory, directory.parent):
            _remove(each)


def _remove(directory: Path) -> None:
    """Takes a group away in which nothing runs. The last process is seen to have ended a moment
    before the kernel lets go of its group (EBUSY); that is waited for."""
    for _ in range(BUSY_LOOKS):
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or _words(directory / "cgroup.procs"):
                return
            try:
                if any(each.is_dir() for each in directory.iterdir()):
                    return
            except FileNotFoundError:  # it was every lab's, and another has taken it away
                return
        else:
            return
        time.sleep(BUSY_PAUSE_S)


def _make(controller: Controller, directory: Path) -> None:
    """The group and those above it, with the controller on (cgroup v2 hands it down by level)."""
    directory.mkdir(parents=True, exist_ok=True)
    if controller.version == 1 or (directory / controller.file).exists():
        return
    for above in (controller.mount, *reversed(directory.parents[:2])):
        (above / "cgroup.subtree_control").write_text(f"+{controller.name}")


def _differs(path: Path, value: int) -> str:
    """What the file says instead of the value; empty if it says it."""
    try:
        found = path.read_text().strip()
    except OSError as error:
        return "gone" if error.errno == errno.ENOENT else str(error.strerror)
    return "" if found == str(value) else found


def _is_of(line: str, controller: Controller) -> bool:
    """Whether the line of /proc/PID/cgroup is of the controller's hierarchy."""
    names = line.split(":", 2)[1]
    return names == "" if controller.version == 2 else controller.name in names.split(",")
