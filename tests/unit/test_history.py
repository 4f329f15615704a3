"""Folds over the journal: what a node came to, and the way that a run had to wait for."""

from __future__ import annotations

import itertools

from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.plan import Stage
from orchestrator.events import (
    Action,
    Event,
    Outcome,
    ProcessStarted,
    Record,
    RunStarted,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)
from orchestrator.sights.history import critical_path, last_run, nodes, spans

ENSURE, REMOVE = Action.ENSURE, Action.REMOVE


def told(*events: tuple[int, Event], run: str = "r") -> list[Record]:
    """Records at these milliseconds."""
    return [
        Record(seq, run, 0, at_ms * 1_000_000, event) for seq, (at_ms, event) in enumerate(events)
    ]


def test_node_goes_through_its_states() -> None:
    story: list[tuple[int, Event, str]] = [
        (0, StepQueued("a", 1, ""), "queued"),
        (10, StepStarted("a", ENSURE, 1), "starting"),
        (20, StepRetried("a", 1, 0.1, "it broke"), "backoff"),
        (30, StepQueued("a", 2, "a"), "queued"),
        (40, StepStarted("a", ENSURE, 2), "starting"),
        (41, ProcessStarted("a", 7, 8), "starting"),
        (50, StepProvisioned("a", 2), "probing"),
        (60, StepFinished("a", ENSURE, Outcome.CHANGED, 2, ""), "ready"),
    ]
    for upto in range(1, len(story) + 1):
        records = told(*((at_ms, event) for at_ms, event, _ in story[:upto]))
        assert nodes(records)["a"].state == story[upto - 1][2]
    last = nodes(told(*((at_ms, event) for at_ms, event, _ in story)))["a"]
    assert last.ready_after_s == 0.05  # from its first attempt, backoff included
    assert (last.starts, last.last_error) == (1, "it broke")


def test_failure_is_remembered_and_down_forgets() -> None:
    failed = StepFinished("a", ENSURE, Outcome.FAILED, 3, "no")
    assert nodes(told((0, failed)))["a"].state == "failed"
    assert nodes(told((0, failed)))["a"].last_error == "no"
    gone = StepFinished("a", REMOVE, Outcome.CHANGED, 1, "")
    assert nodes(told((0, failed), (1, gone)))["a"].state == "stopped"


def test_last_run_of_a_command_is_found() -> None:
    records = [
        *told((0, RunStarted("up", "d", (), "b")), run="one"),
        *told((0, RunStarted("up", "d", (), "b")), run="two"),
        *told((0, RunStarted("down", "d", (), "b")), run="three"),
    ]
    assert [record.run for record in last_run(records, command="up")] == ["two"]
    assert last_run(records, command="replay") == []


@given(graphs(), st.data())
def test_critical_path_is_the_longest_way_through_the_graph(
    needs: dict[str, dict[str, Stage]], data: st.DataObject
) -> None:
    """A run without waiting for slots, against the longest path computed on the graph alone."""
    took = {name: data.draw(st.integers(1, 1000)) for name in needs}
    ends: dict[str, int] = {}
    events: list[tuple[int, Event]] = []
    for name, stages in needs.items():  # the names are in topological order
        begin = max((ends[need] for need in stages), default=0)
        released_by = next((need for need in stages if ends[need] == begin), "")
        ends[name] = begin + took[name]
        events.append((begin, StepQueued(name, 1, released_by)))
        events.append((ends[name], StepFinished(name, ENSURE, Outcome.CHANGED, 1, "")))
    path = critical_path(spans(told(*events)))
    assert sum(took[span.node] for span in path) == max(ends.values())
    for earlier, later in itertools.pairwise(path):
        assert earlier.node in needs[later.node]
