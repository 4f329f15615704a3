"""What is now: queues, connections, memory. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.exposition import Labels
from orchestrator.processes.usage import Usage
from orchestrator.view import families
from orchestrator.view.edges import STATES, End, Queue
from orchestrator.view.families import Figures
from orchestrator.view.plan import Edge, Plan
from orchestrator.view.sample import Sample

US_PER_S = 1e6


def gauges(
    plan: Plan,
    sample: Sample,
    queues: Mapping[str, Queue],
    ends: Iterable[End],
    edges: Sequence[Edge],
) -> Figures:
    """All of them for these edges, every hop, and other edges that have a socket now; 0 for
    what is not there now."""
    entries, limit = sample.conntrack or (0, 0)
    hops = [hop.name for hop in plan.hops if hop.program is not None]
    used = {hop: sample.usage.get(hop, Usage()) for hop in hops}
    waiting = {hop: queues.get(hop, Queue()) for hop in hops}
    return {
        families.RESIDENT: {(hop,): float(each.resident_bytes) for hop, each in used.items()},
        families.DESCRIPTORS: {(hop,): float(each.descriptors) for hop, each in used.items()},
        families.QUEUE: {(hop,): float(queue.waiting) for hop, queue in waiting.items()},
        families.QUEUE_LIMIT: {(hop,): float(queue.limit) for hop, queue in waiting.items()},
        **_sockets(ends, edges),
        families.CONNTRACK: {(): float(entries)},
        families.CONNTRACK_LIMIT: {(): float(limit)},
    }


def _sockets(ends: Iterable[End], edges: Sequence[Edge]) -> Figures:
    connections: dict[Labels, float] = {(*edge, state): 0.0 for edge in edges for state in STATES}
    # 0 would be a lie where there is no socket: NaN makes a gap in a graph.
    fastest: dict[Labels, float] = {tuple(edge): math.nan for edge in edges}
    for end in ends:
        if end.counts:
            key = (*end.edge, end.state)
            connections[key] = connections.get(key, 0.0) + 1
        if end.socket.min_rtt_us is not None:
            rtt_s = end.socket.min_rtt_us / US_PER_S
            # In this order, since nothing is less than NaN.
            fastest[tuple(end.edge)] = min(rtt_s, fastest.get(tuple(end.edge), math.nan))
    return {families.CONNECTIONS: connections, families.MIN_RTT: fastest}
