"""`make chaos`: orders by concurrent clients while faults of the matrix strike at random.

Afterwards the books must agree to the piece: every acknowledged order is kept exactly once,
nothing was made twice or never asked for, and the stock is what is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from books import Books
from buyers import Buyers, Tally, wishes
from faults import FAULTS, serves, under_supervision, whole
from names import next_name
from rig import ROOT, World, eventually

# Chaos heals the same nodes again and again, which a crash loop's limit is there to end.
SUPERVISION = "\nsupervision:\n  start_limit: 1000\n"
IN_FLIGHT = 50  # so many orders more may be made until the fault has struck
HEAL_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, and what is wrong with the books: nothing, if all is well."""

    tally: Tally
    faults: Sequence[str]
    healings: int
    seconds: float
    errors: Sequence[str]

    def text(self) -> str:
        tally = self.tally
        cuts = statistics.quantiles(tally.seconds, n=100) if len(tally.seconds) > 1 else [0.0] * 99
        retries = ", ".join(f"{count} × {kind}" for kind, count in tally.retries.most_common())
        return "\n".join(
            [
                f"orders: {len(tally.acknowledged)} acknowledged",
                f"refused (sold out): {len(tally.refused)}, unanswered: {len(tally.unanswered)}",
                f"retries with the same key: {tally.retries.total()} ({retries or 'none'})",
                f"faults: {len(self.faults)} done, {self.healings} healings",
                f"duration: {self.seconds:.1f} s, {tally.done / self.seconds:.0f} orders/s",
                f"answers: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms",
                *(f"WRONG: {text}" for text in self.errors[:20]),
                f"books: {len(self.errors)} errors",
            ]
        )


@contextlib.contextmanager
def supervised_shop(supervision: str = SUPERVISION) -> Iterator[World]:
    """A shop of its own under supervision."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(ROOT / "services", directory / "services")
        stack = directory / "services" / "stack.yaml"
        stack.write_text(stack.read_text().replace("\nsupervision:\n", supervision))
        built = replace(World.build(next_name(), directory), stack=stack)
        with under_supervision(built) as world:
            yield world


def chaos(shop: World, *, orders: int, faults: Sequence[str], clients: int, seed: int) -> Report:
    """Strikes with each fault in turn, evenly over the orders."""
    rng = random.Random(seed)
    books = Books.open(shop)
    begun_s = time.monotonic()
    todo = wishes(orders, books.stock, rng, f"chaos-{seed}-{books.last}")
    buyers = Buyers(shop.host, todo, clients=clients, seed=seed)
    done: list[str] = []
    for number, fault in enumerate(faults, start=1):
        at = orders * number // (len(faults) + 1)
        buyers.allow(at + IN_FLIGHT)
        while buyers.tally.done < at:
            time.sleep(0.01)
        # What it would break may be broken already: then there is nothing to strike at.
        with contextlib.suppress(AssertionError, OSError, StopIteration, TypeError, ValueError):
            FAULTS[fault](shop)
            done.append(fault)
            sys.stderr.write(f"{buyers.tally.done:6} orders: {fault}\n")
    buyers.allow(orders)
    tally = buyers.join()
    seconds = time.monotonic() - begun_s
    eventually(lambda: whole(shop), within_s=HEAL_DEADLINE_S)
    errors = books.errors(shop, tally)
    eventually(lambda: serves(shop), within_s=HEAL_DEADLINE_S)
    return Report(tally, done, healings(shop), seconds, errors)


def healings(shop: World) -> int:
    lines = (shop.state / f"shop@{shop.host}" / "journal.jsonl").read_text().splitlines()
    events = (json.loads(line) for line in lines)
    return sum(event.get("command") == "heal" for event in events)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    given = parser.parse_args()
    chosen = random.Random(given.seed).choices(list(FAULTS), k=given.faults)
    print(f"seed {given.seed}")
    with supervised_shop() as shop:
        report = chaos(
            shop, orders=given.orders, faults=chosen, clients=given.clients, seed=given.seed
        )
    print(report.text())
    sys.exit(1 if report.errors else 0)


if __name__ == "__main__":
    main()
