"""Totals that never fall, though what is counted comes and goes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from orchestrator.exposition import Labels
from orchestrator.view import families
from orchestrator.view.edges import INGRESS, End
from orchestrator.view.families import Figures
from orchestrator.view.plan import Edge, Link, Plan
from orchestrator.view.sample import Sample

NS_PER_S = 1e9
K = TypeVar("K", bound=Hashable)

LINK_FIELDS = {
    ("receive", "bytes"): "rx_bytes",
    ("receive", "packets"): "rx_packets",
    ("receive", "drops"): "rx_dropped",
    ("receive", "errors"): "rx_errors",
    ("transmit", "bytes"): "tx_bytes",
    ("transmit", "packets"): "tx_packets",
    ("transmit", "drops"): "tx_dropped",
    ("transmit", "errors"): "tx_errors",
}


class Odometer(Generic[K]):
    """How far counters have come since the last reading of them.

    A counter that is new has come all of its way since, one that fell has begun anew. Those
    of the very first reading have come nowhere: totals begin at 0 with their supervisor. Kept
    from before they would fall with its restart, by what had ended until then, and Prometheus
    would take all that is left for an increase.
    """

    def __init__(self) -> None:
        self._last: dict[K, int] | None = None

    def advance(self, values: Mapping[K, int]) -> dict[K, int]:
        """By counter; what is missing now is forgotten."""
        before, self._last = self._last, dict(values)
        if before is None:
            return dict.fromkeys(values, 0)
        found = {}
        for key, value in values.items():
            last = before.get(key, 0)
            found[key] = value - last if value >= last else value
        return found


class Totals:
    """Adds up the counters of samples, in the order in which they were taken."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cpu_ns = {hop.name: 0 for hop in plan.hops if hop.program is not None}
        self._runqueue_ns = dict(self._cpu_ns)
        ingress = [Edge(INGRESS, hop.name) for hop in plan.hops if hop.published]
        self.edges = (*plan.edges, *ingress)  # the stack's own; others are told of when seen
        self._retransmits = dict.fromkeys(self.edges, 0)
        links = [link for each in plan.links.values() for link in each]
        self._links = {key: dict.fromkeys(links, 0) for key in LINK_FIELDS}
        self._packets = {plan.label(rule.table, rule.comment): 0 for rule in plan.rules}
        self._bytes = dict(self._packets)
        # What could not be read this time goes on from its last reading: one for each place.
        self._threads: _ByPlace[tuple[int, int]] = defaultdict(Odometer)
        self._counters: _ByPlace[tuple[str, int, int]] = defaultdict(Odometer)
        self._sockets: _ByPlace[tuple[int, int]] = defaultdict(Odometer)
        self._rules: Odometer[tuple[str, Hashable, int]] = Odometer()

    def add(self, sample: Sample, ends: Iterable[End]) -> None:
        self._add_threads(sample)
        self._add_links(sample)
        self._add_retransmits(sample, ends)
        self._add_rules(sample)

    def figures(self) -> Figures:
        """Every total, those included that nothing was added to."""
        return {
            families.CPU: {(hop,): ns / NS_PER_S for hop, ns in self._cpu_ns.items()},
            families.RUNQUEUE: {(hop,): ns / NS_PER_S for hop, ns in self._runqueue_ns.items()},
            families.RETRANSMITS: _floats(self._retransmits),
            **{families.LINK[key]: _floats(totals) for key, totals in self._links.items()},
            families.NAT_PACKETS: {(rule,): float(n) for rule, n in self._packets.items()},
            families.NAT_BYTES: {(rule,): float(n) for rule, n in self._bytes.items()},
        }

    def _add_threads(self, sample: Sample) -> None:
        for hop, used in sample.usage.items():
            values = {
                (thread, index): times[index]
                for thread, times in used.threads.items()
                for index in (0, 1)
            }
            for (_, index), came in self._threads[hop].advance(values).items():
                (self._runqueue_ns if index else self._cpu_ns)[hop] += came

    def _add_links(self, sample: Sample) -> None:
        for space, links in self._plan.links.items():
            seen = sample.spaces.get(space)
            for link in links:
                if seen is None or (found := seen.links.get(link.name)) is None:
                    continue
                values = {
                    (field, seen.inode, found.ifindex): int(getattr(found, field))
                    for field in LINK_FIELDS.values()
                }
                came = self._counters[link.name, link.hop].advance(values)
                for key, field in LINK_FIELDS.items():
                    self._links[key][link] += came[field, seen.inode, found.ifindex]

    def _add_retransmits(self, sample: Sample, ends: Iterable[End]) -> None:
        values: dict[str, dict[tuple[int, int], int]] = {space: {} for space in sample.spaces}
        edges: dict[tuple[int, int], Edge] = {}
        for end in ends:
            self._retransmits.setdefault(end.edge, 0)
            key = (end.inode, end.socket.cookie)
            values[end.space][key], edges[key] = end.socket.retransmits, end.edge
        for space, each in values.items():
            for key, came in self._sockets[space].advance(each).items():
                self._retransmits[edges[key]] += came

    def _add_rules(self, sample: Sample) -> None:
        if sample.rules is None:
            return
        values = {
            (label, rule.identity, index): counted
            for rule in sample.rules
            if (label := self._plan.label(rule.table, rule.comment)) in self._packets
            for index, counted in enumerate((rule.packets, rule.bytes))
        }
        for (label, _, index), came in self._rules.advance(values).items():
            (self._bytes if index else self._packets)[label] += came


_ByPlace = defaultdict[Hashable, Odometer[K]]


def _floats(totals: Mapping[Edge, int] | Mapping[Link, int]) -> dict[Labels, float]:
    return {tuple(labels): float(total) for labels, total in totals.items()}
