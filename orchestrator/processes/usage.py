"""What a service's processes use: processor time, memory, descriptors (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.processes.procfs import PROC

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
READ_BYTES = 4096


@dataclass(slots=True)
class Usage:
    """What the processes of one service use now.

    `threads` holds nanoseconds on a processor and nanoseconds runnable but waiting for one,
    by thread id: Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat. Private
    memory counts for each process, memory from files and shared memory once (that of the
    process which has most of it): PostgreSQL's buffers are there once, not in each backend.
    """

    threads: dict[int, tuple[int, int]] = field(default_factory=dict)
    private_pages: int = 0
    shared_pages: int = 0
    descriptors: int = 0

    @property
    def resident_bytes(self) -> int:
        return (self.private_pages + self.shared_pages) * PAGE_BYTES


def usage(sandboxes: Iterable[int]) -> Usage:
    """Of all that runs in sandboxes, which are given by their pid 1 (bubblewrap, not counted).

    What ends meanwhile is left out. A process whose parent ended is a child of pid 1, so
    nothing is missed.
    """
    found = Usage()
    waiting = [child for pid in sandboxes for child in _children(pid, _threads(pid))]
    while waiting:
        pid = waiting.pop()
        threads = _threads(pid)
        waiting += _children(pid, threads)
        for thread in threads:
            try:
                on_cpu, waited, _ = read(f"{PROC}/{pid}/task/{thread}/schedstat").split()
                found.threads[int(thread)] = (int(on_cpu), int(waited))
            except (OSError, ValueError):
                continue
        try:
            _, resident, shared, *_ = (int(n) for n in read(f"{PROC}/{pid}/statm").split())
            found.descriptors += _descriptors(f"{PROC}/{pid}/fd")
        except (OSError, ValueError):
            continue
        found.private_pages += resident - shared
        found.shared_pages = max(found.shared_pages, shared)
    return found


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"{PROC}/{pid}/task")  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return []


def _children(pid: int, threads: Iterable[str]) -> list[int]:
    """Of whichever thread: proc_tid_children(5)."""
    found: list[int] = []
    for thread in threads:
        try:
            found += [int(each) for each in read(f"{PROC}/{pid}/task/{thread}/children").split()]
        except OSError:
            continue
    return found


def _descriptors(directory: str) -> int:
    """How many are open. Since Linux 6.2 the directory's size says so: proc_pid_fd(5)."""
    return os.stat(directory).st_size or len(os.listdir(directory))  # noqa: PTH116, PTH208


def read(path: str) -> bytes:
    """All of a small file of procfs, in a third of the time that pathlib takes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while part := os.read(descriptor, READ_BYTES):  # procfs gives a page at a time
            text += part
        return text
    finally:
        os.close(descriptor)
