"""Signs of life of a service's processes, as the kernel sees them from outside (proc(5)).

A question that stays unanswered says little by itself: the service may be stopped, stuck, or
only have much to do. Whether its threads ran since the question was put tells these apart:
the connection alone would have woken a program that waits for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.processes import procfs

STOPPED = "T"  # by a signal; a debugger's `t` is somebody at work
AT_WORK = frozenset("RD")  # runs, wants to run, or waits for the disk

Thread = tuple[str, int]  # its state, and how often it was switched away from


@dataclass(frozen=True, slots=True)
class Pulse:
    """Every thread of a service at one moment, by thread id."""

    threads: dict[int, Thread]

    def moved_since(self, before: Pulse) -> bool:
        """Whether any thread ran since then, runs now or would like to."""
        return self.threads != before.threads or any(
            state in AT_WORK for state, _ in self.threads.values()
        )


def programs(sandboxes: Iterable[procfs.Sandbox]) -> list[int]:
    """Pids of everything that runs inside, without bubblewrap itself."""
    return [pid for each in sandboxes if each.is_init for pid in procfs.descendants(each.pid)]


def pulse(pids: Iterable[int]) -> Pulse:
    """Reads one file per thread: only for services that were just found silent."""
    threads = {}
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names are all that is wanted
        except OSError:
            continue
        for task in tasks:
            if (found := _thread(Path(f"/proc/{pid}/task/{task}/status"))) is not None:
                threads[int(task)] = found
    return Pulse(threads)


def _thread(path: Path) -> Thread | None:
    state, switches = "", 0
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key == "State":
            state = value.split()[0]
        elif key.endswith("voluntary_ctxt_switches"):  # nonvoluntary ones too
            switches += int(value)
    return state, switches


def stopped(pids: Iterable[int]) -> list[int]:
    """Those that a signal has stopped: SIGSTOP, or one of the terminal."""
    return [pid for pid in pids if (seen := procfs.stat(pid)) and seen.state == STOPPED]


def short_of_descriptors(pids: Iterable[int]) -> list[int]:
    """Those that cannot open one more file: they accept no connection."""
    found = []
    for pid in pids:
        try:
            limit = procfs.soft_limits(pid)["Max open files"]
            used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        except OSError:
            continue
        if limit.isdigit() and used >= int(limit):
            found.append(pid)
    return found
