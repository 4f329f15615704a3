"""`make recovery`: how long each fault of the matrix lasts, written to docs/recovery.md."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from faults import FAULTS, close_observer, recovery_s, serves, whole
from names import next_name
from rig import ROOT, World, eventually

ROUNDS = 3
HEAD = """# How fast faults are healed

Made by `make recovery`, not typed. Each fault is done to a running shop {rounds} times; the time
is from the fault until everything is as wanted again and an order and a read from outside go
through to the database. A hang is only a hang once two questions stayed unanswered for a second
each. Machine: {cores} cores, Linux {kernel}.

| fault | median | slowest |
|---|---:|---:|
"""


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        world = World.build(next_name(), Path(directory))
        try:
            for name, fault in FAULTS.items():
                # A fresh start for each: a supervisor that has healed the same node often
                # waits before it does so again.
                world.orchestrator("up", "--supervise").ok()
                times = []
                for _ in range(ROUNDS):
                    eventually(lambda: whole(world) and serves(world), within_s=60)
                    times.append(recovery_s(world, fault))
                    world.orchestrator("up", "--no-supervise").ok()
                    world.orchestrator("up", "--supervise").ok()
                rows.append((name, times))
                sys.stderr.write(f"{name}: {statistics.median(times):.2f} s\n")
        finally:
            close_observer(world)
            world.orchestrator("down", "--volumes")
            world.remove()
    text = HEAD.format(rounds=ROUNDS, cores=os.cpu_count(), kernel=platform.release().split("-")[0])
    for name, times in rows:
        text += f"| {name} | {statistics.median(times):.2f} s | {max(times):.2f} s |\n"
    (ROOT / "docs" / "recovery.md").write_text(text)


if __name__ == "__main__":
    main()
