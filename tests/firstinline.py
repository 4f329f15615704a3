"""The lab's processes before all others that want a processor, for what is measured of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rig import World, run

SERVICES = (
    *("nginx-lb", "api-gateway", "product-service", "order-service"),
    *("redis-cache", "postgres-db"),
)


@contextlib.contextmanager
def first_in_line(world: World) -> Iterator[None]:
    """Real-time scheduling (sched(7)) for every thread of the shop's path and of our own process.

    Where the host does not allow it they stay as they are, and a test that compares takes more
    rounds. Ours are put back afterwards, and have no children that inherit it.
    """
    namespaces = [f"{world.host}.{name}" for name in SERVICES]
    pids = [p for name in namespaces for p in run("ip", "netns", "pids", name).ok().out.split()]
    _schedule(pids, os.SCHED_RR, 1)
    _schedule(["self"], os.SCHED_RR | os.SCHED_RESET_ON_FORK, 1)
    try:
        yield
    finally:
        _schedule(["self"], os.SCHED_OTHER, 0)


def _schedule(pids: Iterable[str], policy: int, priority: int) -> None:
    for thread in (task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))
