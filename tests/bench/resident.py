"""What the supervisor costs while nothing happens, and what a look at the kernel costs it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from faults import close_observer, serves, whole
from names import next_name
from rig import World, eventually
from view import Viewer, load

from bench.rows import Row, Section

IDLE_S = 30.0  # two scrapes of Prometheus


def measure(rounds: int) -> Section:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        world = World.build(next_name(), Path(directory))
        try:
            world.orchestrator("up", "--supervise").ok()
            return Section("Supervisor", _rows(world, rounds))
        finally:
            close_observer(world)
            world.orchestrator("down", "--volumes")
            world.remove()


def _rows(world: World, rounds: int) -> list[Row]:
    pid = world.orchestrator("status", "--json").json()["supervisor"]
    eventually(lambda: whole(world) and serves(world), within_s=60)
    close_observer(world)
    fresh = _memory_mb(pid)
    shares = []
    for _ in range(min(rounds, 2)):
        before = cpu_s(pid)
        time.sleep(IDLE_S)
        shares.append((cpu_s(pid) - before) / IDLE_S * 100)
    world.on_host("ip", "link", "delete", "veth-redis-br").ok()
    eventually(lambda: whole(world) and serves(world), within_s=60)
    close_observer(world)
    return [
        Row("idle", shares, "% of a core"),
        Row("memory (PSS), fresh", [fresh], "MB"),
        Row("memory (PSS), after a healing", [_memory_mb(pid)], "MB"),
        Row("a look at the kernel, under load: CPU", _looks(world), "ms"),
    ]


def _looks(world: World) -> list[float]:
    """CPU of one look at the loaded shop, its threads included; the first finds processes."""
    viewer = Viewer(world)
    try:
        with load(world):
            return [viewer.look().cpu_ms for _ in range(21)][1:]
    finally:
        viewer.close()


def cpu_s(pid: int) -> float:
    """Processor time of all threads so far: schedstat counts nanoseconds, stat only ticks."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _memory_mb(pid: int) -> float:
    """Proportional set size: what is shared with other processes counts by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
