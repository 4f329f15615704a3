"""The lab's processes before all others that want a processor, for what is measured of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rig import World, run

SERVICES = (
    *("nginx-lb", "api-gateway", "product-service", "order-service"),
    *("redis-cache", "postgres-db"),
)


def first_in_line(world: World) -> None:
    """Real-time scheduling (sched(7)) for every thread of the shop's path. Where the host
    does not allow that they stay as they are, and a test that compares takes more rounds."""
    threads = [
        int(task.name)
        for name in SERVICES
        for pid in run("ip", "netns", "pids", f"{world.host}.{name}").ok().out.split()
        for task in Path(f"/proc/{pid}/task").glob("*")
    ]
    for thread in threads:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
