"""Answers to scrapes: what metrics.py has counted, and what the kernel says of the process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.metrics import Requests


class _Silent(WSGIRequestHandler):
    """A scrape is no line in the log."""

    def log_message(self, *_: object) -> None:
        pass


class _Requests(Collector):
    """The counted ones as metrics."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        hop = self._requests.hop
        inside = GaugeMetricFamily(
            "orchestrator_hop_in_flight", "Requests inside the hop.", labels=("hop",)
        )
        inside.add_metric((hop,), max(0, self._requests.inside))
        yield inside
        answered = CounterMetricFamily(
            "orchestrator_hop_requests",
            "Requests that the hop answered.",
            labels=("hop", "code_class"),
        )
        for code_class, count in self._requests.answered.items():
            answered.add_metric((hop, code_class), count)
        yield answered


def serve_forever(listening: socket.socket, requests: Requests) -> None:
    """Answers whoever connects to that listening socket."""
    ServerHandler.server_software = requests.hop  # not the versions of Python and its library
    registry = CollectorRegistry()
    registry.register(_Requests(requests))
    ProcessCollector(registry=registry)
    server = ThreadingWSGIServer(listening.getsockname(), _Silent, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = requests.hop, listening.getsockname()[1]
    server.setup_environ()
    server.set_app(make_wsgi_app(registry))
    server.serve_forever()
