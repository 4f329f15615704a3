"""What a scrape says of runs: phases, attempts, states, from the journal alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.engine.plan import Node, Stage
from orchestrator.events import (
    Action,
    DriftFound,
    Event,
    GateChecked,
    Outcome,
    Record,
    RunFinished,
    RunStarted,
    SlotTaken,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)
from orchestrator.exposition import Sheet
from orchestrator.front.setup_metrics import SetupMetrics
from orchestrator.processes import procfs
from orchestrator.resource import Observation, State

MS = 1_000_000


class Thing:
    """A resource that is only a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def observe(self) -> Observation:
        return Observation(State.PRESENT)

    async def ensure(self) -> Outcome:
        return Outcome.CHANGED

    async def remove(self) -> Outcome:
        return Outcome.CHANGED


NODES = {
    "netns:a": Node(Thing("netns:a"), "veths", {}),
    "service:a": Node(Thing("service:a"), "services", {"netns:a": Stage.READY}),
}


def records(run: str, events: Iterable[tuple[int, Event]], *, start_ms: int = 0) -> list[Record]:
    return [
        Record(number, run, (start_ms + at_ms) * MS, (start_ms + at_ms) * MS, event)
        for number, (at_ms, event) in enumerate(events)
    ]


def up(boot: str) -> list[tuple[int, Event]]:
    """netns:a at once; service:a fails once, and is ready after 700 ms of readiness."""
    needs = {"service:a": {"netns:a": "ready"}}
    return [
        (0, RunStarted("up", "digest", ("netns:a", "service:a"), boot, needs, 8)),
        (0, StepQueued("netns:a", 1, "")),
        (1, SlotTaken("netns:a", 1)),
        (1, StepStarted("netns:a", Action.ENSURE, 1)),
        (11, StepProvisioned("netns:a", 1)),
        (11, StepFinished("netns:a", Action.ENSURE, Outcome.CHANGED, 1, "")),
        (11, StepQueued("service:a", 1, "netns:a")),
        (13, SlotTaken("service:a", 1)),
        (13, StepStarted("service:a", Action.ENSURE, 1)),
        (33, StepRetried("service:a", 1, 0.2, "no")),
        (233, StepQueued("service:a", 2, "service:a")),
        (234, SlotTaken("service:a", 2)),
        (234, StepStarted("service:a", Action.ENSURE, 2)),
        (264, StepProvisioned("service:a", 2)),
        (964, StepFinished("service:a", Action.ENSURE, Outcome.CHANGED, 2, "")),
        (965, RunFinished(Outcome.CHANGED, (), ())),
    ]


@pytest.fixture
def metrics(tmp_path: Path) -> SetupMetrics:
    return SetupMetrics(NODES, tmp_path / "journal.jsonl", budget_s=5)


def values(metrics: SetupMetrics) -> dict[tuple[str, ...], float]:
    """Every sample: its name and label values, sorted by label, to its value."""
    text = Sheet(is_open=False).text(metrics.families())
    return {
        (each.name, *(each.labels[key] for key in sorted(each.labels))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def test_phases_of_a_node_add_up_and_show_delay_and_backoff(metrics: SetupMetrics) -> None:
    metrics.take(records("one", up(procfs.boot_id())))
    found = values(metrics)
    name = "orchestrator_node_phase_last_seconds"
    phases = {key[3]: value for key, value in found.items() if key[:3] == (name, "service:a", "up")}
    assert phases == pytest.approx(
        {
            "dependency_wait": 0.011,
            "slot_wait": 0.003,
            "provision": 0.05,
            "backoff": 0.2,
            "readiness_wait": 0.7,
        }
    )
    assert found["orchestrator_node_attempts_total", "service:a", "error"] == 1
    assert found["orchestrator_node_attempts_total", "service:a", "ok"] == 1
    assert found["orchestrator_node_backoff_seconds_total", "service:a"] == pytest.approx(0.2)
    assert found["orchestrator_node_critical", "service:a", "up"] == 1
    assert found["orchestrator_last_run_success", "up"] == 1
    assert found["orchestrator_last_run_duration_seconds", "up"] == pytest.approx(0.965)
    assert found["orchestrator_node_state", "service:a", "ready"] == 1


def test_probes_are_counted_and_those_that_asked_timed(metrics: SetupMetrics) -> None:
    told = up(procfs.boot_id())
    answers = [
        GateChecked("service:a", "notify", True, "READY=1"),  # pushed: nobody asked
        GateChecked("service:a", "tcp", False, "refused", MS // 2),
        GateChecked("service:a", "tcp", True, "accepted", 2 * MS),
        GateChecked("service:a", "tcp", True, "of a journal of before"),
        GateChecked("service:a", "http", True, "200", 30 * MS),
        GateChecked("service:a", "http", True, "200 again", 3000 * MS),
    ]
    told[-2:-2] = [(300, each) for each in answers]
    metrics.take(records("one", told))
    found = values(metrics)
    name = "orchestrator_readiness_probe_duration_seconds"
    shown = {key[1:]: value for key, value in found.items() if key[0] == f"{name}_bucket"}
    assert shown == {
        **dict.fromkeys([(le, "failed", "tcp") for le in ("0.001", "0.01", "0.1", "+Inf")], 1),
        ("0.001", "passed", "tcp"): 0,
        **dict.fromkeys([(le, "passed", "tcp") for le in ("0.01", "0.1", "+Inf")], 1),
        **dict.fromkeys([(le, "passed", "http") for le in ("0.001", "0.01")], 0),
        ("0.1", "passed", "http"): 1,
        ("+Inf", "passed", "http"): 2,
    }
    assert found[f"{name}_sum", "passed", "http"] == pytest.approx(3.03)
    assert found["orchestrator_readiness_probes_total", "passed", "tcp"] == 2
    assert found["orchestrator_readiness_probes_total", "passed", "notify"] == 1


def test_run_without_a_change_does_not_hide_the_one_that_built(metrics: SetupMetrics) -> None:
    boot = procfs.boot_id()
    metrics.take(records("one", up(boot)))
    nothing: list[tuple[int, Event]] = [
        (0, RunStarted("up", "digest", ("netns:a",), boot, {}, 8)),
        (0, StepQueued("netns:a", 1, "")),
        (1, SlotTaken("netns:a", 1)),
        (2, StepProvisioned("netns:a", 1)),
        (2, StepFinished("netns:a", Action.ENSURE, Outcome.UNCHANGED, 1, "")),
        (3, RunFinished(Outcome.UNCHANGED, (), ())),
    ]
    metrics.take(records("two", nothing, start_ms=5000))
    found = values(metrics)
    assert found["orchestrator_last_run_duration_seconds", "up"] == pytest.approx(0.003)
    key = ("orchestrator_node_phase_last_seconds", "service:a", "up", "readiness_wait")
    assert found[key] == pytest.approx(0.7)


def test_killed_run_is_counted_as_killed(metrics: SetupMetrics) -> None:
    boot = procfs.boot_id()
    metrics.take(records("one", up(boot)[:9]))
    metrics.take(records("two", up(boot), start_ms=5000))
    found = values(metrics)
    assert found["orchestrator_run_duration_seconds_count", "up", "killed"] == 1
    assert found["orchestrator_run_duration_seconds_count", "up", "changed"] == 1


def test_another_boots_clock_is_not_compared_with_ours(metrics: SetupMetrics) -> None:
    metrics.take(records("old", up("another")))
    assert not [key for key in values(metrics) if key[0] == "orchestrator_last_run_success"]


def test_drift_is_counted_by_kind(metrics: SetupMetrics) -> None:
    drift = [
        (0, RunStarted("heal", "digest", ("netns:a",), procfs.boot_id(), {}, 8)),
        (0, DriftFound("netns:a", "gone")),
        (1, RunFinished(Outcome.CHANGED, (), ())),
    ]
    metrics.take(records("one", drift))
    assert values(metrics)["orchestrator_drift_found_total", "netns"] == 1


def down(boot: str, *, outcome: Outcome) -> list[tuple[int, Event]]:
    """Both nodes go; what becomes of netns:a is said."""
    return [
        (0, RunStarted("down", "digest", ("netns:a", "service:a"), boot, {}, 8)),
        (0, StepQueued("service:a", 1, "")),
        (1, StepStarted("service:a", Action.REMOVE, 1)),
        (2, StepFinished("service:a", Action.REMOVE, Outcome.CHANGED, 1, "")),
        (2, StepQueued("netns:a", 1, "service:a")),
        (3, StepStarted("netns:a", Action.REMOVE, 1)),
        (4, StepFinished("netns:a", Action.REMOVE, outcome, 1, "busy")),
        (5, RunFinished(outcome, (), ())),
    ]


@pytest.mark.parametrize(("outcome", "left"), [(Outcome.CHANGED, 0), (Outcome.FAILED, 1)])
def test_what_down_could_not_take_away_is_told_by_kind(
    metrics: SetupMetrics, outcome: Outcome, left: int
) -> None:
    boot = procfs.boot_id()
    metrics.take(records("one", up(boot)))
    metrics.take(records("two", down(boot, outcome=outcome), start_ms=5000))
    name = "orchestrator_teardown_leaked_resources"
    found = values(metrics)
    assert (found[name, "netns"], found[name, "service"]) == (left, 0)


def test_replay_is_compared_with_the_up_before_it(metrics: SetupMetrics) -> None:
    """As long as then, but for 100 ms; and once it failed."""
    boot = procfs.boot_id()
    metrics.take(records("one", up(boot)))
    replay: list[tuple[int, Event]] = [
        (0, RunStarted("replay", "digest", ("service:a",), boot, {}, 8)),
        (0, StepQueued("service:a", 1, "")),
        (0, SlotTaken("service:a", 1)),
        (0, StepStarted("service:a", Action.ENSURE, 1)),
        (50, StepProvisioned("service:a", 1)),
        (850, StepFinished("service:a", Action.ENSURE, Outcome.CHANGED, 1, "")),
        (850, RunFinished(Outcome.CHANGED, (), ())),
    ]
    metrics.take(records("two", replay, start_ms=5000))
    found = values(metrics)
    assert found["orchestrator_replay_steps_total", "matched"] == 1
    assert found["orchestrator_replay_drift_seconds_sum",] == pytest.approx(0.1)
    failed = [
        (at, StepFinished("service:a", Action.ENSURE, Outcome.FAILED, 1, "no"))
        if isinstance(event, StepFinished)
        else (at, event)
        for at, event in replay
    ]
    metrics.take(records("three", failed, start_ms=9000))
    found = values(metrics)
    assert found["orchestrator_replay_steps_total", "diverged"] == 1
    assert found["orchestrator_replay_drift_seconds_count",] == 1
