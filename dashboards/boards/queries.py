"""Queries that several dashboards use.

Requests to /health are questions of watchers and left out.
"""

from __future__ import annotations

R = "[$__rate_interval]"
REQUESTS = 'orchestrator_request_duration_seconds_%s{route!="/health"}'
ANSWERS = 'orchestrator_requests_total{route!="/health"%s}'
COUNT = f"sum(rate({ANSWERS % ''}{R}))"
SERVER_ERRORS = ANSWERS % ',code_class="5xx"'
FAILED = f"sum(rate({SERVER_ERRORS}{R}))"
ERRORS = f"(({FAILED}) or vector(0)) / {COUNT}"
HOPS = "orchestrator_hop_self_seconds_%s"  # those to /health are not in it


def quantile(q: float, buckets: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({buckets}{R})))"


def percentiles() -> list[tuple[str, str]]:
    return [(quantile(q, REQUESTS % "bucket"), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)]


def mean_time(hop: str) -> str:
    times = f'orchestrator_hop_self_seconds_%s{{hop="{hop}"}}{R}'
    return f"sum(rate({times % 'sum'})) / sum(rate({times % 'count'}))"


EDGES = "sum by (client, server) (rate(orchestrator_edge_requests_total%s[$__rate_interval]))"
CALLS = EDGES % ""
FAILED_CALLS = EDGES % '{code_class=~"5xx|error"}'
PER_REQUEST = f"/ on () group_left () {COUNT}"
WHERE = [
    (f"sum by (hop) (rate({HOPS % 'sum'}{R})) {PER_REQUEST}", "{{hop}}"),
    (
        (
            'sum by (client, server) (rate(orchestrator_edge_transit_seconds_sum{client!="client"}'
            f"{R})) {PER_REQUEST}"
        ),
        "{{client}} → {{server}}",
    ),
]
UP = 'operation="up"'
