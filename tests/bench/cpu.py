"""CPU of each hop, from the scheduler's own count."""

from __future__ import annotations

import os
from pathlib import Path

from rig import World

HOPS = (
    *("nginx-lb", "api-gateway", "product-service", "order-service", "redis-cache"),
    *("postgres-db", "prometheus"),
)
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Processor time so far of a process, its ended threads included: proc(5), stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def of_hops(world: World) -> dict[str, float]:
    """Seconds so far of each hop's processes: those in its network namespace."""
    found = dict.fromkeys(HOPS, 0.0)
    homes = {
        os.stat(f"/run/netns/{world.host}.{hop}").st_ino: hop
        for hop in HOPS
        if Path(f"/run/netns/{world.host}.{hop}").exists()
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            hop = homes.get((process / "ns/net").stat().st_ino)
        except OSError:
            continue
        if hop is not None:
            found[hop] += cpu_s(int(process.name))
    return found


def machine_s() -> float:
    """Seconds so far in which any processor was busy, interrupts included: proc(5)."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS
