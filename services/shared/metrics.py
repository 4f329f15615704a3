"""A service's own metrics for Prometheus, on a port and a thread of their own."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from wsgiref.simple_server import ServerHandler

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PORT = 9100
RETRY_S = 0.5  # while the process that we replace still has the port


class Requests(Collector):
    """Requests inside this hop, and those that were answered, by the class of their status.

    Plain numbers: under one thread at a time (aiohttp) or the interpreter's lock they are
    right to within what a scrape could tell apart, at a tenth of a metric object's cost.
    """

    def __init__(self, hop: str) -> None:
        self._hop = hop
        self.begun = 0
        self.answered = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)

    def answer(self, status: int) -> None:
        self.answered[f"{status // 100}xx"] += 1

    @property
    def inside(self) -> int:
        return self.begun - sum(self.answered.values())

    def collect(self) -> Iterator[Metric]:
        inside = GaugeMetricFamily(
            "orchestrator_hop_in_flight", "Requests inside the hop.", labels=("hop",)
        )
        inside.add_metric((self._hop,), max(0, self.inside))
        yield inside
        answered = CounterMetricFamily(
            "orchestrator_hop_requests",
            "Requests that the hop answered.",
            labels=("hop", "code_class"),
        )
        for code_class, count in self.answered.items():
            answered.add_metric((self._hop, code_class), count)
        yield answered


def serve(hop: str) -> Requests:
    """Begins to answer scrapes; returns what is to be counted."""
    ServerHandler.server_software = hop  # not the versions of Python and its library
    requests, registry = Requests(hop), CollectorRegistry()
    registry.register(requests)
    ProcessCollector(registry=registry)

    def listen() -> None:
        while True:
            try:
                start_http_server(PORT, registry=registry)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return
                time.sleep(RETRY_S)

    threading.Thread(target=listen, name="metrics", daemon=True).start()
    return requests
