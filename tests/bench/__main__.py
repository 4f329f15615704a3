"""`make bench`: how close a run comes to its critical path, and how long each command takes.

Ratios within one run on this machine; times are medians with their spread. Nothing here is
an assertion: a busy machine is no failure.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from faults import close_observer, serves, whole
from names import next_name
from rig import World, eventually
from view import Viewer, load

from orchestrator.sights.timings import last_times

IDLE_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        world = World.build(next_name(), Path(directory))
        try:
            rows = measure(world, rounds)
        finally:
            world.orchestrator("down", "--volumes")
            world.remove()
    show(rows)


def measure(world: World, rounds: int) -> dict[str, list[float]]:
    """Seconds of whole commands, and wall ÷ critical path of the cold runs."""
    rows: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        begun = time.perf_counter()
        work()
        rows.setdefault(name, []).append(time.perf_counter() - begun)

    for number in range(rounds):
        sys.stderr.write(f"round {number + 1} of {rounds}\n")
        timed("up, cold (s)", lambda: world.orchestrator("up").ok())
        rows.setdefault("wall ÷ critical path, cold", []).append(ratio(world))
        timed("up, nothing to do (s)", lambda: world.orchestrator("up").ok())
        timed("status (s)", lambda: world.orchestrator("status").ok())
        timed("down (s)", lambda: world.orchestrator("down").ok())
        timed("up, warm (s)", lambda: world.orchestrator("up").ok())
        rows.setdefault("wall ÷ critical path, warm", []).append(ratio(world))
        rows.setdefault("look of the kernel's view, CPU (ms)", []).extend(looks(world))
        world.orchestrator("down", "--volumes").ok()
        timed("--help (s)", lambda: world.orchestrator("--help"))
    rows |= idle(world)
    world.orchestrator("down", "--volumes").ok()
    return rows


def looks(world: World) -> list[float]:
    """CPU of one look at the loaded shop, its threads included; the first finds processes."""
    viewer = Viewer(world)
    try:
        with load(world):
            return [viewer.look().cpu_ms for _ in range(21)][1:]
    finally:
        viewer.close()


def idle(world: World) -> dict[str, list[float]]:
    """What the supervisor costs while nothing happens, and its memory after a healing too."""
    world.orchestrator("up", "--supervise").ok()
    pid = world.orchestrator("status", "--json").json()["supervisor"]
    eventually(lambda: whole(world) and serves(world), within_s=60)
    close_observer(world)
    rows: dict[str, list[float]] = {"supervisor, fresh: memory, PSS (MB)": [memory_mb(pid)]}
    shares = []
    for _ in range(3):
        before = cpu_s(pid)
        time.sleep(IDLE_S)
        shares.append((cpu_s(pid) - before) / IDLE_S * 100)
    rows["supervisor, idle (% of a core)"] = shares
    world.on_host("ip", "link", "delete", "veth-redis-br").ok()
    eventually(lambda: whole(world) and serves(world), within_s=60)
    close_observer(world)
    rows["supervisor, after a healing: PSS (MB)"] = [memory_mb(pid)]
    return rows


def cpu_s(pid: int) -> float:
    """Processor time of all threads so far: schedstat counts nanoseconds, stat only ticks."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(pid: int) -> float:
    """Proportional set size: what is shared with other processes counts by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def ratio(world: World) -> float:
    """The last `up`: its wall time ÷ the nodes' own time along its critical path."""
    return last_times(world.state / f"shop@{world.host}" / "journal.jsonl")["up"].ratio


def show(rows: dict[str, list[float]]) -> None:
    print(f"{'':38}{'median':>9}{'min':>9}{'max':>9}")
    for name, values in rows.items():
        middle = statistics.median(values)
        print(f"{name:38}{middle:9.3f}{min(values):9.3f}{max(values):9.3f}")


if __name__ == "__main__":
    main()
