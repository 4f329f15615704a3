"""The fold over the journal that tells what a node came to."""

from __future__ import annotations

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
from orchestrator.sights.history import nodes

ENSURE, REMOVE = Action.ENSURE, Action.REMOVE


def told(*events: tuple[int, Event]) -> list[Record]:
    """Records at these milliseconds."""
    return [
        Record(seq, "r", 0, at_ms * 1_000_000, event) for seq, (at_ms, event) in enumerate(events)
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
        now = nodes(records)["a"]
        assert now.state == story[upto - 1][2]
        assert now.last_error == ("it broke" if 3 <= upto < len(story) else "")
    last = nodes(told(*((at_ms, event) for at_ms, event, _ in story)))["a"]
    assert last.ready_after_s == 0.05  # from its first attempt, backoff included
    assert last.restarts == 0


def test_failure_is_remembered_and_down_forgets() -> None:
    failed = StepFinished("a", ENSURE, Outcome.FAILED, 3, "no")
    assert nodes(told((0, failed)))["a"].state == "failed"
    assert nodes(told((0, failed)))["a"].last_error == "no"
    gone = StepFinished("a", REMOVE, Outcome.CHANGED, 1, "")
    assert nodes(told((0, failed), (1, gone)))["a"].state == "stopped"


def restarts(*runs: tuple[str, int]) -> int:
    """After these runs, each a command and how many processes of the node it started."""
    records = []
    for number, (command, starts) in enumerate(runs):
        begun = RunStarted(command, "d", ("a",), "b", {}, max_workers=1)
        for event in (begun, *[ProcessStarted("a", 7, 8)] * starts):
            records.append(Record(len(records), f"r{number}", 0, 0, event))
    return nodes(records)["a"].restarts


def test_restarts_are_those_that_nobody_asked_for() -> None:
    assert restarts(("up", 1)) == 0
    assert restarts(("up", 1), ("replay", 1), ("replay", 1)) == 0
    assert restarts(("up", 1), ("heal", 1), ("replay", 1), ("heal", 1)) == 2
    assert restarts(("up", 3)) == 2  # it ended twice before it was ready


def test_pause_of_a_replay_is_no_end() -> None:
    """Only `down` counts from 0 again."""
    for command, kept in (("stop", 1), ("down", 0)):
        records = [
            Record(1, "1", 0, 1, RunStarted("heal", "", ("a",), "", {}, 1, {})),
            Record(2, "1", 0, 2, ProcessStarted("a", 7, 8)),
            Record(3, "2", 0, 3, RunStarted(command, "", ("a",), "", {}, 1, {})),
            Record(4, "2", 0, 4, StepFinished("a", REMOVE, Outcome.CHANGED, 1, "")),
        ]
        assert (nodes(records)["a"].state, nodes(records)["a"].restarts) == ("stopped", kept)
