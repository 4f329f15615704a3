"""Requests at c = 50: the textbook services, the shop, and what its parts cost it.

Every slice of load is short, and the labs take turns, so that whatever else the machine does
meets all of them alike. While others are measured the shop's observers stand still.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from names import next_name
from rig import ROOT, World, sh

from bench import cpu, variants, wrk
from bench.rows import Row, Section, at_least, at_most, ratio, text

SLICE_S, WARM_S = 4, 1
STOCK = 1_000_000_000
PAGE, ORDERS = "/api/products", "/api/orders"

METHOD = (
    f"wrk with {wrk.CONNECTIONS} keep-alive connections, on the lab's host unless it says "
    f"otherwise, in slices of {SLICE_S} s by turns. Textbook is the same platform with Flask's "
    "own server, `requests`, and a connection for every query, to PostgreSQL and Redis alike "
    "([tests/bench/baseline](../tests/bench/baseline)). Observed means hop accounting, the "
    "supervisor, Prometheus and its exporters. Orders go to ten products, each with an "
    "Idempotency-Key of its own; fsync is on, and after every slice the database is asked: all "
    "acknowledged orders were there."
)


@dataclass
class Lab:
    """One variant that is up, and what was measured of it."""

    world: World
    observers: list[int]  # their process ids
    client: wrk.Run
    base: str
    database: str  # the namespace that PostgreSQL lives in
    gets: list[wrk.Load] = field(default_factory=list)
    posts: list[wrk.Load] = field(default_factory=list)
    cpu_us: list[dict[str, float]] = field(default_factory=list)  # of one GET, by hop

    def get(self) -> None:
        with self._observed():
            wrk.get(self.client, self.base + PAGE, seconds=WARM_S)
            before, machine_s = cpu.of_hops(self.world), cpu.machine_s()
            load = wrk.get(self.client, self.base + PAGE, seconds=SLICE_S)
            used = {hop: now - before[hop] for hop, now in cpu.of_hops(self.world).items()}
            used["all"] = cpu.machine_s() - machine_s
        if load.refused or load.lost:
            raise SystemExit(f"{self.world.stack}: {load}")
        self.gets.append(load)
        self.cpu_us.append({hop: s / load.requests * 1e6 for hop, s in used.items()})

    def post(self) -> None:
        customer = f"bench-{len(self.posts)}"
        with self._observed():
            load = wrk.post(self.client, self.base + ORDERS, customer=customer, seconds=SLICE_S)
        # wrk ends with requests under way: some of those are orders, too.
        made = int(self.sql(f"SELECT count(*) FROM orders WHERE customer_id = '{customer}'"))
        told = load.requests - load.refused
        if not told <= made <= told + wrk.CONNECTIONS + load.lost:
            raise SystemExit(f"{self.world.stack}: {told} orders acknowledged, {made} made")
        if not told:
            raise SystemExit(f"{self.world.stack}: no order of {load.requests} was acknowledged")
        self.posts.append(load)

    @contextlib.contextmanager
    def _observed(self) -> Iterator[None]:
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: int) -> None:
        """To all observers."""
        for pid in self.observers:
            os.kill(pid, number)

    def sql(self, statement: str) -> str:
        """As the database's superuser, beside the database."""
        (secret,) = self.world.state.glob("*/secrets/postgres-password")
        words = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-Atc", statement]
        password = f"PGPASSWORD={secret.read_text()}"
        return self.world.inside(self.database, "env", password, *words).ok().out.strip()


@dataclass(frozen=True)
class Elsewhere(World):
    """A world whose orchestrator and services are those of another checkout."""

    checkout: Path = Path()

    def words(self, *words: str | Path, stack: Path | None = None) -> list[str]:
        there = ["env", "-C", str(self.checkout), f"PYTHONPATH={self.checkout}"]
        return [
            *there,
            *super().words(*words, stack=stack or self.checkout / "services/stack.yaml"),
        ]


@contextlib.contextmanager
def lab(
    directory: Path,
    name: str,
    variant: Callable[[Path], Path] | None = None,
    *,
    checkout: Path | None = None,
) -> Iterator[Lab]:
    """A variant that is up, with stock for every order; without one it is the shop, observed."""
    home = directory / name
    home.mkdir(mode=0o755)
    world = World.build(next_name(), home)
    if variant is not None:
        world = dataclasses.replace(world, stack=variant(home / "services"))
    if checkout is not None:
        world = Elsewhere(**vars(world), checkout=checkout)
    try:
        world.orchestrator("up", *([] if variant else ["--supervise"])).ok()
        observers = []
        if variant is None:
            supervisor = world.orchestrator("status", "--json").json()["supervisor"]
            observers = [supervisor, *cpu.pids_inside(world, "prometheus")]
        if variant is variants.loopback:
            inside = functools.partial(world.inside, "nginx-lb")
            found = Lab(world, observers, inside, "http://127.0.0.1", "nginx-lb")
        else:
            found = Lab(world, observers, world.on_host, "http://127.0.0.1:8080", "postgres-db")
        found.sql(f"UPDATE products SET stock = {STOCK}")
        found.signal(signal.SIGSTOP)
        try:
            yield found
        finally:
            found.signal(signal.SIGCONT)
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


def measure(rounds: int) -> Section:
    """The part of `make bench`."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as labs:
        home = Path(directory)
        home.chmod(0o755)
        textbook = labs.enter_context(lab(home, "textbook", variants.textbook))
        shop = labs.enter_context(lab(home, "shop"))
        plain = labs.enter_context(lab(home, "unobserved", variants.unobserved))
        together = labs.enter_context(lab(home, "loopback", variants.loopback))
        for _ in range(rounds):
            for each in (textbook, shop, plain, together):
                each.get()
            for each in (textbook, shop):
                each.post()
    return Section("Requests", rows(textbook, shop, plain, together), [METHOD, _hops(shop)])


def rows(textbook: Lab, shop: Lab, plain: Lab, together: Lab) -> list[Row]:
    get, post = f"GET {PAGE}", f"POST {ORDERS}"
    slow = rates(f"{get}, textbook", textbook.gets)
    fast = rates(f"{get}, observed", shop.gets)
    unobserved = rates(f"{get}, unobserved", plain.gets)
    loopback = rates(f"{get}, unobserved, one namespace over loopback", together.gets)
    slow_orders = rates(f"{post}, textbook", textbook.posts)
    fast_orders = rates(f"{post}, observed", shop.posts)
    middle = Row(f"{get}, textbook: p50", [each.p50_us / 1e3 for each in textbook.gets], "ms")
    tail = Row(f"{get}, observed: p99", [each.p99_us / 1e3 for each in shop.gets], "ms")
    return [
        slow,
        fast,
        ratio("observed ÷ textbook", fast, slow, at_least(12)),
        middle,
        tail,
        ratio("p99 of observed ÷ p50 of textbook", tail, middle, at_most(1)),
        slow_orders,
        fast_orders,
        ratio("observed ÷ textbook", fast_orders, slow_orders, at_least(10)),
        unobserved,
        ratio("observed ÷ unobserved", fast, unobserved, at_least(0.95)),
        loopback,
        ratio("namespaces and NAT ÷ loopback", unobserved, loopback, at_least(0.95)),
    ]


def rates(name: str, loads: Sequence[wrk.Load]) -> Row:
    return Row(name, [load.rate for load in loads], "/s")


def _hops(shop: Lab) -> str:
    """Where the CPU of one request goes."""
    middles = {hop: statistics.median(used[hop] for used in shop.cpu_us) for hop in shop.cpu_us[0]}
    shown = ", ".join(f"{hop} {us:.0f}" for hop, us in middles.items() if hop != "all")
    return f"CPU of one GET, observed, in µs: {shown}; all of the machine {middles['all']:.0f}."


def against(rounds: int, revision: str) -> Section:
    """The shop of this tree and of another revision, by turns."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as labs:
        home = Path(directory)
        home.chmod(0o755)
        checkout = home / "checkout"
        checkout.mkdir(mode=0o755)
        line = f"git -C {ROOT} archive {shlex.quote(revision)} | tar -x -C {checkout}"
        sh(f"set -o pipefail; {line}")
        other = labs.enter_context(lab(home, "other", checkout=checkout))
        here = labs.enter_context(lab(home, "here"))
        for _ in range(rounds):
            for each in (other, here):
                each.get()
            for each in (other, here):
                each.post()
    found = []
    for name, loads in (("GET", "gets"), ("POST", "posts")):
        before = rates(f"{name}, {revision}", getattr(other, loads))
        now = rates(f"{name}, here", getattr(here, loads))
        found += [before, now, ratio(f"{name}, here ÷ {revision}", now, before)]
    return Section(f"Requests, here and at {revision}", found, [_hops(other), _hops(here)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.requests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", metavar="REVISION", help="compare with this revision instead")
    given = parser.parse_args()
    section = against(given.rounds, given.against) if given.against else measure(given.rounds)
    sys.stdout.write(text([section]))


if __name__ == "__main__":
    main()
