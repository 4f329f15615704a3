"""The plan: every node once, only after its needs, and exactly the right ones are lost."""

from __future__ import annotations

import pytest
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.plan import Plan, Stage, reversed_needs
from orchestrator.needs import Parting, topological, weights

READY, STARTED = Stage.READY, Stage.STARTED


def test_needs_release_at_the_stage_they_name() -> None:
    plan = Plan({"db": {}, "eager": {"db": STARTED}, "careful": {"db": READY}})
    assert plan.take_ready() == ["db"]
    assert plan.take_ready() == []
    plan.reach("db", STARTED)
    assert plan.take_ready() == ["eager"]
    plan.reach("db", READY)
    assert plan.take_ready() == ["careful"]


def test_failure_loses_who_waits_and_spares_who_started() -> None:
    plan = Plan(
        {"db": {}, "eager": {"db": STARTED}, "app": {"db": READY}, "web": {"app": READY}, "x": {}}
    )
    plan.take_ready()
    plan.reach("db", STARTED)
    assert plan.take_ready() == ["eager"]
    assert plan.fail("db") == {"app": "db", "web": "app"}
    plan.reach("x", READY)
    assert plan
    plan.reach("eager", READY)
    assert not plan


@pytest.mark.parametrize(
    "needs", [{"a": {"a": READY}}, {"a": {"b": READY}, "b": {"c": READY}, "c": {"a": READY}}]
)
def test_circle_is_named(needs: dict[str, dict[str, Stage]]) -> None:
    with pytest.raises(ValueError, match=r"needs form a circle: (\w) → .*\1"):
        Plan(needs)


def test_unknown_need_is_named() -> None:
    with pytest.raises(ValueError, match="a needs ghost"):
        Plan({"a": {"ghost": READY}})


@given(graphs(), st.data())
def test_random_run_gives_each_node_out_once_after_its_needs(
    needs: dict[str, dict[str, Stage]], data: st.DataObject
) -> None:
    """With random failures it always drains, and exactly what cannot start is lost."""
    plan, stage = Plan(needs), dict.fromkeys(needs, Stage.WAITING)
    running: list[str] = []
    lost: dict[str, str] = {}
    failed: set[str] = set()
    while plan:
        for name in plan.take_ready():
            assert stage[name] is Stage.WAITING
            assert name not in lost
            assert all(stage[need] >= wanted for need, wanted in needs[name].items())
            stage[name] = Stage.TAKEN
            running.append(name)
        assert running, "it stands still"
        name = data.draw(st.sampled_from(running))
        steps = ["fail", "ready"] + (["start"] if stage[name] is Stage.TAKEN else [])
        step = data.draw(st.sampled_from(steps))
        if step == "fail":
            running.remove(name)
            failed.add(name)
            lost |= plan.fail(name)
        else:
            stage[name] = Stage.READY if step == "ready" else Stage.STARTED
            if step == "ready":
                running.remove(name)
            plan.reach(name, stage[name])

    expected: set[str] = set()
    for name in topological(needs):
        if any(
            need in expected or (need in failed and stage[need] < wanted)
            for need, wanted in needs[name].items()
        ):
            expected.add(name)
    assert set(lost) == expected
    assert all(lost[name] in needs[name] for name in lost)
    assert all(stage[name] is Stage.READY for name in needs if name not in failed | expected)


@given(graphs())
def test_weights_are_the_longest_chains(needs: dict[str, dict[str, Stage]]) -> None:
    def longest(name: str) -> int:
        return 1 + max((longest(other) for other in needs if name in needs[other]), default=0)

    assert weights(needs) == {name: longest(name) for name in needs}


@given(graphs())
def test_reversing_twice_gives_the_graph_back(needs: dict[str, dict[str, Stage]]) -> None:
    twice = reversed_needs(reversed_needs(needs))
    assert {name: set(stages) for name, stages in twice.items()} == {
        name: set(stages) for name, stages in needs.items()
    }


def test_parting_decides_who_is_removed_first() -> None:
    """The veth goes with its bridge, the policy after its namespace, the service before all."""
    ready = Stage.READY
    needs = {
        "bridge": {},
        "netns": {},
        "veth": {"bridge": ready, "netns": ready},
        "policy": {"netns": ready},
        "service": {"veth": ready, "policy": ready},
    }
    parting = {
        "veth": {"bridge": Parting.AT_ONCE},
        "policy": {"netns": Parting.WITH_NEED},
    }
    assert {name: {*stages} for name, stages in reversed_needs(needs, parting).items()} == {
        "service": set(),
        "veth": {"service"},
        "bridge": {"service"},
        "netns": {"veth"},
        "policy": {"service", "netns"},
    }
