"""Figures as Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.view.families import FAMILIES, Family, Figures


class KernelCollector(Collector):
    """Gives what was shown to it last; reads nothing itself, so a scrape cannot fail by it."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def show(self, figures: Figures) -> None:
        """From another thread too: the whole is replaced at once."""
        self._figures = figures

    def describe(self) -> Iterator[Metric]:
        """Names alone, for the registry to find what is given twice."""
        for family in FAMILIES:
            yield _empty(family)

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        for family in FAMILIES:
            metric = _empty(family)
            for labels, value in figures.get(family, {}).items():
                metric.add_metric(labels, value)
            yield metric


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return kind(family.name, family.help, labels=family.labels)
