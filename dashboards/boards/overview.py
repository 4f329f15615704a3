"""Whether the platform is well, at a glance."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import (
    ANSWERS,
    COUNT,
    ERRORS,
    HOPS,
    PER_REQUEST,
    REQUESTS,
    UP,
    R,
    percentiles,
    quantile,
)
from dashboards.panels import lines, number, rows

SLUG = "overview"
TITLE = "Overview"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "Now",
        [
            number("Requests", "Requests a second through the edge.", "reqps", COUNT),
            number(
                "Errors",
                "Share of requests that ended with a server error; the objective is 0.5 %.",
                "percentunit",
                ERRORS,
                limits=(0.005, 0.05),
            ),
            number(
                "p99",
                "99 of 100 requests are faster; the objective is 250 ms.",
                "s",
                quantile(0.99, REQUESTS % "bucket"),
                limits=(0.25, 1),
            ),
            number(
                "Nodes ready",
                "Nodes of the graph whose last word was that they are ready.",
                "short",
                'sum(orchestrator_node_state{state="ready"})',
            ),
            number(
                "Last up",
                "What the last `up` took.",
                "s",
                f"orchestrator_last_run_duration_seconds{{{UP}}}",
            ),
            number(
                "Healings, 1 h",
                "Times that the supervisor brought something back.",
                "short",
                'sum(increase(orchestrator_run_duration_seconds_count{operation="heal"}[1h]))'
                " or vector(0)",
                limits=(1, 10),
            ),
        ],
    ),
    (
        "Requests",
        [
            lines(
                "Rate by status",
                "Requests a second through the edge by the class of their status.",
                "reqps",
                [(f"sum by (code_class) (rate({ANSWERS % ''}{R}))", "{{code_class}}")],
                stacked=True,
            ),
            lines("Latency", "Of requests as the edge saw them.", "s", percentiles(), limit=0.25),
            lines(
                "Budget left, 5 min",
                "Share of the error budget of 0.5 % that the last five minutes left over.",
                "percentunit",
                [("1 - orchestrator:error_ratio:rate5m / 0.005", "errors")],
            ),
            rows(
                "Slowest hops",
                "Exclusive time per request of the three hops that take most of it.",
                "s",
                f"topk(3, sum by (hop) (rate({HOPS % 'sum'}{R})) {PER_REQUEST})",
            ),
            rows(
                "Alerts",
                "Alerts that fire or wait; without one a single row with 0.",
                "short",
                'ALERTS{alertname!=""} or vector(0)',
            ),
            lines(
                "Links",
                "Packets a second into each service's veth; a link that is down has none.",
                "pps",
                [(f"sum by (hop) (rate(orchestrator_link_receive_packets_total{R}))", "{{hop}}")],
            ),
        ],
    ),
]
