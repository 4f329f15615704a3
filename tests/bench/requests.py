"""Requests at c = 50: the textbook services, the shop, and what its parts cost it.

The textbook's is a distance of an order of magnitude, for which wrk's seconds will do. What the
parts cost is a matter of hundredths: see bench.pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import shlex
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rig import HOST_ADDRESS, ROOT, sh

from bench import cpu, pairs, turns, variants, wrk
from bench.labs import PAGE, Lab, lab
from bench.pairs import Pair, Way, between
from bench.rows import Row, Section, at_least, at_most, ratio, text

GET_S, POST_S = 1, 2
WHOLE_TURN_S = 0.5  # where something is changed before each
# Observers that stood still have missed things that they make up for first.
OBSERVERS_WARM_S, OBSERVED_S, OBSERVED_ROUND_S = 1.0, 1.5, 18.0
ORDERS = "/api/orders"
HOPS = ("nginx-lb", "api-gateway", "product-service", "order-service", "redis-cache", "postgres-db")

NAMESPACES = "unobserved, namespaces and NAT"
LOOPBACK = "unobserved, one namespace over loopback"

METHOD = (
    f"wrk with {wrk.CONNECTIONS} keep-alive connections, from the lab's host, {GET_S} s each, "
    f"{POST_S} s of orders. "
    "Textbook is the same platform with Flask's own server, `requests`, and a connection for "
    "every query, to PostgreSQL and Redis alike ([tests/bench/baseline](../tests/bench/baseline)); "
    "what it refuses is not counted, anybody else's refusal ends the bench. "
    "Observed means hop accounting, the supervisor, Prometheus and its exporters; they stand "
    "still while anything else is measured. Orders go to ten products, each with an "
    "Idempotency-Key of its own; fsync is on, and after every slice the database is asked: all "
    "acknowledged orders were there."
)
TURNS = (
    "What the parts cost is asked by turns: one process has "
    f"{turns.CONNECTIONS} keep-alive connections to either way, and asks one, then the other, in "
    f"an order by lot, {pairs.TURN_S * 1e3:.0f} ms each; {WHOLE_TURN_S * 1e3:.0f} ms where rules "
    f"are changed in between, {OBSERVED_S * 1e3:.0f} ms for the observers, which come "
    "to themselves first. Loopback is compared with a lab that differs in that alone; both are "
    f"taken down and brought up again {pairs.INSTANCES} times a round: two labs of one stack "
    "differ by some hundredths for as long as they live. CPU is all that the machine's processors "
    "did meanwhile, that process and softirqs included. The host is as one on which nobody has "
    "loaded br_netfilter. For the limits of the edge the client is outside, since the host itself "
    "has none."
)


@dataclass
class Series:
    """One way to ask one lab, and what was measured of it, round by round."""

    name: str
    lab: Lab
    run: wrk.Run
    base: str
    is_observed: bool = False
    may_refuse: bool = False
    gets: list[wrk.Load] = field(default_factory=list)
    posts: list[wrk.Load] = field(default_factory=list)
    cpu_s: list[Counter[str]] = field(default_factory=list)  # of the GETs, by hop

    def warm(self) -> None:
        """What is asked for is in the cache afterwards, and connections are there."""
        wrk.get(self.run, self.base + PAGE, seconds=GET_S)

    def get(self, *, is_new_round: bool) -> None:
        """A slice of a round."""
        with self.lab.awake(is_observed=self.is_observed):
            if self.is_observed:  # what they missed meanwhile they make up for now
                self.warm()
            before = self._cpu_s()
            load = wrk.get(self.run, self.base + PAGE, seconds=GET_S)
            used = Counter({hop: now - before[hop] for hop, now in self._cpu_s().items()})
        if (load.refused or load.lost) and not self.may_refuse:
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


def measure(rounds: int) -> Section:
    """The part of `make bench`."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as labs:
        home = Path(directory)
        home.chmod(0o755)
        slow = labs.enter_context(lab(home, "textbook", variants.textbook))
        shop = labs.enter_context(lab(home, "shop", variants.shop, is_observed=True))
        several = labs.enter_context(lab(home, "several", variants.namespaces))
        one = labs.enter_context(lab(home, "one", variants.loopback, database="nginx-lb"))
        host = shop.world.on_host
        textbook = Series(
            "textbook", slow, slow.world.on_host, "http://127.0.0.1:8080", may_refuse=True
        )
        observed = Series("observed", shop, host, "http://127.0.0.1:8080", is_observed=True)
        apart = Series(NAMESPACES, several, several.world.on_host, "http://127.0.0.1:8080")
        inside = functools.partial(one.world.inside, "nginx-lb")
        together = Series(LOOPBACK, one, inside, "http://127.0.0.1:80")
        compared = pairs_of(shop, several, one, labs.enter_context(shop.flow_rules()))
        for each in (textbook, observed):
            each.warm()
        for _ in range(rounds):
            for is_new_round, turn in ((True, (textbook, observed)), (False, (observed, textbook))):
                for each in turn:
                    each.get(is_new_round=is_new_round)
            for pair in compared:
                pair.round()
            for each in (textbook, observed, apart, together, together, apart):
                each.post()
    found = rows(textbook, observed)
    found += [row for pair in compared for row in pair.rows(f"GET {PAGE} by turns")]
    found += orders_of(apart, together)
    once = list({row.name: row for row in found}.values())  # one way is in several comparisons
    margins = "95 % confidence, of all turns together: "
    margins += "; ".join(pair.margin() for pair in compared) + "."
    return Section("Requests", once, [METHOD, hops(observed), TURNS, margins])


def pairs_of(shop: Lab, several: Lab, one: Lab, flow_rules: Callable[[str], None]) -> list[Pair]:
    """What is compared in hundredths. The same processes serve both ways, but for the edge, and
    for several namespaces and one, which are labs of their own."""
    host, outside, port = shop.world.host, shop.world.outside, variants.UNOBSERVED_PORT
    local = "127.0.0.1"
    plain = shop.client(host, local, port)
    return [
        Pair(
            "observed ÷ unobserved",
            Way(
                "observed",
                shop.client(host, local, 8080),
                functools.partial(shop.awake, is_observed=True),
                OBSERVERS_WARM_S,
            ),
            Way("unobserved", plain, contextlib.nullcontext),
            at_least(0.95),
            OBSERVED_S,
            OBSERVED_ROUND_S,
        ),
        Pair(
            "declared flows only ÷ every flow",
            Way("declared flows only", plain, contextlib.nullcontext),
            Way("every flow", plain, lambda: between(flow_rules, "off", "on")),
            at_least(0.97),
            WHOLE_TURN_S,
        ),
        Pair(
            "limits of the edge ÷ none",
            Way("from outside", shop.client(outside, HOST_ADDRESS, port)),
            Way(
                "from outside, no limits",
                shop.client(outside, HOST_ADDRESS, variants.OPEN_PORT),
            ),
            at_least(0.97),
        ),
        Pair(
            "GET: namespaces and NAT ÷ loopback",
            Way(
                NAMESPACES,
                several.client(several.world.host, local, 8080),
            ),
            Way(
                LOOPBACK,
                one.client(f"{one.world.host}.nginx-lb", local, 80),
            ),
            at_least(0.95),
            anew=functools.partial(renew, several, one),
        ),
    ]


def renew(*labs: Lab) -> None:
    """Takes them down and brings them up again, in an order by lot."""
    for each in random.sample(labs, len(labs)):
        each.world.orchestrator("down").ok()
        each.world.orchestrator("up").ok()
        each.bridge_only()


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


def orders_of(apart: Series, together: Series) -> list[Row]:
    several, one = (each.rates(each.posts, f"POST {ORDERS}") for each in (apart, together))
    name = "POST: namespaces and NAT ÷ loopback"
    return [several, one, ratio(name, several, one, at_least(0.95))]


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
