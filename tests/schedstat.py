"""What the kernel says of the time that each thread of a service has had, and waited for."""

from __future__ import annotations

import contextlib
from pathlib import Path

from faults import SERVICES
from rig import World

Times = dict[int, tuple[int, int]]  # by thread: ns on a processor, ns waiting for one


def threads(shop: World) -> dict[str, Times]:
    """By service: what the kernel says of its threads (sched-stats.rst, /proc/<pid>/schedstat)."""
    rows = shop.orchestrator("status", "--json").ok().json()["nodes"]
    first = {row["node"]: row["pid"] for row in rows}
    found: dict[str, Times] = {}
    for service in SERVICES:
        times = found[service] = {}
        todo = [first[f"service:{service}"]]
        while todo:
            for task in Path(f"/proc/{todo.pop()}/task").glob("*"):
                with contextlib.suppress(OSError):  # PostgreSQL's processes come and go
                    on_cpu, waited, _ = (task / "schedstat").read_text().split()
                    times[int(task.name)] = (int(on_cpu), int(waited))
                    todo += map(int, (task / "children").read_text().split())
    return found


def grown_s(before: Times, after: Times, which: int, *, both: bool) -> float:
    """By how much those grew that are in both, or all that are there afterwards."""
    those = after.keys() & before.keys() if both else after.keys()
    nothing = (0, 0)
    return sum(after[t][which] - before.get(t, nothing)[which] for t in those) / 1e9
