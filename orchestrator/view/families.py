"""Every metric of the kernel's view: name, kind, labels, help. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.exposition import Family, Labels

EDGE = ("client", "server")

Figures = Mapping[Family, Mapping[Labels, float]]


def counter(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, "counter", labels, text)


def gauge(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, "gauge", labels, text)


CPU = counter("orchestrator_hop_cpu_seconds", ("hop",), "On-CPU time of the hop's threads.")
RUNQUEUE = counter(
    "orchestrator_hop_runqueue_seconds",
    ("hop",),
    "Runnable-but-waiting time of the hop's threads.",
)
RESIDENT = gauge(
    "orchestrator_hop_resident_memory_bytes",
    ("hop",),
    "RSS; memory that the hop's processes share counts once.",
)
DESCRIPTORS = gauge(
    "orchestrator_hop_open_fds", ("hop",), "Open file descriptors of the hop's processes."
)
QUEUE = gauge("orchestrator_listener_accept_queue", ("hop",), "Connections waiting to be accepted.")
QUEUE_LIMIT = gauge("orchestrator_listener_accept_queue_limit", ("hop",), "Backlog.")
MIN_RTT = gauge(
    "orchestrator_edge_tcp_min_rtt_seconds",
    EDGE,
    "Lowest kernel RTT of the edge's sockets; NaN while it has none.",
)
CONNECTIONS = gauge("orchestrator_edge_tcp_connections", (*EDGE, "state"), "Sockets of the edge.")
RETRANSMITS = counter("orchestrator_edge_tcp_retransmits", EDGE, "Segments retransmitted.")
LINK = {
    (way, what): counter(
        f"orchestrator_link_{way}_{what}",
        ("link", "hop"),
        f"veth {what}: {way}, seen from inside the namespace.",
    )
    for way in ("receive", "transmit")
    for what in ("bytes", "packets", "drops", "errors")
}
NAT_PACKETS = counter(
    "orchestrator_nat_packets", ("rule",), "Packets that met this iptables rule of ours."
)
NAT_BYTES = counter(
    "orchestrator_nat_bytes", ("rule",), "Bytes that met this iptables rule of ours."
)
CONNTRACK = gauge("orchestrator_conntrack_entries", (), "Connection tracking table.")
CONNTRACK_LIMIT = gauge(
    "orchestrator_conntrack_entries_limit", (), "Connection tracking table: most entries."
)

FAMILIES = (
    CPU,
    RUNQUEUE,
    RESIDENT,
    DESCRIPTORS,
    QUEUE,
    QUEUE_LIMIT,
    MIN_RTT,
    CONNECTIONS,
    RETRANSMITS,
    *LINK.values(),
    NAT_PACKETS,
    NAT_BYTES,
    CONNTRACK,
    CONNTRACK_LIMIT,
)
