"""`path`, `path --probe` and `trace` against the real shop."""

from __future__ import annotations

import pytest
from rig import World, eventually

PRODUCT = "http://localhost:8080/api/products/2"


@pytest.fixture
def lab(watched: World) -> World:
    return watched


def ask(lab: World, *options: str) -> str:
    """A request with a trace id of ours; returns the id."""
    trace = f"{abs(hash((lab.host, options))):032x}"[-32:]
    parent = f"traceparent: 00-{trace}-00000000000000aa-01"
    lab.curl(PRODUCT, "-f", "-H", parent, *options).ok()
    return trace


def test_trace_is_a_waterfall_down_to_the_database(lab: World) -> None:
    trace = ask(lab, "-H", "Cache-Control: no-cache")
    eventually(lambda: lab.orchestrator("trace", trace).code == 0)
    found = lab.orchestrator("trace", trace, "--json").json()
    rows = [(span["depth"], span["hop"]) for span in found["spans"]]
    assert rows[:3] == [(0, "nginx-lb"), (1, "api-gateway"), (2, "product-service")]
    assert set(rows[3:]) == {(3, "postgres-db")}
    for outer, inner in zip(found["spans"][:2], found["spans"][1:3], strict=True):
        assert inner["start_ms"] > outer["start_ms"]
        assert inner["duration_ms"] < outer["duration_ms"]
    text = lab.orchestrator("trace", trace).ok().out
    assert "postgres-db" in text
    assert trace in lab.orchestrator("trace", "--list").ok().out


def test_path_names_every_hop_and_way_that_was_taken(lab: World) -> None:
    for number in range(20):
        ask(lab, "-H", f"X-Number: {number}")

    def hops() -> set[str]:
        found = lab.orchestrator("path", "--json").json()
        return {row["name"] for row in found["hops"]}

    everybody = {"nginx-lb", "api-gateway", "product-service", "redis-cache", "postgres-db"}
    eventually(lambda: everybody <= hops())
    found = lab.orchestrator("path", "--json").json()
    ways = {(row["client"], row["server"]) for row in found["edges"]}
    assert {("client", "nginx-lb"), ("nginx-lb", "api-gateway")} <= ways
    per_request = sum(row["per_request_ms"] for row in found["hops"])
    assert per_request <= found["request"]["mean_ms"]
    text = lab.orchestrator("path").ok().out
    assert "api-gateway → product-service" in text
    assert "slowest" in text


def test_probe_meets_hop_after_hop(lab: World) -> None:
    steps = lab.orchestrator("path", "--probe", "--json").json()
    assert [step["hop"] for step in steps] == ["nginx-lb", "api-gateway", "product-service"]
    best = [step["best_ms"] for step in steps]
    assert best == sorted(best)


def test_last_trace_is_a_users_whatever_the_orchestrator_asks(lab: World) -> None:
    trace = ask(lab, "-H", "X-Who: a user")
    eventually(lambda: lab.orchestrator("trace", trace).code == 0)
    lab.orchestrator("path", "--probe").ok()

    def own_ones() -> list[dict[str, object]]:
        rows = lab.orchestrator("trace", "--list", "--json").json()
        newer = rows[: [row["id"] for row in rows].index(trace)]
        assert all(row["own"] for row in newer)
        return newer

    # The supervisor's probe, and those of the traceroute.
    eventually(lambda: {row["status"] for row in own_ones()} == {200, 204})
    assert lab.orchestrator("trace", "last", "--json").json()["id"] == trace
    assert lab.orchestrator("path", "--json").json()["request"]["own_rps"] > 0


def test_unknown_trace_and_no_trace_are_told_apart(lab: World) -> None:
    unknown = lab.orchestrator("trace", "0123456789abcdef")
    assert (unknown.code, unknown.err) == (2, "orchestrator: no such request is kept\n")
    assert lab.orchestrator("trace", "../status").code == 2


def test_without_a_supervisor_it_is_said_who_would_know(world: World) -> None:
    done = world.orchestrator("path")
    assert done.code == 1
    assert "no supervisor of lab" in done.err
    assert "mend:" in done.err
