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

from names import next_name
from rig import World
from view import Viewer, load

from orchestrator.sights.timings import last_times


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
    return rows


def looks(world: World) -> list[float]:
    """CPU of one look at the loaded shop, its threads included; the first finds processes."""
    viewer = Viewer(world)
    try:
        with load(world):
            return [viewer.look().cpu_ms for _ in range(21)][1:]
    finally:
        viewer.close()


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
