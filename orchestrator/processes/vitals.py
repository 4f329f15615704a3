"""Signs of life of a service's processes, as the kernel sees them from outside (proc(5)).

A question that stays unanswered says little by itself: the service may be stopped, stuck, or
only have much to do. Whether its threads ran since the question was put tells these apart:
the connection alone would have woken a program that waits for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from orchestrator.processes import procfs

AT_WORK = frozenset("RD")  # runs, wants to run, or waits for the disk

Thread = tuple[str, int]  # its state, and how often it was switched away from


class Pulse(Struct, frozen=True):
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
    """Those that a signal has stopped."""
    return [pid for pid in pids if procfs.is_stopped(pid)]


def open_files(pids: Iterable[int]) -> list[frozenset[int]]:
    """What the descriptors of each lead to, by inode: of sockets and pipes no two are the same.

    For what has no descriptor left: where one is new, another came free.
    """
    return [frozenset(_inodes(f"/proc/{pid}/fd")) for pid in pids]


def _inodes(directory: str) -> Iterator[int]:
    try:
        for number in os.listdir(directory):  # noqa: PTH208 - names are all that is wanted
            yield os.stat(f"{directory}/{number}").st_ino  # noqa: PTH116 - of what it leads to
    except OSError:
        return
