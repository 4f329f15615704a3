"""Phases, critical chain, slack and what-if, on journals of the real executor with a virtual clock.

What is expected is computed on the graph alone, from durations that were drawn beforehand.
"""

from __future__ import annotations

import itertools

import pytest
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st
from timed import Journey, journeys
from virtualtime import TICK_NS

from orchestrator.engine.plan import Stage
from orchestrator.errors import UsageError
from orchestrator.events import (
    Action,
    Cause,
    Event,
    GateChecked,
    Outcome,
    Record,
    RunFinished,
    RunStarted,
    SlotTaken,
    StepFinished,
    StepGivenUp,
    StepProvisioned,
    StepQueued,
    StepStarted,
)
from orchestrator.sights.critical import critical_chain, slack
from orchestrator.sights.phases import Attempt, AttemptOutcome, Phase, RunSpan, fold
from orchestrator.sights.whatif import parse, play

READY, STARTED, BESIDE = Stage.READY, Stage.STARTED, Stage.BESIDE
WAIT, SLOT, WORK, BACKOFF, GATE = Phase


def longest_ns(journey: Journey) -> int:
    """The longest way through the graph, by trying every one."""

    def ways(name: str, stage: Stage) -> list[int]:
        work, gate = journey.work[name][0], journey.gate[name] if stage is READY else 0
        needs = journey.needs[name].items()
        before = [way for need, at in needs if at is not BESIDE for way in ways(need, at)]
        beside = [way for need, at in needs if at is BESIDE for way in ways(need, READY)]
        # What it was started beside is only in the way of its gate.
        joined = [gate + way for way in beside] if stage is READY else []
        return [work + gate + way for way in before or [0]] + joined

    return max(way for name in journey.needs for way in ways(name, READY)) * TICK_NS


def assert_whole(run: RunSpan) -> None:
    """Without gaps from the run's start, node by node and along the chain."""
    for node in run.nodes.values():
        assert node.segments[0].start_ns == 0
        for earlier, later in itertools.pairwise(node.segments):
            assert earlier.end_ns == later.start_ns
        assert sum(node.in_phase(phase) for phase in Phase) == node.end_ns <= run.wall_ns
        assert all(each.ns >= 0 for each in node.segments)
    chain = critical_chain(run)
    assert chain.total_ns == run.wall_ns
    at_ns = 0
    for link in chain.links:
        assert link.hand_over_ns >= 0
        assert link.start_ns == at_ns + link.hand_over_ns
        assert sum(each.ns for each in link.segments) == link.ns
        at_ns = link.end_ns
    assert at_ns + chain.tail_ns == run.wall_ns
    for earlier, later in itertools.pairwise(chain.links):
        assert run.nodes[later.node].release(later.end_ns) == (later.start_ns, earlier.node)
        wanted = run.needs[later.node][earlier.node]
        assert earlier.stage == ("ready" if wanted == "beside" else wanted)


@given(journeys(graphs(beside=True)))
def test_phases_are_the_durations_that_were(journey: Journey) -> None:
    run = fold(journey.records())
    assert_whole(run)
    ends = journey.ends()
    for name, node in run.nodes.items():
        assert node.in_phase(WORK) == journey.work[name][0] * TICK_NS
        assert node.in_phase(GATE) == journey.gate[name] * TICK_NS
        assert (node.in_phase(SLOT), node.in_phase(BACKOFF)) == (0, 0)
        assert (node.first_reached("started"), node.end_ns) == ends[name]
        assert [each.outcome for each in node.attempts] == [AttemptOutcome.OK]


@given(journeys(graphs(beside=True)))
def test_chain_is_the_longest_way_through_the_graph(journey: Journey) -> None:
    run = fold(journey.records())
    chain = critical_chain(run)
    assert chain.own_ns == run.wall_ns == longest_ns(journey)
    assert chain.rest_ns == 0


@given(journeys(graphs()))
def test_slack_is_what_delays_nothing_and_a_tick_more_does(journey: Journey) -> None:
    run = fold(journey.records())
    found = slack(run)
    assert found.keys() == journey.needs.keys()
    assert all(found[name] == 0 for name in critical_chain(run).nodes)
    for name, slack_ns in found.items():
        for more_ns, delay_ns in ((slack_ns, 0), (slack_ns + TICK_NS, TICK_NS)):
            end_ns = max(end for _, end in journey.ends({name: more_ns}).values())
            assert end_ns == run.wall_ns + delay_ns


@given(journeys(graphs(beside=True), failures=True))
def test_runs_with_failures_and_few_slots_are_whole(journey: Journey) -> None:
    run = fold(journey.records())
    assert_whole(run)
    for name, node in run.nodes.items():
        work = journey.work[name]
        if not node.was_queued:
            assert node.outcome is Outcome.SKIPPED
            assert [each.phase for each in node.segments] == [WAIT]
            continue
        assert node.in_phase(WORK) == sum(work) * TICK_NS
        last = AttemptOutcome.ERROR if name in journey.hopeless else AttemptOutcome.OK
        if node.outcome is Outcome.SKIPPED:
            last = AttemptOutcome.CANCELLED  # what it was started beside is lost
        outcomes = [AttemptOutcome.ERROR] * (len(work) - 1) + [last]
        assert [each.outcome for each in node.attempts] == outcomes
        assert [each.number for each in node.attempts] == list(range(1, len(work) + 1))
        assert (node.in_phase(BACKOFF) > 0) == (len(work) > 1)
        for number, ticks in enumerate(work, start=1):
            own = [each for each in node.segments if (each.attempt, each.phase) == (number, WORK)]
            assert sum(each.ns for each in own) == ticks * TICK_NS


@given(journeys(graphs(), failures=True), st.data())
def test_a_killed_run_is_whole_and_what_was_under_way_is_open(
    journey: Journey, data: st.DataObject
) -> None:
    records = journey.records()
    run = fold(records[: data.draw(st.integers(1, len(records) - 1))])
    assert_whole(run)
    assert run.outcome is None
    for node in run.nodes.values():
        assert [each.is_open for each in node.segments[:-1]] == [False] * (len(node.segments) - 1)
        assert node.segments[-1].is_open == (node.outcome is None)
        if node.segments[-1].is_open:
            assert node.end_ns == run.wall_ns


@given(journeys(graphs()))
def test_played_without_a_change_it_is_the_same_run(journey: Journey) -> None:
    run = fold(journey.records())
    again = play(run)
    assert again.wall_ns == run.wall_ns
    for name, node in run.nodes.items():
        assert again.nodes[name].segments == node.segments
    assert slack(again) == slack(run)


@given(journeys(graphs(largest=6), failures=True))
def test_played_with_failures_and_few_slots_it_takes_as_long(journey: Journey) -> None:
    """Distinct powers of two as durations: no two moments are the same by chance, so the
    order of the engine is fully told by its rules."""
    bits = (1 << number for number in itertools.count())
    journey.work = {name: [next(bits) for _ in work] for name, work in journey.work.items()}
    journey.gate = {name: next(bits) for name in journey.gate}
    run = fold(journey.records())
    again = play(run)
    for name, node in run.nodes.items():
        if node.was_queued:
            assert again.nodes[name].segments == node.segments
            assert again.nodes[name].attempts[-1].outcome == node.attempts[-1].outcome


@given(journeys(graphs()), st.data())
def test_played_with_another_duration_it_ends_when_the_graph_says(
    journey: Journey, data: st.DataObject
) -> None:
    run = fold(journey.records())
    name = data.draw(st.sampled_from(sorted(journey.needs)))
    more_ms = data.draw(st.integers(0, 3000))
    played = play(run, [parse(f"{name}.provision=+{more_ms}ms", run.nodes)])
    expected = journey.ends({name: more_ms * 1_000_000})
    assert played.wall_ns == max(end for _, end in expected.values())
    assert critical_chain(played).total_ns == played.wall_ns


def test_one_slot_plays_everything_one_after_the_other() -> None:
    journey = Journey(
        {"a": {}, "b": {}, "c": {}}, {"a": [3], "b": [4], "c": [5]}, dict.fromkeys("abc", 2)
    )
    run = fold(journey.records())
    assert run.wall_ns == 7 * TICK_NS
    assert play(run, max_workers=1).wall_ns == (3 + 4 + 5 + 2) * TICK_NS
    assert play(run, max_workers=1).nodes["b"].in_phase(SLOT) == 3 * TICK_NS
    journey.workers = 1
    assert fold(journey.records()).wall_ns == play(run, max_workers=1).wall_ns


def test_a_need_at_started_counts_until_started() -> None:
    journey = Journey({"a": {}, "b": {"a": STARTED}}, {"a": [2], "b": [7]}, {"a": 3, "b": 0})
    run = fold(journey.records())
    links = critical_chain(run).links
    assert [(link.node, link.stage, link.ns // TICK_NS) for link in links] == [
        ("a", "started", 2),
        ("b", "", 7),
    ]
    assert slack(run) == {"a": 0, "b": 0}


def told(*events: tuple[int, Event], nodes: str = "ab", begin: Event | None = None) -> RunSpan:
    """The run of these events, each with its ns from the start."""
    first = begin or RunStarted("up", "d", tuple(nodes), "b", {"b": {"a": "ready"}}, 8)
    story = [(0, first), *events]
    return fold(Record(seq, "r", 0, 10**12 + at, event) for seq, (at, event) in enumerate(story))


def test_undoing_is_own_work_and_the_cause_is_the_attempts_outcome() -> None:
    run = told(
        (5, StepQueued("a", 1, "")),
        (5, SlotTaken("a", 1)),
        (6, StepStarted("a", Action.ENSURE, 1)),
        (9, StepProvisioned("a", 1)),
        (12, GateChecked("a", "tcp", False, "refused")),
        (40, StepGivenUp("a", 1, Cause.TIMEOUT)),
        (50, StepFinished("a", Action.ENSURE, Outcome.FAILED, 1, "too late")),
        (51, StepFinished("b", Action.ENSURE, Outcome.SKIPPED, 0, "its need a")),
        (52, RunFinished(Outcome.FAILED, ("a",), ("b",))),
    )
    assert_whole(run)
    a, b = run.nodes["a"], run.nodes["b"]
    assert [(each.phase, each.ns) for each in a.segments] == [
        (WAIT, 5),
        (SLOT, 0),
        (WORK, 4),
        (GATE, 31),
        (WORK, 10),
    ]
    assert a.segments[-1].undoes
    assert a.attempts == (Attempt(1, AttemptOutcome.TIMEOUT, "too late"),)
    assert a.probes == {("tcp", False): 1}
    assert (b.outcome, b.own_ns, b.end_ns) == (Outcome.SKIPPED, 0, 51)
    chain = critical_chain(run)
    assert [link.node for link in chain.links] == ["a"]
    assert (chain.hand_over_ns, chain.tail_ns) == (5, 2)
    assert slack(run) == {"a": 0}


def test_taking_away_obeys_the_order_that_was_recorded() -> None:
    """b needs a: so a waits for b to be gone, even if that fails."""
    run = told(
        (1, StepQueued("b", 1, "")),
        (2, SlotTaken("b", 1)),
        (3, StepStarted("b", Action.REMOVE, 1)),
        (6, StepGivenUp("b", 1, Cause.ERROR)),
        (7, StepFinished("b", Action.REMOVE, Outcome.FAILED, 1, "it holds on")),
        (9, StepQueued("a", 1, "b")),
        (9, SlotTaken("a", 1)),
        (19, StepFinished("a", Action.REMOVE, Outcome.UNCHANGED, 1, "")),
        (20, RunFinished(Outcome.FAILED, ("b",), ())),
        begin=RunStarted("down", "d", ("a", "b"), "b", {"a": {"b": "ready"}}, 8),
    )
    assert_whole(run)
    links = critical_chain(run).links
    assert [(link.node, link.hand_over_ns, link.ns) for link in links] == [
        ("b", 1, 6),
        ("a", 2, 10),
    ]
    again = play(run)
    assert [each.ns for each in again.nodes["a"].segments] == [5, 0, 10]


def test_a_journal_of_before_has_phases_and_a_chain_but_no_slack() -> None:
    run = told(
        (1, StepQueued("a", 1, "")),
        (4, StepStarted("a", Action.ENSURE, 1)),
        (9, StepProvisioned("a", 1)),
        (12, StepFinished("a", Action.ENSURE, Outcome.CHANGED, 1, "")),
        (13, StepQueued("b", 1, "a")),
        (14, StepProvisioned("b", 1)),
        (19, StepFinished("b", Action.ENSURE, Outcome.UNCHANGED, 1, "")),
        (20, RunFinished(Outcome.CHANGED, (), ())),
        begin=RunStarted("up", "d", ("a", "b"), "b"),
    )
    chain = critical_chain(run)
    assert ([link.node for link in chain.links], chain.total_ns) == (["a", "b"], 20)
    assert run.nodes["a"].in_phase(WORK) == 5
    assert slack(run) == {}
    with pytest.raises(UsageError, match="without its needs"):
        play(run)


def test_a_damaged_journal_breaks_nothing() -> None:
    """Lines may be missing: here the first attempts' and a release by nobody."""
    run = told(
        (4, StepFinished("a", Action.ENSURE, Outcome.CHANGED, 2, "")),
        (5, StepQueued("b", 1, "ghost")),
        (5, StepQueued("stranger", 1, "")),
        (9, StepFinished("b", Action.ENSURE, Outcome.CHANGED, 1, "")),
    )
    assert [link.node for link in critical_chain(run).links] == ["b"]
    assert critical_chain(run).total_ns == run.wall_ns == 9
    with pytest.raises(ValueError, match="begins with"):
        fold([])


@pytest.mark.parametrize(
    ("text", "was_ms", "now_ms"),
    [
        ("a=200ms", 500, 200),
        ("a=-300ms", 500, 200),
        ("a=-300ms", 100, 0),
        ("a=+1s", 500, 1500),
        ("a=50%", 500, 250),
        ("a=-10%", 500, 450),
        ("a.backoff=0s", 500, 0),
        ("service:a.x=1.5s", 0, 1500),
        ("a.x=2000us", 0, 2),
    ],
)
def test_changes_are_read(text: str, was_ms: int, now_ms: int) -> None:
    change = parse(text, ["a", "service:a.x"])
    assert change.apply(was_ms * 1_000_000) == now_ms * 1_000_000
    assert change.node == ("service:a.x" if "a.x" in text else "a")
    assert change.phase == (BACKOFF if "backoff" in text else None)


@pytest.mark.parametrize(
    "text", ["a", "a=", "a=fast", "a=3", "a=--3s", "=3s", "x=3s", "a.slot_wait=1s"]
)
def test_other_changes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text, ["a"])


def test_a_change_is_spread_over_the_attempts_to_the_nanosecond() -> None:
    journey = Journey({"a": {}}, {"a": [3, 5, 7]}, {"a": 11})
    run = fold(journey.records())
    played = play(
        run, [parse("a.provision=1000us", run.nodes), parse("a.readiness_wait=0s", run.nodes)]
    )
    before, after = run.nodes["a"], played.nodes["a"]
    assert (after.in_phase(WORK), after.in_phase(GATE)) == (1_000_000, 0)
    assert after.in_phase(BACKOFF) == before.in_phase(BACKOFF)
    once = fold(Journey({"a": {}}, {"a": [3]}, {"a": 0}).records())
    with pytest.raises(UsageError, match="no backoff"):
        play(once, [parse("a.backoff=+1s", once.nodes)])


def test_the_heaviest_waiter_is_played_first() -> None:
    """While `first` holds the only slot, `short` waits before `long`, on which more hangs."""
    needs = {"first": {}, "short": {}, "long": {}, "next": {"long": READY}}
    work = {"first": [1], "short": [2], "long": [4], "next": [8]}
    journey = Journey(needs, work, dict.fromkeys(needs, 0), workers=1)
    run = fold(journey.records())
    assert run.nodes["short"].in_phase(SLOT) == (1 + 4) * TICK_NS
    assert [node.segments for node in play(run).nodes.values()] == [
        node.segments for node in run.nodes.values()
    ]
