"""The supervisor and its measurements."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import R
from dashboards.panels import lines

SLUG = "self"
TITLE = "Self"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "The supervisor",
        [
            lines(
                "Event loop",
                "How late a timer fires: what all else in the supervisor waits.",
                "s",
                [("orchestrator_event_loop_lag_seconds", "greatest of a minute")],
                limit=0.5,
            ),
            lines(
                "Scrapes",
                "Time that Prometheus waits for each target.",
                "s",
                [("scrape_duration_seconds", "{{job}}")],
            ),
            lines(
                "Samples",
                "Samples per scrape.",
                "short",
                [("scrape_samples_scraped", "{{job}}")],
            ),
            lines(
                "Traces",
                "Requests put together a second, by how well that went.",
                "short",
                [(f"sum by (result) (rate(orchestrator_traces_total{R}))", "{{result}}")],
            ),
            lines(
                "Lost",
                "Measurements a second that could not be read.",
                "short",
                [(f"sum by (source) (rate(orchestrator_ingest_dropped_total{R}))", "{{source}}")],
            ),
            lines(
                "Resolution of the hops' clocks",
                "1 µs with nginx's perl module, 1 ms without.",
                "s",
                [("orchestrator_hop_clock_resolution_seconds", "{{hop}}")],
            ),
        ],
    ),
]
