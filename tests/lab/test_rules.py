"""Alert rules: each fires when it should, is silent just below, and its threshold matters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import ROOT, run

RULES = ROOT / "services" / "monitoring" / "rules"
FILES = sorted(RULES.glob("*.yml"))
REQUESTS = 'orchestrator_requests_total{route="/api/products",code_class="%s"}'
COUNT = 'orchestrator_request_duration_seconds_count{route="/api/products"}'
BUCKET = 'orchestrator_request_duration_seconds_bucket{route="/api/products",le="0.25"}'
NOTHING = dict[str, str]()


@dataclass(frozen=True)
class Case:
    """Series as promtool writes them (start+step×count, a sample each 5 s), and when to look."""

    fires: dict[str, str]
    silent: dict[str, str]
    at: str = "10m"


def requests(good: int, bad: int) -> dict[str, str]:
    """So many more with each sample."""
    return {REQUESTS % "2xx": f"0+{good}x200", REQUESTS % "5xx": f"0+{bad}x200"}


def slow(total: int, fast: int) -> dict[str, str]:
    return {COUNT: f"0+{total}x200", BUCKET: f"0+{fast}x200"}


def unattributed(thousandths: int) -> dict[str, str]:
    return {
        "orchestrator_request_duration_seconds_sum": "0+1x200",
        "orchestrator_request_unattributed_seconds_sum": f"0+0.{thousandths:03}x200",
    }


def queue(waiting: int) -> dict[str, str]:
    return {
        'orchestrator_listener_accept_queue{hop="a"}': f"{waiting}x200",
        'orchestrator_listener_accept_queue_limit{hop="a"}': "100x200",
    }


RETRANSMITS = 'orchestrator_edge_tcp_retransmits_total{client="a",server="b"}'
DROPPED = 'orchestrator_ingest_dropped_total{source="path_log"}'
SUCCESS = 'orchestrator_last_run_success{operation="up"}'
DURATION = 'orchestrator_last_run_duration_seconds{operation="up"}'
ATTEMPTS = 'orchestrator_node_attempts_total{node="service:a",outcome="error"}'
STATE = 'orchestrator_node_state{node="service:a",state="%s"}'
HEALS = 'orchestrator_run_duration_seconds_count{operation="heal",outcome="changed"}'
LEAKED = 'orchestrator_teardown_leaked_resources{kind="netns"}'
REPLAYED = 'orchestrator_replay_steps_total{result="%s"}'
LAG = "orchestrator_event_loop_lag_seconds"
UP = 'up{job="orchestrator",instance="supervisor"}'
OTHER_UP = 'up{job="redis",instance="redis-cache"}'

CASES = {
    # 14.4 × 0.5 % = 7.2 % of the requests
    "OrchestratorErrorBudgetBurnFast": Case(requests(900, 100), requests(950, 50)),
    # 14.4 × 1 % = 14.4 %
    "OrchestratorLatencyBudgetBurnFast": Case(slow(1000, 800), slow(1000, 900)),
    "OrchestratorUnattributedLatency": Case(unattributed(40), unattributed(20)),
    "OrchestratorAcceptQueueFilling": Case(queue(60), queue(40)),
    "OrchestratorEdgeRetransmits": Case({RETRANSMITS: "0+1x200"}, {RETRANSMITS: "0+0.25x200"}),
    "OrchestratorPathDataLost": Case({DROPPED: "0x110 3x90"}, {DROPPED: "3x200"}),
    "OrchestratorDown": Case({UP: "1x100 0x100"}, {UP: "1x200"}),
    "OrchestratorSetupFailed": Case({SUCCESS: "0x200"}, {SUCCESS: "1x200"}),
    "OrchestratorSetupSlow": Case(
        {DURATION: "6x200", "orchestrator_setup_budget_seconds": "5x200"},
        {DURATION: "4x200", "orchestrator_setup_budget_seconds": "5x200"},
    ),
    "OrchestratorNodeRetrying": Case({ATTEMPTS: "0x100 2x100"}, {ATTEMPTS: "0x118 0.5x80"}),
    "OrchestratorNodeStuck": Case({STATE % "probing": "1x200"}, {STATE % "ready": "1x200"}),
    "OrchestratorNodeFailed": Case({STATE % "failed": "1x200"}, {STATE % "ready": "1x200"}),
    "OrchestratorTeardownLeak": Case({LEAKED: "1x200"}, {LEAKED: "0x200"}),
    "OrchestratorReplayDiverged": Case(
        {REPLAYED % "diverged": "0x100 1x100"}, {REPLAYED % "matched": "0x100 4x100"}
    ),
    "OrchestratorHealingOften": Case({HEALS: "0x60 8x140"}, {HEALS: "0x60 4x140"}, at="9m"),
    "OrchestratorEventLoopLagging": Case({LAG: "0.9x200"}, {LAG: "0.3x200"}),
    "TargetDown": Case({OTHER_UP: "1x100 0x100"}, {OTHER_UP: "0x200"}),
}
# A number that an alert compares with, or waits for; not those inside of names and windows.
THRESHOLD = re.compile(r"(?<=> )\d+(?:\.\d+)?(?: \* \d+(?:\.\d+)?)?")


def alerts(files: list[Path]) -> dict[str, dict[str, Any]]:
    found = {}
    for file in files:
        for group in yaml.safe_load(file.read_text())["groups"]:
            found |= {rule["alert"]: rule for rule in group["rules"] if "alert" in rule}
    return found


ALERTS = alerts(FILES)
# Ten times nothing is nothing.
THRESHOLDS = [
    name
    for name, rule in ALERTS.items()
    if any(found != "0" for found in THRESHOLD.findall(rule["expr"]))
]


def promtool(rules: list[Path], directory: Path, cases: dict[str, Case]) -> int:
    """Exit code of `promtool test rules`: a case fires with one series, not with the other."""
    tests = []
    for name, case in cases.items():
        for series, wanted in ((case.fires, 1), (case.silent, 0)):
            expression = (
                f'(count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)) > 0'
            )
            samples = [{"labels": "{}", "value": 1}] if wanted else []
            tests.append(
                {
                    "interval": "5s",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "promql_expr_test": [
                        {"expr": expression, "eval_time": case.at, "exp_samples": samples}
                    ],
                }
            )
    document = {"rule_files": [str(path) for path in rules], "evaluation_interval": "5s"}
    path = directory / "tests.yml"
    path.write_text(yaml.safe_dump({**document, "tests": tests}))
    return run("promtool", "test", "rules", str(path)).code


def test_every_alert_has_a_case_that_fires_and_one_that_does_not(tmp_path: Path) -> None:
    assert CASES.keys() == ALERTS.keys()
    assert promtool(FILES, tmp_path, CASES) == 0


def test_rules_have_nothing_for_a_linter() -> None:
    assert run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *FILES).code == 0


@pytest.mark.parametrize("factor", [10, 0.1])
@pytest.mark.parametrize("name", THRESHOLDS)
def test_threshold_changed_tenfold_fails_its_case(tmp_path: Path, name: str, factor: float) -> None:
    changed = []
    for file in FILES:
        document = yaml.safe_load(file.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == name:
                    rule["expr"] = THRESHOLD.sub(
                        lambda found: f"{found[0]} * {factor}", rule["expr"]
                    )
        path = tmp_path / file.name
        path.write_text(yaml.safe_dump(document))
        changed.append(path)
    assert promtool(changed, tmp_path, {name: CASES[name]}) != 0


def test_every_alert_says_what_and_what_to_do() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"].keys() >= {"summary", "description"}, name
