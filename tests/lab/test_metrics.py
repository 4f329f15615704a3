"""`/metrics` of the supervisor and of the services: complete, clean, cheap, and without a loss."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from rig import HOST_ADDRESS, World, eventually
from routes import every_route
from view import Look, load

METRICS = "http://127.0.0.1:9464/metrics"
SERVICES = {
    "api-gateway": "10.0.0.20",
    "product-service": "10.0.0.30",
    "order-service": "10.0.0.40",
}
OPENMETRICS = "Accept: application/openmetrics-text; version=1.0.0"
MAX_SAMPLES, MAX_SCRAPE_S = 1_500, 0.025
LOADED = ("/api/products/{id}", "2xx"), ("/api/orders", "2xx")  # what tests/load.py asks for


@pytest.fixture(scope="module")
def lab(watched: World) -> World:
    every_route(watched)
    return watched


def scrape(lab: World) -> Look:
    return Look(lab.on_host("curl", "-sf", METRICS).ok().out)


def requests(lab: World) -> list[float]:
    """How many of each loaded route and class were counted."""
    look = scrape(lab)
    labels = [{"route": route, "code_class": code_class} for route, code_class in LOADED]
    return [look.value("requests_total", **each) for each in labels]


def settled(lab: World) -> list[float]:
    """The same when all that was asked before is counted: the edge's log is buffered for 100 ms,
    and read four times a second."""
    seen = requests(lab)

    def stays() -> bool:
        nonlocal seen
        time.sleep(1)
        before, seen = seen, requests(lab)
        return before == seen

    eventually(stays)
    return seen


def supervisor(lab: World) -> int:
    pid = lab.orchestrator("status", "--json").json()["supervisor"]
    assert isinstance(pid, int)
    return pid


def test_promtool_finds_nothing_to_complain_of(lab: World) -> None:
    texts = [scrape(lab).text]
    for name in SERVICES:
        there = f"http://{name}:9100/metrics"
        texts.append(lab.inside("prometheus", "curl", "-sf", there).ok().out)
    for text in texts:
        words = ["promtool", "check", "metrics"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_scrape_keeps_its_budget_with_every_route_and_operation(lab: World) -> None:
    """Time is that of the processor, the least of several: others' load is not ours."""

    def runs(operation: str) -> float:
        labels = {"operation": operation, "outcome": "changed"}
        name = "orchestrator_run_duration_seconds_count"
        return scrape(lab).samples.get((name, frozenset(labels.items())), 0)

    lab.orchestrator("secrets", "rotate").ok()
    before = runs("heal")
    lab.kill("redis-cache")
    eventually(lambda: runs("heal") > before)
    for layer in ("gateway", "bridge", "veths"):
        lab.orchestrator("replay", layer).ok()
    assert runs("replay") >= 3
    every_route(lab)
    seen = scrape(lab)
    families = Counter(name for name, _ in seen.samples)
    assert families.total() <= MAX_SAMPLES, families
    assert min(scrape(lab).value("scrape_seconds") for _ in range(5)) <= MAX_SCRAPE_S


def test_metrics_are_for_the_host_and_the_lab_alone(lab: World) -> None:
    url = f"http://{HOST_ADDRESS}:9464/metrics"
    outside = lab.curl(url, "--max-time", "2", where="outside")
    assert outside.code in (7, 28)  # curl: refused, or no answer
    assert lab.curl("http://10.0.0.1:9464/metrics", "-f", where="prometheus").code == 0


def test_handshake_is_what_the_kernel_saw_of_connecting(lab: World) -> None:
    """One for each request of our own that was answered; what we waited for it is longer."""

    def told() -> tuple[float, float, float]:
        look = scrape(lab)
        connect = {"phase": "connect"}
        count = look.value("ingress_handshake_seconds_count")
        assert count == look.value("probe_duration_seconds_count", **connect)
        spent_s = look.value("probe_duration_seconds_sum", **connect)
        return count, look.value("ingress_handshake_seconds_sum"), spent_s

    begun = told()
    eventually(lambda: told()[0] >= begun[0] + 3)
    count, handshake_s, spent_s = (b - a for a, b in zip(begun, told(), strict=True))
    assert count * 1e-6 < handshake_s < spent_s


def test_probe_times_of_the_set_up_are_told(lab: World) -> None:
    look = scrape(lab)
    for each in ("tcp", "http", "redis", "postgres", "check"):
        labels = {"type": each, "result": "passed"}
        count = look.value("readiness_probe_duration_seconds_count", **labels)
        assert count == look.value("readiness_probes_total", **labels) > 0
        assert look.value("readiness_probe_duration_seconds_sum", **labels) > 0


def test_exemplar_leads_to_the_trace_of_a_request_of_its_bucket(lab: World) -> None:
    lab.curl("http://localhost:8080/api/products/2").ok()

    def found() -> list[tuple[str, float]]:
        text = lab.on_host("curl", "-sf", "-H", OPENMETRICS, METRICS).ok().out
        return [
            (sample.exemplar.labels["trace_id"], sample.exemplar.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "orchestrator_request_duration_seconds_bucket"
            and sample.labels["route"] == "/api/products/{id}"
            and sample.exemplar is not None
            and sample.exemplar.value <= float(sample.labels["le"])
        ]

    eventually(lambda: found() != [])
    trace, value_s = found()[-1]
    told = lab.orchestrator("trace", trace, "--json").ok().json()
    assert told["route"] == "/api/products/{id}"
    assert told["total_ms"] == pytest.approx(value_s * 1000, abs=0.001)


def test_two_seconds_of_a_stopped_supervisor_lose_no_measurement(lab: World) -> None:
    before, pid = settled(lab), supervisor(lab)
    with load(lab) as codes:
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(2)  # that long is what is promised
        finally:
            os.kill(pid, signal.SIGCONT)
    answered = [float(codes["200"]), float(codes["201"])]
    assert min(answered) > 100
    eventually(lambda: requests(lab) == [a + b for a, b in zip(before, answered, strict=True)])
    assert scrape(lab).value("ingest_dropped_total", source="path_log") == 0


def test_under_load_all_are_counted_and_those_by_chance_stand_for_the_others(lab: World) -> None:
    def hops() -> tuple[float, float]:
        look = scrape(lab)
        return look.value("hop_self_seconds_count", hop="api-gateway"), look.value(
            "traces_total", result="complete"
        )

    before, (asked, traced) = settled(lab), hops()
    with load(lab, clients=32) as codes:
        eventually(lambda: requests(lab)[0] > before[0] + 3000, within_s=60)
    answered = [float(codes["200"]), float(codes["201"])]
    eventually(lambda: requests(lab) == [a + b for a, b in zip(before, answered, strict=True)])
    now_asked, now_traced = hops()
    assert now_traced - traced < sum(answered) / 2
    assert now_asked - asked == pytest.approx(sum(answered), rel=0.5)


def test_death_and_restart_of_the_supervisor_lose_nothing_that_was_logged(lab: World) -> None:
    before, pid = settled(lab), supervisor(lab)
    with load(lab) as codes:
        eventually(lambda: requests(lab)[0] > before[0] + 50)  # it has read some of it
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{pid}").exists())
        lab.orchestrator("up", "--supervise").ok()
    assert supervisor(lab) != pid
    wanted = [before[0] + codes["200"], before[1] + codes["201"]]
    eventually(lambda: requests(lab) == wanted)


def test_long_log_is_put_aside_under_load_and_nothing_is_lost(lab: World) -> None:
    """The edge is asked to open its log again: what it writes meanwhile counts once."""
    [log] = lab.run_dir.glob("**/requests.tsv")
    inode, before = log.stat().st_ino, settled(lab)
    filler = "1\t1000\t0\t0\t1100\t200\t-\t5c123360b01c38df27b051f6de928526\t/health\t-\n"
    health = {"route": "/health", "code_class": "2xx"}
    was = scrape(lab).value("requests_total", **health)
    count = 16_000_000 // len(filler) + 1
    with load(lab, clients=2) as codes:
        with log.open("a") as file:
            file.write(filler * count)
        eventually(lambda: log.exists() and log.stat().st_ino != inode, within_s=60)
        aside = requests(lab)
        eventually(lambda: requests(lab)[0] > aside[0] + 20)
    wanted = [before[0] + codes["200"], before[1] + codes["201"]]
    eventually(lambda: requests(lab) == wanted)
    assert scrape(lab).value("requests_total", **health) >= was + count
    assert re.search(r"\t/api/", log.read_text())
