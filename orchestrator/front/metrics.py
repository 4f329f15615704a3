"""Prometheus metrics of the supervisor, in the text format or OpenMetrics with exemplars."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as Sample

from orchestrator.linux import in_thread
from orchestrator.path.spans import HEALTH
from orchestrator.path.totals import BOUNDS_US, Exemplar, Histogram, Key, added_up
from orchestrator.path.watch import PathWatch

# A scrape has a budget (1,500 samples for the shop), and buckets are most of it. So no bucket
# is shown below what a whole request takes at least, nor above what one hop or way takes before
# its caller gives up; what is counted there is in the next bucket that is shown.
WHOLE_US = (250, 5_000_000)
PART_US = (25, 1_000_000)


class Metrics:
    """Everything that is registered, rendered away from the event loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._before: list[Callable[[], Awaitable[None]]] = []
        info = Gauge(
            "orchestrator_build_info",
            "Build of the running orchestrator.",
            ["version"],
            registry=self.registry,
        )
        info.labels(version("orchestrator")).set(1)
        self._took = Gauge(
            "orchestrator_scrape_seconds",
            "CPU time that the last rendering of these metrics took.",
            registry=self.registry,
        )

    def add(
        self, collector: Collector, *, before: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """`before` is awaited ahead of each rendering."""
        self.registry.register(collector)
        if before is not None:
            self._before.append(before)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for a scraper's Accept header."""
        for each in self._before:
            await each()
        return await in_thread(self._render, accept)

    def _render(self, accept: str) -> tuple[bytes, str]:
        begun_s = time.thread_time()
        encoder, content_type = choose_encoder(accept)
        body: bytes = encoder(self.registry)
        self._took.set(time.thread_time() - begun_s)
        return body, content_type


class PathCollector(Collector):
    """The request path: what the edge's log and the synthetic request tell."""

    def __init__(self, watch: PathWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
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
            f"Exclusive time of a hop per request; without those to {HEALTH}.",
            ("hop",),
            added_up((key[:1], each) for key, each in hops if key[1] != HEALTH),
        )
        yield _histogram(
            "orchestrator_edge_transit_seconds",
            "One-way time between hops on the shared clock, queueing included.",
            ("client", "server", "direction"),
            totals.transit,
        )
        yield _histogram(
            "orchestrator_request_unattributed_seconds",
            "Request time not covered by any hop or edge.",
            (),
            totals.unattributed,
        )
        yield _counter(
            "orchestrator_edge_requests",
            "Calls on an edge by the class of their result.",
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
        resolution = GaugeMetricFamily(
            "orchestrator_hop_clock_resolution_seconds",
            "Resolution of the hop's timestamps.",
            labels=("hop",),
        )
        for key, value in totals.resolution_us.items():
            resolution.add_metric(key, value / 1e6)
        yield resolution
        if (prober := self._watch.prober) is not None:
            yield _histogram(
                "orchestrator_probe_duration_seconds",
                "Synthetic request as the client saw it.",
                ("phase",),
                prober.phases,
                shown_us=WHOLE_US,
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
) -> HistogramMetricFamily:
    """`shown_us` are the lowest and the highest bound that is shown."""
    family = HistogramMetricFamily(name, text, labels=labels)
    lowest_us, highest_us = shown_us
    for key, each in list(table.items()):
        known = dict((exemplars or {}).get(key, {}))
        buckets: list[tuple[str, float, Sample | None]] = []
        count, found = 0, None
        for number, bound_us in enumerate((*BOUNDS_US, math.inf)):
            count += each.counts[number]
            found = known.get(number, found)
            if bound_us < lowest_us or highest_us < bound_us < math.inf:
                continue
            sample = None
            if found is not None:
                shown = {"trace_id": found.request.trace}
                sample = Sample(shown, found.request.total_us / 1e6, found.at_s)
            buckets.append(
                ("+Inf" if bound_us == math.inf else f"{bound_us / 1e6:g}", count, sample)
            )
            found = None
        family.add_metric(key, buckets, each.sum_us / 1e6)  # type: ignore[arg-type] # None: none
    return family


def _counter(
    name: str, text: str, labels: tuple[str, ...], table: dict[Key, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in list(table.items()):
        family.add_metric(key, value)
    return family


class LoopLag:
    """How late a timer of the event loop fires: what everything else in this process waits."""

    EVERY_S = 0.5

    def __init__(self, metrics: Metrics) -> None:
        self._lag = Gauge(
            "orchestrator_event_loop_lag_seconds",
            "Lateness of a timer, the greatest of the last minute.",
            registry=metrics.registry,
        )
        self._recent: list[float] = []

    async def run(self) -> None:
        while True:
            due_s = time.monotonic() + self.EVERY_S
            await asyncio.sleep(self.EVERY_S)
            self._recent = [*self._recent[-119:], max(0.0, time.monotonic() - due_s)]
            self._lag.set(max(self._recent))
