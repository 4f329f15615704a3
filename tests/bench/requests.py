"""Requests at c = 50: the textbook services, the shop, and what its parts cost it.

Every slice of load is short, and what is compared takes turns, forth and back, so that
whatever else the machine does meets all of it alike.
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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from names import next_name
from rig import HOST_ADDRESS, ROOT, World, sh

from bench import cpu, variants, wrk
from bench.rows import Bound, Row, Section, at_least, at_most, ratio, text

GET_S, POST_S = 1, 2
STOCK = 1_000_000_000
PAGE, ORDERS = "/api/products", "/api/orders"
HOPS = ("nginx-lb", "api-gateway", "product-service", "order-service", "redis-cache", "postgres-db")

METHOD = (
    f"wrk with {wrk.CONNECTIONS} keep-alive connections, from "
    "the lab's host; for the limits of the edge from outside, since the host itself has none. What "
    f"is compared is asked by turns, {GET_S} s each: one, the other, the other, the one. "
    "Textbook is the same platform with Flask's own server, `requests`, and a connection for "
    "every query, to PostgreSQL and Redis alike ([tests/bench/baseline](../tests/bench/baseline)). "
    "Observed means hop accounting, the supervisor, Prometheus and its exporters; they stand "
    "still while anything else is measured. Orders go to ten products, each with an "
    "Idempotency-Key of its own; fsync is on, and after every slice the database is asked: all "
    "acknowledged orders were there."
)


@dataclass
class Lab:
    """A platform that is up."""

    world: World
    observers: list[int]  # their process ids
    database: str  # the namespace that PostgreSQL lives in

    @contextlib.contextmanager
    def awake(self, *, is_observed: bool) -> Iterator[None]:
        """The observers are at work for the length of the block, if they are to."""
        if is_observed:
            self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: int) -> None:
        for pid in self.observers:
            os.kill(pid, number)

    def flow_rules(self, verb: str) -> None:
        """`on` or `off`: the rules that let only declared flows pass."""
        words = (sys.executable, "-m", "bench.flowrules", verb, self.world.stack, self.world.host)
        self.world.on_host("env", f"PYTHONPATH={ROOT}:{ROOT / 'tests'}", *words).ok()

    def sql(self, statement: str) -> str:
        """As the database's superuser, beside the database."""
        (secret,) = self.world.state.glob("*/secrets/postgres-password")
        words = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-Atc", statement]
        password = f"PGPASSWORD={secret.read_text()}"
        return self.world.inside(self.database, "env", password, *words).ok().out.strip()


@dataclass
class Series:
    """One way to ask one lab, and what was measured of it, round by round."""

    name: str
    lab: Lab
    run: wrk.Run
    base: str
    is_observed: bool = False
    has_flow_rules: bool = True
    gets: list[wrk.Load] = field(default_factory=list)
    posts: list[wrk.Load] = field(default_factory=list)
    cpu_s: list[Counter[str]] = field(default_factory=list)  # of the GETs, by hop

    def warm(self) -> None:
        """What is asked for is in the cache afterwards, and connections are there."""
        wrk.get(self.run, self.base + PAGE, seconds=GET_S)

    def get(self, *, is_new_round: bool) -> None:
        """A slice of a round."""
        if not self.has_flow_rules:
            self.lab.flow_rules("off")
        try:
            with self.lab.awake(is_observed=self.is_observed):
                if self.is_observed:  # what they missed meanwhile they make up for now
                    self.warm()
                before = self._cpu_s()
                load = wrk.get(self.run, self.base + PAGE, seconds=GET_S)
                used = Counter({hop: now - before[hop] for hop, now in self._cpu_s().items()})
        finally:
            if not self.has_flow_rules:
                self.lab.flow_rules("on")
        if load.refused or load.lost:
            raise SystemExit(f"{self.name}: {load}")
        if is_new_round:
            self.gets.append(load)
            self.cpu_s.append(used)
        else:
            self.gets[-1] += load
            self.cpu_s[-1].update(used)

    def _cpu_s(self) -> dict[str, float]:
        """Seconds so far of each hop's processes, of the observers, and of the whole machine."""
        found = {hop: sum(map(cpu.cpu_s, cpu.pids_inside(self.lab.world, hop))) for hop in HOPS}
        supervisor, *others = [cpu.cpu_s(pid) for pid in self.lab.observers] or [0.0]
        watching = {"supervisor": supervisor, "Prometheus and exporters": sum(others)}
        return {**found, **watching, "all": cpu.machine_s()}

    def costs_us(self, hop: str) -> list[float]:
        """CPU of one GET, round by round."""
        each = zip(self.cpu_s, self.gets, strict=True)
        return [used[hop] / load.requests * 1e6 for used, load in each]

    def post(self) -> None:
        customer = f"bench-{len(self.posts)}"
        with self.lab.awake(is_observed=self.is_observed):
            load = wrk.post(self.run, self.base + ORDERS, customer=customer, seconds=POST_S)
        # wrk ends with requests under way: some of those are orders, too.
        made = int(self.lab.sql(f"SELECT count(*) FROM orders WHERE customer_id = '{customer}'"))
        told = load.requests - load.refused
        if not told <= made <= told + wrk.CONNECTIONS + load.lost:
            raise SystemExit(f"{self.name}: {told} orders acknowledged, {made} made")
        if not told:
            raise SystemExit(f"{self.name}: no order of {load.requests} was acknowledged")
        self.posts.append(load)

    def rates(self, loads: list[wrk.Load], name: str) -> Row:
        return Row(f"{name}, {self.name}", [load.rate for load in loads], "/s")

    def costs(self) -> Row:
        return Row(self.name, self.costs_us("all"), "µs")


@dataclass(frozen=True)
class Pair:
    """Two ways that differ in one thing."""

    name: str
    part: Series
    whole: Series
    target: Bound

    def round(self) -> None:
        """Next to each other in time, and both equally early."""
        self.part.get(is_new_round=True)
        self.whole.get(is_new_round=True)
        self.whole.get(is_new_round=False)
        self.part.get(is_new_round=False)

    def rows(self) -> list[Row]:
        """Throughput, and the processor's time, which other work on the machine moves less."""
        get = f"GET {PAGE}"
        part, whole = self.part.rates(self.part.gets, get), self.whole.rates(self.whole.gets, get)
        costs = ratio(f"{self.name}: CPU, the other way", self.whole.costs(), self.part.costs())
        return [part, whole, ratio(self.name, part, whole, self.target), costs]


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
    variant: Callable[[Path], Path],
    *,
    is_observed: bool = False,
    database: str = "postgres-db",
    checkout: Path | None = None,
) -> Iterator[Lab]:
    """A variant that is up, with stock for every order and its observers asleep."""
    home = directory / name
    home.mkdir(mode=0o755)
    world = World.build(next_name(), home)
    if checkout is None:
        world = dataclasses.replace(world, stack=variant(home / "services"))
    else:
        world = Elsewhere(**vars(world), checkout=checkout)
    try:
        world.orchestrator("up", *(["--supervise"] if is_observed else [])).ok()
        observers = []
        if is_observed:
            supervisor = world.orchestrator("status", "--json").json()["supervisor"]
            observers = [supervisor, *cpu.pids_inside(world, "prometheus")]
        found = Lab(world, observers, database)
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
        slow = labs.enter_context(lab(home, "textbook", variants.textbook))
        shop = labs.enter_context(lab(home, "shop", variants.shop, is_observed=True))
        one = labs.enter_context(lab(home, "one", variants.loopback, database="nginx-lb"))
        host, outside = shop.world.on_host, shop.world.outside_
        textbook = Series("textbook", slow, slow.world.on_host, "http://127.0.0.1:8080")
        observed = Series("observed", shop, host, "http://127.0.0.1:8080", is_observed=True)
        plain = f"http://127.0.0.1:{variants.UNOBSERVED_PORT}"
        limited = f"http://{HOST_ADDRESS}:{variants.UNOBSERVED_PORT}"
        free = f"http://{HOST_ADDRESS}:{variants.OPEN_PORT}"
        inside = functools.partial(one.world.inside, "nginx-lb")
        pairs = [
            Pair(
                "observed ÷ unobserved",
                observed,
                Series("unobserved", shop, host, plain),
                at_least(0.95),
            ),
            Pair(
                "declared flows only ÷ every flow",
                Series("declared flows only", shop, host, plain),
                Series("every flow", shop, host, plain, has_flow_rules=False),
                at_least(0.97),
            ),
            Pair(
                "limits of the edge ÷ none",
                Series("from outside", shop, outside, limited),
                Series("from outside, no limits", shop, outside, free),
                at_least(0.97),
            ),
            Pair(
                "namespaces and NAT ÷ loopback",
                Series("unobserved, namespaces and NAT", shop, host, plain),
                Series("unobserved, one namespace over loopback", one, inside, "http://127.0.0.1"),
                at_least(0.95),
            ),
        ]
        for each in (textbook, *(way for pair in pairs for way in (pair.part, pair.whole))):
            each.warm()
        for _ in range(rounds):
            textbook.get(is_new_round=True)
            for pair in pairs:
                pair.round()
            textbook.get(is_new_round=False)
            for each in (textbook, observed):
                each.post()
    found = [*rows(textbook, observed), *(row for pair in pairs for row in pair.rows())]
    once = list({row.name: row for row in found}.values())  # one way is in two comparisons
    return Section("Requests", once, [METHOD, hops(observed)])


def rows(textbook: Series, observed: Series) -> list[Row]:
    slow, fast = (each.rates(each.gets, f"GET {PAGE}") for each in (textbook, observed))
    slow_orders, fast_orders = (
        each.rates(each.posts, f"POST {ORDERS}") for each in (textbook, observed)
    )
    middle = _times("p50 of textbook", [each.p50_us for each in textbook.gets])
    tail = _times("p99 of observed", [each.p99_us for each in observed.gets])
    return [
        slow,
        fast,
        ratio("GET: observed ÷ textbook", fast, slow, at_least(12)),
        middle,
        tail,
        ratio("p99 of observed ÷ p50 of textbook", tail, middle, at_most(1)),
        slow_orders,
        fast_orders,
        ratio("POST: observed ÷ textbook", fast_orders, slow_orders, at_least(10)),
    ]


def _times(name: str, times_us: list[int]) -> Row:
    return Row(f"GET {PAGE}, {name}", [each / 1e3 for each in times_us], "ms")


def hops(series: Series) -> str:
    """Where the CPU of one request goes."""
    middles = {hop: statistics.median(series.costs_us(hop)) for hop in series.cpu_s[0]}
    shown = ", ".join(f"{hop} {us:.0f}" for hop, us in middles.items() if hop != "all")
    return f"CPU of one GET, {series.name}, in µs: {shown}; all of it {middles['all']:.0f}."


def against(rounds: int, revision: str) -> Section:
    """The shop of this tree and of another revision, by turns."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as labs:
        home = Path(directory)
        home.chmod(0o755)
        checkout = home / "checkout"
        checkout.mkdir(mode=0o755)
        line = f"git -C {ROOT} archive {shlex.quote(revision)} | tar -x -C {checkout}"
        sh(f"set -o pipefail; {line}")
        found = []
        for name, where in ((revision, checkout), ("here", ROOT)):
            up = lab(home, f"lab-{name}", variants.shop, is_observed=True, checkout=where)
            each = labs.enter_context(up)
            on_host = each.world.on_host
            found.append(Series(name, each, on_host, "http://127.0.0.1:8080", is_observed=True))
        for number in range(rounds):
            for one in found[:: -1 if number % 2 else 1]:
                one.get(is_new_round=True)
                one.post()
    before, now = found
    gets = [each.rates(each.gets, "GET") for each in found]
    posts = [each.rates(each.posts, "POST") for each in found]
    measured = [
        *gets,
        ratio(f"GET, here ÷ {revision}", gets[1], gets[0]),
        *posts,
        ratio(f"POST, here ÷ {revision}", posts[1], posts[0]),
    ]
    return Section(f"Requests, here and at {revision}", measured, [hops(before), hops(now)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.requests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", metavar="REVISION", help="compare with this revision instead")
    given = parser.parse_args()
    section = against(given.rounds, given.against) if given.against else measure(given.rounds)
    sys.stdout.write(text([section]))


if __name__ == "__main__":
    main()
