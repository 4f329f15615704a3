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
through to the database. A stopped process is seen by its state. Any other hang takes a question
without an answer, and two seconds in which no thread of the service ran or it had no file
descriptor left; a service that works but does not answer is given ten seconds.
Machine: {cores} cores, Linux {kernel}.

| fault | median | slowest |
|---|---:|---:|
"""


TAIL = """
What lasts, or has no single moment to measure from, is proven by tests:

| fault | proof |
|---|---|
| flood: served or shed, nobody is taken for hung | tests/lab/test_pressure.py |
| stores killed in mid-transaction: exact books | tests/lab/test_chaos.py |
| disk full under orders, and `down` with it | tests/lab/test_disk_full.py |
| journal cut, torn, overwritten, taken away | tests/lab/test_damage.py |
| run or state directory deleted; a reboot | tests/lab/test_pressure.py |
| commands at the same time, and during a healing | tests/lab/test_at_once.py |
| clocks that jump; clocks that differ | tests/unit/test_clock.py, tests/lab/test_at_once.py |
| kill -9 at any record of the journal | `make sweep` |
| forty random faults under 10,000 orders | `make chaos` |
| up and down fifty times | `make endurance` |
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
    (ROOT / "docs" / "recovery.md").write_text(text + TAIL)


if __name__ == "__main__":
    main()
