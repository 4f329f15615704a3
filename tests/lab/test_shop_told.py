"""What the shop's journal and logs tell."""

from __future__ import annotations

import itertools
import json

from rig import World

from orchestrator.events import EVENTS
from orchestrator.logorder import written_s


def test_journal_shows_independent_nodes_at_once(shop: World) -> None:
    records = [
        json.loads(line) for line in shop.orchestrator("events", "--json").ok().out.splitlines()
    ]
    first = records[0]["run"]
    spans: dict[str, tuple[int, int]] = {}
    for record in records:
        if record["run"] == first and record["event"] in ("StepStarted", "StepFinished"):
            begin, _ = spans.get(record["node"], (record["mono_ns"], 0))
            spans[record["node"]] = (begin, record["mono_ns"])

    def overlap(a: str, b: str) -> bool:
        return max(spans[a][0], spans[b][0]) < min(spans[a][1], spans[b][1])

    assert overlap("job:postgres-init", "service:redis-cache")
    assert overlap("job:postgres-init", "veth:nginx-lb")
    assert overlap("service:product-service", "service:order-service")
    assert overlap("service:redis-cache", "service:prometheus")


def test_events_tell_what_happened_and_not_what_only_machines_care_for(shop: World) -> None:
    # Its first run: other tests replay layers of the same shop.
    first = json.loads(shop.orchestrator("events", "--json").ok().out.splitlines()[0])["run"]
    lines = shop.orchestrator("events", "--run", first).ok().out.splitlines()
    told = [line.split("  ", 1)[1] for line in lines]
    assert told[0].startswith("up: ")
    assert told[-1].endswith((": changed", ": unchanged"))
    assert not [line for line in told if line.split(": ")[-1] in EVENTS]
    unknown = shop.orchestrator("events", "--run", "foo")
    assert (unknown.code, unknown.out) == (2, "")
    assert "unknown run foo" in unknown.err


def test_job_that_is_no_node_is_told_from_an_unknown_one(shop: World) -> None:
    told = shop.orchestrator("why", "redis-accounts")
    assert told.code == 2
    assert "runs only when secrets are rotated" in told.err
    assert shop.orchestrator("logs", "redis-accounts").code == 0


def test_logs_are_told_in_the_order_of_their_times(shop: World) -> None:
    shop.curl("http://localhost:8080/health").ok()
    rows = [line.split(" | ", 1) for line in shop.orchestrator("logs").ok().out.splitlines()]
    # A program's own lines stay as they were written: two processes of nginx's each have a clock
    # of whole seconds, and a later line may say an earlier time.
    newest_s: dict[str, float] = {}
    times = []
    for name, text in rows:
        if (at_s := written_s(text)) is not None:
            newest_s[name] = max(at_s, newest_s.get(name, 0.0))
            times.append(newest_s[name])
    assert len(times) > 20
    assert times == sorted(times)
    # Those of PostgreSQL, the first to start, lie before and after others'.
    names = [name.strip() for name, _ in rows]
    assert len(list(itertools.groupby(names))) > len(set(names))
