"""What a service's processes use: processor time, memory, descriptors (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec import Struct, field

from orchestrator.processes.procfs import PROC, read

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(Struct):
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


def usage(pids: Iterable[int]) -> Usage:
    """Of these processes together; what ends meanwhile is left out."""
    found = Usage()
    for pid in pids:
        for thread in _threads(pid):
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


def _descriptors(directory: str) -> int:
    """How many are open. Since Linux 6.2 the directory's size says so: proc_pid_fd(5)."""
    return os.stat(directory).st_size or len(os.listdir(directory))  # noqa: PTH116, PTH208
