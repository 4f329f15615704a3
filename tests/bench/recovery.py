"""`make recovery`: how long each fault of the matrix lasts, written to docs/recovery.md.

`--rounds 1 --samples FILE` measures once and adds to what the file has: several short runs make
one table, and one that was cut off is gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chaos import SUPERVISION, supervised_shop
from disasters import (
    fill,
    flooded,
    lose_run_directory,
    lose_state_directory,
    reboot,
    small_disk_shop,
)
from faults import DOUBLE, FAULTS, recovery_s, serves, whole
from rig import ROOT, World, eventually

ROUNDS = 3
# Each fault is to be met as if it were the first: so long after the one before, a healing is
# none of a series, which would wait longer each time.
APART_S = 1.0
APART = f"{SUPERVISION}  start_window: {APART_S:g}s\n"
Samples = dict[str, list[float]]

HEAD = """# How fast faults are healed

Made by `make recovery`, not typed. Rounds on a running shop: {rounds}; the time
is from the fault until everything is as wanted again and an order and a read from outside go
through to the database. A stopped process is seen by its state. A service without a free file
descriptor counts as hung when a question is not answered and none comes free meanwhile. Any other
hang takes a question without an answer, and two seconds in which no thread of the service ran; a
service that works but does not answer is given ten seconds. Of two faults the time is that of the
second, which waits for the healing of the first.
Machine: {cores} cores, Linux {kernel}.

| fault | median | slowest |
|---|---:|---:|
"""

LASTING = """
From the end of what lasts, or from the `up` that follows, until the same holds (rounds: {rounds}):

| fault | median | slowest |
|---|---:|---:|
"""

TAIL = """
What loses or leaves nothing is proven by tests:

| fault | proof |
|---|---|
| stores killed in mid-transaction: exact books | tests/lab/test_chaos.py |
| disk full under orders, and `down` with it | tests/lab/test_disk_full.py |
| journal cut, torn, overwritten, taken away | tests/lab/test_damage.py |
| commands at the same time, and during a healing | tests/lab/test_at_once.py |
| clocks that jump; clocks that differ | tests/unit/test_clock.py, tests/lab/test_at_once.py |
| kill -9 at any record of the journal, or at any instant | `make sweep` |
| forty random faults under 10,000 orders | `make chaos` |
| up and down fifty times | `make endurance` |
"""


def flood(port: int, host: str) -> Callable[[World], object]:
    return lambda shop: flooded(shop, host, port)


def then_up(disaster: Callable[[World], object]) -> Callable[[World], float]:
    """A person's `up` mends it; it begins when the disaster is over."""

    def measure(shop: World) -> float:
        disaster(shop)
        begun = time.monotonic()
        shop.orchestrator("up", "--supervise").ok()
        eventually(lambda: whole(shop) and serves(shop), within_s=60)
        return time.monotonic() - begun

    return measure


def full_disk(_: World) -> float:
    """On a shop of its own, whose disk is small: from when there is room again."""
    with tempfile.TemporaryDirectory() as name, small_disk_shop(Path(name)) as shop:
        eventually(lambda: whole(shop) and serves(shop), within_s=60)
        ballast = fill(shop)
        eventually(lambda: not serves(shop), within_s=60)
        ballast.unlink()
        begun = time.monotonic()
        eventually(lambda: whole(shop) and serves(shop), within_s=60)
        return time.monotonic() - begun


def by_itself(disaster: Callable[[World], object]) -> Callable[[World], float]:
    return lambda shop: recovery_s(shop, disaster)


DISASTERS: dict[str, Callable[[World], float]] = {
    "gateway flooded by 1,500 connections at once": by_itself(flood(3000, "10.0.0.20")),
    "edge flooded by 1,500 connections at once": by_itself(flood(8080, "127.0.0.1")),
    "disk full for data and journal": full_disk,
    "run directory deleted (`up`)": then_up(lose_run_directory),
    "machine rebooted (`up`)": then_up(reboot),
    "state directory deleted, data included: a new database": by_itself(lose_state_directory),
}


HEALED = {**FAULTS, **DOUBLE}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make recovery")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--samples", type=Path, help="where the samples of several runs are kept")
    parser.add_argument("--only", default="", help="only faults with this in their name")
    given = parser.parse_args()
    kept = given.samples if given.samples and given.samples.exists() else None
    samples: Samples = json.loads(kept.read_text()) if kept else {}
    for _ in range(given.rounds):
        with supervised_shop(APART) as shop:
            for name, seconds in measure(shop, samples, given.only):
                samples.setdefault(name, []).append(seconds)
                if given.samples:
                    given.samples.write_text(json.dumps(samples, indent=1))
    if not given.only:
        (ROOT / "docs" / "recovery.md").write_text(document(samples))


def measure(shop: World, samples: Samples, only: str) -> Iterator[tuple[str, float]]:
    """Every fault once, those first that were measured least."""
    all_ = {**{name: by_itself(fault) for name, fault in HEALED.items()}, **DISASTERS}
    for name in sorted(all_, key=lambda name: len(samples.get(name, ()))):
        if only in name:
            eventually(lambda: whole(shop) and serves(shop), within_s=60)
            time.sleep(APART_S)
            seconds = all_[name](shop)
            sys.stderr.write(f"{seconds:6.2f} s  {name}\n")
            yield name, seconds


def document(samples: Samples) -> str:
    head = HEAD.format(
        rounds=_rounds(samples, HEALED),
        cores=os.cpu_count(),
        kernel=platform.release().split("-")[0],
    )
    lasting = LASTING.format(rounds=_rounds(samples, DISASTERS))
    return head + rows(samples, HEALED) + lasting + rows(samples, DISASTERS) + TAIL


def _rounds(samples: Samples, names: Iterable[str]) -> int:
    """How often each was measured at least."""
    return min(len(samples[name]) for name in names)


def rows(samples: Samples, names: dict[str, Callable[[World], object]]) -> str:
    return "".join(
        f"| {name} | {statistics.median(times):.2f} s | {max(times):.2f} s |\n"
        for name, times in ((name, samples[name]) for name in names)
    )


if __name__ == "__main__":
    main()
