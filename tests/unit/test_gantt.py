"""The picture and the tables of a run: everything is in them, where it belongs."""

from __future__ import annotations

import pytest
from drawings import assert_apart, assert_stands_alone, boxes, titles
from graphs import graphs
from hypothesis import given
from timed import Journey, journeys

from orchestrator.drawing.gantt import HUES, ROW, TOP, as_svg
from orchestrator.drawing.timings import blame_text, chain_text, took
from orchestrator.engine.plan import Stage
from orchestrator.sights.critical import critical_chain
from orchestrator.sights.phases import Phase, fold

BARS = ("s0", "s1", "s3", "s7")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0"),
        (999, "1us"),
        (999_499, "999us"),
        (999_500, "1.0ms"),
        (9_949_999, "9.9ms"),
        (9_950_000, "10ms"),
        (999_499_999, "999ms"),
        (999_500_000, "1.000s"),
        (-412_000_000, "-412ms"),
    ],
)
def test_durations_are_written_for_people(ns: int, text: str) -> None:
    assert took(ns) == text


@given(journeys(graphs(), failures=True))
def test_every_picture_holds_to_the_rules(journey: Journey) -> None:
    run = fold(journey.records())
    picture = as_svg(run)
    assert_stands_alone(picture)
    bars = [
        box for name in BARS for box in boxes(picture, name) if box[1] < TOP + ROW * len(run.nodes)
    ]
    assert len(bars) >= len(run.acted_on)
    assert_apart(
        [(x + 1.5, y, right - 0.2, bottom) for x, y, right, bottom in bars if right > x + 2]
    )
    found = titles(picture)
    for node in run.acted_on:
        assert any(title.startswith(f"{node.node}: ") for title in found)
    failed = [each for node in run.acted_on for each in node.attempts if each.outcome == "error"]
    assert sum(title.startswith("attempt ") for title in found) == len(failed)
    assert found.count("critical path") == bool(critical_chain(run).links)


def test_bars_are_as_long_as_the_phases() -> None:
    """a works for 100 ticks and is probed for 300; b begins when a has started."""
    needs = {"a": {}, "b": {"a": Stage.STARTED}}
    run = fold(Journey(needs, {"a": [100], "b": [200]}, {"a": 300, "b": 0}).records())
    picture = as_svg(run)
    (work_a, work_b), (gate_a,) = (
        [box for box in boxes(picture, HUES[phase]) if box[1] < TOP + 2 * ROW]
        for phase in (Phase.PROVISION, Phase.READINESS_WAIT)
    )
    tick = (work_a[2] - work_a[0]) / 100
    assert gate_a[0] == pytest.approx(work_a[2], abs=0.11)
    assert gate_a[2] - gate_a[0] == pytest.approx(300 * tick, abs=0.21)
    assert work_b[0] == pytest.approx(work_a[2], abs=0.11)
    assert work_b[2] - work_b[0] == pytest.approx(200 * tick, abs=0.21)
    assert work_b[1] > work_a[1]
    assert ">readiness<" in picture
    assert "backoff" not in picture
    assert "waits for a slot" not in picture


def test_tables_name_every_node_and_what_befell_it() -> None:
    needs = {"a": {}, "b": {"a": Stage.READY}, "c": {"b": Stage.READY}}
    work = {"a": [3, 4], "b": [5], "c": [6]}
    journey = Journey(needs, work, dict.fromkeys(needs, 1), hopeless={"b"})
    run = fold(journey.records())
    blame = blame_text(run)
    assert "a (2 attempts)" in blame
    assert "b (failed)" in blame
    assert "never had their turn: c" in blame
    chain = chain_text(run).splitlines()
    assert chain[5].startswith("b @")
    assert chain[6].startswith("└─a @0 +")


def test_what_is_too_short_to_be_seen_is_not_in_the_legend() -> None:
    """b waits one tick for the only slot, of 5,001."""
    work = {"a": [1], "b": [5000]}
    journey = Journey({"a": {}, "b": {}}, work, dict.fromkeys(work, 0), workers=1)
    run = fold(journey.records())
    assert run.nodes["b"].in_phase(Phase.SLOT_WAIT) > 0
    picture = as_svg(run)
    assert "waits for a slot" not in picture
    assert len(boxes(picture, HUES[Phase.PROVISION])) == 2 + 1  # and the legend's
