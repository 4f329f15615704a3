"""Where the time of a request goes."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import (
    CALLS,
    ERRORS,
    FAILED_CALLS,
    HOPS,
    REQUESTS,
    WHERE,
    R,
    percentiles,
    quantile,
)
from dashboards.panels import graph, lines, warmth

SLUG = "path"
TITLE = "Request path"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "Requests",
        [
            lines(
                "Rate by route",
                "Requests a second by the route that they matched.",
                "reqps",
                [(f"sum by (route) (rate({REQUESTS % 'count'}{R}))", "{{route}}")],
                width=8,
            ),
            lines(
                "Errors",
                "Share of requests with a server error.",
                "percentunit",
                [(ERRORS, "errors")],
                width=8,
                limit=0.005,
            ),
            lines("Latency", "As the edge saw it.", "s", percentiles(), width=8, limit=0.25),
        ],
    ),
    (
        "Where the time goes",
        [
            lines(
                "Mean request, by hop and way",
                "Exclusive time of each hop and each way between two per request, on one clock: "
                "the upper edge is the mean request time.",
                "s",
                WHERE,
                stacked=True,
                width=16,
                height=10,
            ),
            lines(
                "Not accounted for",
                "Share of the request time that belongs to no hop and no way.",
                "percentunit",
                [
                    (
                        (
                            f"sum(rate(orchestrator_request_unattributed_seconds_sum{R}))"
                            f" / sum(rate(orchestrator_request_duration_seconds_sum{R}))"
                        ),
                        "unattributed",
                    )
                ],
                width=8,
                height=10,
                limit=0.03,
            ),
            lines(
                "p95 of each hop itself",
                "Exclusive time of a hop in the slowest of twenty requests.",
                "s",
                [(quantile(0.95, HOPS % "bucket", "hop"), "{{hop}}")],
            ),
            lines(
                "p95 of each way",
                "One-way time between two hops in the slowest of twenty, queueing included.",
                "s",
                [
                    (
                        quantile(
                            0.95,
                            "orchestrator_edge_transit_seconds_bucket",
                            "client, server, direction",
                        ),
                        "{{client}} → {{server}} {{direction}}",
                    )
                ],
            ),
            graph(
                "Service map",
                "Hops with their requests a second, and who calls whom.",
                "label_replace(sum by (hop) (rate(orchestrator_hop_self_seconds_count"
                f'{R})), "id", "$1", "hop", "(.*)")',
                "label_join(label_replace(label_replace(sum by (client, server) (rate("
                f'orchestrator_edge_requests_total{R})), "source", "$1", "client", "(.*)"),'
                ' "target", "$1", "server", "(.*)"), "id", ">", "source", "target")',
                unit="reqps",
            ),
            lines(
                "Calls that failed",
                "Share of the calls between two hops that failed.",
                "percentunit",
                [
                    (
                        (f"({FAILED_CALLS} or 0 * {CALLS}) / {CALLS}"),
                        "{{client}} → {{server}}",
                    )
                ],
                height=12,
            ),
        ],
    ),
    (
        "The client's side",
        [
            lines(
                "Synthetic request",
                "One request a second from the host: connecting, first byte, all of it; of "
                "connecting, what lies between two packets by the kernel's clock.",
                "s",
                [
                    (
                        (
                            f"sum by (phase) (rate(orchestrator_probe_duration_seconds_sum{R})) / "
                            f"sum by (phase) (rate(orchestrator_probe_duration_seconds_count{R}))"
                        ),
                        "{{phase}}",
                    ),
                    (
                        (
                            f"sum(rate(orchestrator_ingress_handshake_seconds_sum{R})) / "
                            f"sum(rate(orchestrator_ingress_handshake_seconds_count{R}))"
                        ),
                        "handshake",
                    ),
                ],
            ),
            warmth(
                "Request times",
                "How many requests took how long.",
                f"sum by (le) (increase({REQUESTS % 'bucket'}{R}))",
            ),
        ],
    ),
]
