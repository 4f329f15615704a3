"""Prometheus metrics of the supervisor, in the text format or OpenMetrics with exemplars."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Protocol

from orchestrator.beat import beat
from orchestrator.exposition import (
    OPEN_TYPE,
    TEXT_TYPE,
    Buckets,
    Families,
    Family,
    Sheet,
    Table,
    alone,
    is_open_wanted,
)
from orchestrator.exposition import Exemplar as Shown
from orchestrator.path.spans import HEALTH
from orchestrator.path.totals import BOUNDS_US, Exemplar, Histogram, Key, added_up
from orchestrator.path.watch import PathWatch

# A scrape has a budget (1,500 samples for the shop), and buckets are most of it. So no bucket
# is shown below what a whole request takes at least, nor above what one hop takes before its
# caller gives up, or a way on a machine that serves at all; what is counted there is in the next
# bucket that is shown.
WHOLE_US = (500, 5_000_000)
PART_US = (25, 250_000)
WAY_US = (25, 100_000)
HANDSHAKE_US = (25, 10_000)  # beyond it a packet was lost, which costs a second at least

INFO = Family(
    "orchestrator_build_info", "gauge", ("version",), "Build of the running orchestrator."
)
TOOK = Family(
    "orchestrator_scrape_seconds",
    "gauge",
    (),
    "CPU time that the last rendering of these metrics took.",
)
LAG = Family(
    "orchestrator_event_loop_lag_seconds",
    "gauge",
    (),
    "Lateness of a timer, the greatest of the last minute.",
)


class Source(Protocol):
    """Something that has metrics to tell."""

    def families(self) -> Families:
        """Quick, since it is called on the event loop."""
        ...


class Metrics:
    """Everything that is told to Prometheus."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._before: list[Callable[[], Awaitable[None]]] = []
        self._sheets = {is_open: Sheet(is_open=is_open) for is_open in (False, True)}
        self._info = alone(1, version("orchestrator"))
        self._took_s = 0.0

    def add(self, source: Source, *, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """`before` is awaited ahead of each rendering."""
        self._sources.append(source)
        if before is not None:
            self._before.append(before)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for a scraper's Accept header."""
        for each in self._before:
            await each()
        begun_s = time.thread_time()
        is_open = is_open_wanted(accept)
        body = self._sheets[is_open].text(self._families()).encode()
        self._took_s = time.thread_time() - begun_s
        return body, OPEN_TYPE if is_open else TEXT_TYPE

    def _families(self) -> Iterator[tuple[Family, Table]]:
        yield INFO, self._info
        yield TOOK, alone(self._took_s)
        for source in self._sources:
            yield from source.families()


class PathCollector:
    """The request path: what the edge's log and the synthetic request tell."""

    def __init__(self, watch: PathWatch) -> None:
        self._watch = watch

    def families(self) -> Families:
        self._watch.refresh()
        totals = self._watch.reader.totals
        requests = list(totals.request.items())
        yield _histogram(
            "orchestrator_request_duration_seconds",
            "Request through the edge as it saw it.",
            ("route",),
            added_up((key[:1], each) for key, each in requests),
            totals.exemplars,
            shown_us=WHOLE_US,
        )
        yield _counter(
            "orchestrator_requests",
            "Requests through the edge by the class of their status.",
            ("route", "code_class"),
            {key: each.count for key, each in requests},
        )
        hops = list(totals.hop.items())
        yield _histogram(
            "orchestrator_hop_self_seconds",
            f"Exclusive time of a hop per request; without those to {HEALTH}. Under load 1 in 16 "
            "is accounted for and counts for 16.",
            ("hop",),
            added_up((key[:1], each) for key, each in hops if key[1] != HEALTH),
        )
        yield _histogram(
            "orchestrator_edge_transit_seconds",
            "One-way time between hops on the shared clock, queueing included; under load 1 in 16.",
            ("client", "server", "direction"),
            totals.transit,
            shown_us=WAY_US,
        )
        yield _histogram(
            "orchestrator_request_unattributed_seconds",
            "Request time not covered by any hop or edge.",
            (),
            totals.unattributed,
            shown_us=WAY_US,
        )
        yield _counter(
            "orchestrator_edge_requests",
            "Calls on an edge by the class of their result; under load 1 in 16, counting for 16.",
            ("client", "server", "code_class"),
            totals.edges,
        )
        yield _counter("orchestrator_traces", "Assembled traces.", ("result",), totals.results)
        yield _counter(
            "orchestrator_ingest_dropped",
            "Measurements lost before aggregation.",
            ("source",),
            {("path_log",): totals.results["dropped",]},
        )
        resolution = Family(
            "orchestrator_hop_clock_resolution_seconds",
            "gauge",
            ("hop",),
            "Resolution of the hop's timestamps.",
        )
        yield resolution, {key: value / 1e6 for key, value in totals.resolution_us.items()}
        if (prober := self._watch.prober) is not None:
            yield _histogram(
                "orchestrator_probe_duration_seconds",
                "Synthetic request as the client saw it.",
                ("phase",),
                prober.phases,
                shown_us=WHOLE_US,
            )
            yield _histogram(
                "orchestrator_ingress_handshake_seconds",
                "From SYN to SYN-ACK of the synthetic request, through DNAT and bridge, by the "
                "kernel's clock.",
                (),
                prober.handshake,
                shown_us=HANDSHAKE_US,
            )
            yield _counter(
                "orchestrator_probes", "Synthetic requests.", ("result",), prober.results
            )


def _histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    table: dict[Key, Histogram],
    exemplars: dict[Key, dict[int, Exemplar]] | None = None,
    *,
    shown_us: tuple[int, int] = PART_US,
) -> tuple[Family, Table]:
    """`shown_us` are the lowest and the highest bound that is shown."""
    lowest_us, highest_us = shown_us
    shown = slice(BOUNDS_US.index(lowest_us), BOUNDS_US.index(highest_us) + 1)
    bounds = (*(f"{bound / 1e6:g}" for bound in BOUNDS_US[shown]), "+Inf")
    found = {}
    for key, each in list(table.items()):
        counts = list(accumulate(each.counts))
        known = (exemplars or {}).get(key)
        found[key] = Buckets(
            bounds,
            (*counts[shown], counts[-1]),
            each.sum_us / 1e6,
            () if known is None else _exemplars(dict(known), shown),
        )
    return Family(name, "histogram", labels, text), found


def _exemplars(known: dict[int, Exemplar], shown: slice) -> tuple[Shown | None, ...]:
    """One for each bucket that is shown: of those that it holds, of the highest that has one."""
    found: list[Shown | None] = []
    last: Shown | None = None
    for number in range(len(BOUNDS_US) + 1):
        if number in known:
            request, at_s = known[number].request, known[number].at_s
            last = Shown(request.trace, request.total_us / 1e6, at_s)
        if shown.start <= number < shown.stop or number == len(BOUNDS_US):
            found.append(last)
            last = None
    return tuple(found)


def _counter(
    name: str, text: str, labels: tuple[str, ...], table: dict[Key, int]
) -> tuple[Family, Table]:
    return Family(name, "counter", labels, text), dict(table)


class LoopLag:
    """How late a timer of the event loop fires: what everything else in this process waits."""

    EVERY_S, KEPT_S = 1.0, 60

    def __init__(self) -> None:
        self._recent_s = deque([0.0], maxlen=int(self.KEPT_S / self.EVERY_S))

    async def run(self) -> None:
        while True:
            self._recent_s.append(await beat(self.EVERY_S))

    def families(self) -> Families:
        return [(LAG, alone(max(self._recent_s)))]
