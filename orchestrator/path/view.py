"""The request path over the last seconds: rates, times and errors of hops and ways. Pure."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from orchestrator.path.spans import EXACT_US, HEALTH, Request, Stay
from orchestrator.path.totals import Histogram, Key, Totals, added_up, quantile_us

WINDOW_S = 10.0
FAILED = ("5xx", "error")
TRACES_SHOWN = 8


class _Moment(Struct, frozen=True):
    at_s: float
    tables: dict[str, dict[Key, Histogram]]
    edges: dict[Key, int]
    own: int


class Window:
    """Totals now against totals some seconds ago."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque()

    def note(self, totals: Totals, now_s: float) -> None:
        """To be called about once a second while somebody looks, else now and then."""
        tables = {
            name: {
                key: Histogram(list(each.counts), each.sum_us)
                for key, each in getattr(totals, name).items()
                if HEALTH not in key
            }
            for name in ("request", "hop", "transit")
        }
        self._moments.append(_Moment(now_s, tables, copy.copy(totals.edges), totals.own))
        # The first one is at least so old, once there is one.
        while len(self._moments) > 2 and now_s - self._moments[1].at_s >= WINDOW_S:
            self._moments.popleft()

    def document(self, totals: Totals, traces: list[tuple[float, Request]]) -> dict[str, Any]:
        """As JSON has it; times in milliseconds, rates per second."""
        resolution_us = max(totals.resolution_us.values(), default=EXACT_US)
        empty: dict[str, Any] = {
            "window_s": 0.0,
            "resolution_s": resolution_us / 1e6,
            "request": None,
            "hops": [],
            "edges": [],
            "slowest": None,
            "traces": _shown(traces),
        }
        if len(self._moments) < 2:
            return empty
        first, last = self._moments[0], self._moments[-1]
        seconds = last.at_s - first.at_s
        request = _grown(first.tables["request"], last.tables["request"])
        whole = _sum(request.values())
        if not whole.count:
            return {**empty, "window_s": round(seconds, 1)}
        failed = sum(each.count for key, each in request.items() if key[1] in FAILED)
        calls = _grown_numbers(first.edges, last.edges)
        hops = _by_first(_grown(first.tables["hop"], last.tables["hop"]))
        ways = _grown(first.tables["transit"], last.tables["transit"])
        rows = [_hop_row(name, each, whole, calls, seconds) for name, each in hops.items()]
        rows = [row for row in rows if row["rate_rps"]]
        slowest = max(rows, key=lambda row: row["per_request_ms"], default=None)
        return {
            **empty,
            "window_s": round(seconds, 1),
            "request": {
                "rate_rps": round(whole.count / seconds, 2),
                "own_rps": round((last.own - first.own) / seconds, 2),
                **_times(whole),
                "error_ratio": failed / whole.count,
            },
            "hops": rows,
            "edges": _edge_rows(ways, calls, seconds),
            "slowest": slowest["name"] if slowest else None,
        }


def _shown(traces: list[tuple[float, Request]]) -> list[dict[str, Any]]:
    """Users' last requests; below them our own last one, to see a way when nobody asks."""
    users = [pair for pair in traces if not pair[1].is_own][:TRACES_SHOWN]
    own = [pair for pair in traces if pair[1].is_own and pair[1].route != HEALTH][:1]
    return [trace_row(*pair) for pair in users + own]


def _hop_row(
    name: str, own: Histogram, whole: Histogram, calls: dict[Key, int], seconds: float
) -> dict[str, Any]:
    asked = sum(n for key, n in calls.items() if key[1] == name)
    failed = sum(n for key, n in calls.items() if key[1] == name and key[2] in FAILED)
    times = {key.removesuffix("_ms"): value for key, value in _times(own).items()}
    return {
        "name": name,
        "rate_rps": round(own.count / seconds, 2),
        "self_ms": times,
        "per_request_ms": _ms(own.sum_us / whole.count),
        "error_ratio": failed / asked if asked else 0.0,
    }


def _edge_rows(
    ways: dict[Key, Histogram], calls: dict[Key, int], seconds: float
) -> list[dict[str, Any]]:
    pairs = dict.fromkeys([key[:2] for key in ways] + [key[:2] for key in calls])
    rows = []
    for client, server in pairs:
        count = sum(n for key, n in calls.items() if key[:2] == (client, server))
        failed = sum(
            n for key, n in calls.items() if key[:2] == (client, server) and key[2] in FAILED
        )
        both = [ways.get((client, server, way), Histogram()) for way in ("there", "back")]
        count = count or both[0].count
        if not count:
            continue
        means = [each.sum_us / each.count if each.count else None for each in both]
        joined = _sum(both)
        times = None
        if joined.count:
            times = {
                "mean": _ms(joined.sum_us / joined.count),
                "there": _ms(means[0]),
                "back": _ms(means[1]),
                "p95": _ms(quantile_us(joined.counts, 0.95)),
            }
        rows.append(
            {
                "client": client,
                "server": server,
                "rate_rps": round(count / seconds, 2),
                "error_ratio": failed / count,
                "transit_ms": times,
            }
        )
    return rows


def _times(histogram: Histogram) -> dict[str, float | None]:
    found: dict[str, float | None] = {"mean_ms": _ms(histogram.sum_us / histogram.count)}
    for name, q in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        found[name] = _ms(quantile_us(histogram.counts, q))
    return found


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else round(value_us / 1000, 3)


def _grown(first: dict[Key, Histogram], last: dict[Key, Histogram]) -> dict[Key, Histogram]:
    found = {}
    for key, now in last.items():
        was = first.get(key, Histogram())
        counts = [b - a for a, b in zip(was.counts, now.counts, strict=True)]
        if sum(counts):
            found[key] = Histogram(counts, now.sum_us - was.sum_us)
    return found


def _grown_numbers(first: dict[Key, int], last: dict[Key, int]) -> dict[Key, int]:
    return {key: now - first.get(key, 0) for key, now in last.items() if now > first.get(key, 0)}


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    return added_up(((), each) for each in histograms).get((), Histogram())


def _by_first(table: dict[Key, Histogram]) -> dict[str, Histogram]:
    return {key[0]: each for key, each in added_up((k[:1], h) for k, h in table.items()).items()}


def trace_row(at_s: float, request: Request) -> dict[str, Any]:
    """One kept request in a line."""
    return {
        "id": request.trace,
        "at": at_s,
        "route": request.route,
        "path": request.path,
        "status": request.status,
        "total_ms": _ms(request.total_us),
        "own": request.is_own,
    }


def waterfall(at_s: float, request: Request) -> dict[str, Any]:
    """One request with every hop and store below each other, from the edge's arrival on."""
    begin_us = request.root.arrived_us
    spans: list[dict[str, Any]] = []

    def add(stay: Stay, depth: int, result: str) -> None:
        calls_us = _covered([(call.sent_us, call.received_us) for call in stay.calls])
        own_us = max(0, stay.left_us - stay.arrived_us - calls_us)
        spans.append(_span(stay.hop, depth, stay.arrived_us, stay.left_us, own_us, result))
        for call in sorted(stay.calls, key=lambda each: each.sent_us):
            if call.stay is not None:
                add(call.stay, depth + 1, call.result)
            else:
                name = call.callee or "(did not tell)"
                stayed_us = call.received_us - call.sent_us
                times = (call.sent_us, call.received_us, stayed_us)
                spans.append(_span(name, depth + 1, *times, call.result))

    def _span(
        hop: str, depth: int, from_us: int, to_us: int, own_us: int, result: str
    ) -> dict[str, Any]:
        return {
            "hop": hop,
            "depth": depth,
            "start_ms": _ms(from_us - begin_us),
            "duration_ms": _ms(to_us - from_us),
            "self_ms": _ms(own_us),
            "result": result,
        }

    add(request.root, 0, str(request.status))
    return {**trace_row(at_s, request), "is_partial": request.is_partial, "spans": spans}


def _covered(intervals: list[tuple[int, int]]) -> int:
    """Length of the union."""
    total, last = 0, 0
    for begin, end in sorted(intervals):
        total += max(0, end - max(begin, last))
        last = max(last, end)
    return total
