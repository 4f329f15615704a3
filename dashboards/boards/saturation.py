"""What is scarce: CPU, queues, links, tables."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import R
from dashboards.panels import lines

SLUG = "saturation"
TITLE = "Saturation"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "Processes",
        [
            lines(
                "CPU",
                "Cores that each hop's threads used.",
                "short",
                [(f"rate(orchestrator_hop_cpu_seconds_total{R})", "{{hop}}")],
                stacked=True,
            ),
            lines(
                "Waiting for a core",
                "Cores' worth of time that threads were runnable and did not run.",
                "short",
                [(f"rate(orchestrator_hop_runqueue_seconds_total{R})", "{{hop}}")],
                stacked=True,
            ),
            lines(
                "Memory",
                "Resident memory of each hop's processes.",
                "bytes",
                [("orchestrator_hop_resident_memory_bytes", "{{hop}}")],
            ),
            lines(
                "Requests inside",
                "Requests that are inside a hop at the moment.",
                "short",
                [("orchestrator_hop_in_flight", "{{hop}}")],
            ),
        ],
    ),
    (
        "Network",
        [
            lines(
                "Accept queues",
                "Share of its backlog that waits to be accepted.",
                "percentunit",
                [
                    (
                        (
                            "orchestrator_listener_accept_queue"
                            " / (orchestrator_listener_accept_queue_limit > 0)"
                        ),
                        "{{hop}}",
                    )
                ],
                limit=0.5,
            ),
            lines(
                "Retransmits",
                "Segments sent again, a second; on one host there should be none.",
                "short",
                [
                    (
                        (
                            "sum by (client, server)"
                            f" (rate(orchestrator_edge_tcp_retransmits_total{R}))"
                        ),
                        "{{client}} → {{server}}",
                    )
                ],
            ),
            lines(
                "Drops and errors of links",
                "Packets that a veth dropped or found damaged, a second.",
                "pps",
                [
                    (
                        f"sum by (hop) (rate(orchestrator_link_receive_drops_total{R}))",
                        "{{hop}} in",
                    ),
                    (
                        f"sum by (hop) (rate(orchestrator_link_transmit_drops_total{R}))",
                        "{{hop}} out",
                    ),
                ],
            ),
            lines(
                "Connection tracking",
                "Share of the table that is in use.",
                "percentunit",
                [("orchestrator_conntrack_entries / orchestrator_conntrack_entries_limit", "used")],
                limit=0.8,
            ),
        ],
    ),
]
