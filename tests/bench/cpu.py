"""CPU of each hop, from the scheduler's own count."""

from __future__ import annotations

import os
from pathlib import Path

from rig import World

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Processor time so far of a process, its ended threads included: proc(5), stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def pids_inside(world: World, service: str) -> list[int]:
    """The processes in a service's network namespace, if there is one."""
    try:
        home = Path(f"/run/netns/{world.host}.{service}").stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/net").stat().st_ino == home:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def machine_s() -> float:
    """Seconds so far in which any processor was busy, interrupts included: proc(5)."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS
