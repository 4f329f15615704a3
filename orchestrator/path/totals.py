"""Adds requests up: histograms per route, hop and way. Pure; its whole state is JSON.

Histograms of our own, since at thousands of requests a second each of a dozen observations
must cost a fraction of a microsecond, and since they are to outlive the process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from orchestrator.path.spans import HEALTH, OTHER, Request, Shares, Stay

# 1-2.5-5 steps from 25 µs to 5 s; objectives at 100 ms and 250 ms are bounds, too.
BOUNDS_US = tuple(
    int(step * scale)
    for scale in (10, 100, 1000, 10_000, 100_000, 1_000_000)
    for step in (1, 2.5, 5)
    if step * scale >= 25
)
MAX_ROUTES = 32  # a label must stay small, whatever a gateway says

Key = tuple[str, ...]


class Histogram(Struct):
    """Counts per bucket (not cumulative; the last is beyond all bounds), and the sum in µs."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    sum_us: float = 0.0

    def add(self, value_us: float, times: int = 1) -> None:
        self.counts[bisect_left(BOUNDS_US, value_us)] += times
        self.sum_us += value_us * times

    @property
    def count(self) -> int:
        return sum(self.counts)


class Exemplar(Struct):
    """The last request of a bucket, whole: the way from a graph to its trace must not end."""

    request: Request
    at_s: float  # wall clock


class Totals(Struct):
    """Everything that was ever added up, by label values."""

    request: dict[Key, Histogram] = field(default_factory=dict)  # route, code class
    hop: dict[Key, Histogram] = field(default_factory=dict)  # hop, route
    transit: dict[Key, Histogram] = field(default_factory=dict)  # client, server, direction
    unattributed: dict[Key, Histogram] = field(default_factory=lambda: {(): Histogram()})
    edges: dict[Key, int] = field(default_factory=dict)  # client, server, result class
    results: dict[Key, int] = field(
        default_factory=lambda: {("complete",): 0, ("partial",): 0, ("dropped",): 0}
    )
    resolution_us: dict[Key, int] = field(default_factory=dict)  # hop
    # By route and bucket; these are not kept over ends.
    exemplars: dict[Key, dict[int, Exemplar]] = field(default_factory=dict)
    routes: set[str] = field(default_factory=set)
    own: int = 0  # of the requests those that the orchestrator made; since the beginning

    def add(self, request: Request, found: Shares, *, at_s: float) -> None:
        """One request with its shares, which count for those that it stands for."""
        times = request.weight
        route = self._known(request.route)
        self.own += request.is_own and request.route != HEALTH
        total_us = request.total_us
        key = (route, code_class(str(request.status)))
        _of(self.request, key).add(total_us)
        bucket = bisect_left(BOUNDS_US, total_us)
        self.exemplars.setdefault((route,), {})[bucket] = Exemplar(request, at_s)
        for hop, time_us in found.hops.items():
            _of(self.hop, (hop, route)).add(time_us, times)
        for client, server, there_us, back_us in found.transits:
            _of(self.transit, (client, server, "there")).add(there_us, times)
            _of(self.transit, (client, server, "back")).add(back_us, times)
        self.unattributed[()].add(found.unattributed_us, times)
        self._calls(request.root, times)
        self.results["partial" if request.is_partial else "complete",] += 1
        self.resolution_us[request.root.hop,] = request.resolution_us

    def count(self, route: str, status: int, total_us: int, times: int) -> None:
        """So many requests of which nothing else is known."""
        _of(self.request, (self._known(route), code_class(str(status)))).add(total_us, times)

    def way(self, client: str, server: str, there_us: float, back_us: float) -> None:
        """A way that was measured from outside: by a request of our own."""
        _of(self.transit, (client, server, "there")).add(there_us)
        _of(self.transit, (client, server, "back")).add(back_us)

    def drop(self, times: int = 1) -> None:
        """A line that could not be read."""
        self.results["dropped",] += times

    def _known(self, route: str) -> str:
        if not self.routes:
            self.routes = {key[0] for key in self.request}
        if route not in self.routes and len(self.routes) >= MAX_ROUTES:
            return OTHER
        self.routes.add(route)
        return route

    def _calls(self, stay: Stay, times: int) -> None:
        for call in stay.calls:
            if call.callee:
                key = (stay.hop, call.callee, code_class(call.result))
                self.edges[key] = self.edges.get(key, 0) + times
            if call.stay is not None:
                self._calls(call.stay, times)

    def dump(self) -> dict[str, Any]:
        """All of it but the exemplars, for JSON."""

        def histograms(table: dict[Key, Histogram]) -> list[list[Any]]:
            return [[list(key), each.counts, each.sum_us] for key, each in table.items()]

        def numbers(table: dict[Key, int]) -> list[list[Any]]:
            return [[list(key), value] for key, value in table.items()]

        return {
            "bounds_us": list(BOUNDS_US),
            "request": histograms(self.request),
            "hop": histograms(self.hop),
            "transit": histograms(self.transit),
            "unattributed": histograms(self.unattributed),
            "edges": numbers(self.edges),
            "results": numbers(self.results),
            "resolution_us": numbers(self.resolution_us),
        }

    @classmethod
    def load(cls, data: dict[str, Any]) -> Totals:
        """The reverse. Raises ValueError for anything else."""
        try:
            if data["bounds_us"] != list(BOUNDS_US):
                raise ValueError("other buckets")
            found = cls()
            for name in ("request", "hop", "transit", "unattributed"):
                table: dict[Key, Histogram] = getattr(found, name)
                for key, counts, sum_us in data[name]:
                    if len(counts) != len(BOUNDS_US) + 1:
                        raise ValueError("other buckets")
                    table[tuple(map(str, key))] = Histogram([int(n) for n in counts], float(sum_us))
            for name in ("edges", "results", "resolution_us"):
                numbers: dict[Key, int] = getattr(found, name)
                for key, value in data[name]:
                    numbers[tuple(map(str, key))] = int(value)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no totals: {error!r}") from error
        return found


def code_class(result: str) -> str:
    """`2xx` of `204`; `ok` and `error` of what has no status."""
    return f"{result[0]}xx" if result[:1].isdigit() else result


def quantile_us(counts: Iterable[int], q: float) -> float | None:
    """Within its bucket by linear interpolation, as histogram_quantile() does; None of nothing."""
    counts = list(counts)
    rank = q * sum(counts)
    below = 0
    for number, count in enumerate(counts):
        if count and below + count >= rank:
            low = BOUNDS_US[number - 1] if number else 0
            high = BOUNDS_US[number] if number < len(BOUNDS_US) else low
            return low + (high - low) * (rank - below) / count
        below += count
    return None


def added_up(rows: Iterable[tuple[Key, Histogram]]) -> dict[Key, Histogram]:
    """One histogram for each key, of all rows that have it."""
    found: dict[Key, Histogram] = {}
    for key, each in rows:
        whole = _of(found, key)
        whole.counts = [a + b for a, b in zip(whole.counts, each.counts, strict=True)]
        whole.sum_us += each.sum_us
    return found


def _of(table: dict[Key, Histogram], key: Key) -> Histogram:
    found = table.get(key)
    if found is None:
        found = table[key] = Histogram()
    return found
