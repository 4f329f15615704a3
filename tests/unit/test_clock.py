"""The wall clock may jump: it is shown to people, and decides nothing."""

from __future__ import annotations

import ast
from pathlib import Path

from msgspec.structs import replace

from orchestrator.events import (
    Action,
    Outcome,
    Record,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProvisioned,
    StepQueued,
    StepStarted,
)
from orchestrator.sights.critical import critical_chain
from orchestrator.sights.history import nodes
from orchestrator.sights.phases import fold
from orchestrator.supervisor import Healings

ROOT = Path(__file__).parents[2]
WALL = {"time", "time_ns", "now", "utcnow", "today", "gmtime", "localtime", "strftime"}
# Where it is shown to people.
SHOWN = {
    "orchestrator/engine/bus.py": {"time_ns"},
    "orchestrator/app.py": {"strftime", "gmtime"},
    "orchestrator/commands/look.py": {"strftime", "localtime"},
    "orchestrator/commands/secrets.py": {"time"},  # ages
    "orchestrator/commands/supervise.py": {"strftime"},
    "orchestrator/drawing/gantt.py": {"strftime", "gmtime"},
    "orchestrator/front/page.py": {"time"},
    "orchestrator/path/reader.py": {"time"},  # exemplars and traces carry when they were seen
}


def test_wall_time_is_read_only_where_it_is_shown() -> None:
    found: dict[str, set[str]] = {}
    for path in (*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("services/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("time", "datetime", "date")
                and node.attr in WALL
            ):
                found.setdefault(str(path.relative_to(ROOT)), set()).add(node.attr)
    unexpected = {name: used - SHOWN.get(name, set()) for name, used in found.items()}
    assert not {name for name, used in unexpected.items() if used}


def test_history_is_the_same_whatever_the_wall_clock_did() -> None:
    events = [
        RunStarted("up", "digest", ("a",), "boot"),
        StepQueued("a", 1, ""),
        StepStarted("a", Action.ENSURE, 1),
        StepProvisioned("a", 1),
        StepFinished("a", Action.ENSURE, Outcome.CHANGED, 1, ""),
        RunFinished(Outcome.CHANGED, (), ()),
    ]
    steady = [Record(n, "r", n, n * 10**9, event) for n, event in enumerate(events)]
    jumps = (0, 10**18, -(10**18), 5, 10**18, 0)
    jumped = [replace(record, wall_ns=wall) for record, wall in zip(steady, jumps, strict=True)]
    assert nodes(jumped) == nodes(steady)
    assert fold(jumped) == fold(steady)
    assert critical_chain(fold(jumped)) == critical_chain(fold(steady))


def test_healings_count_by_the_time_that_is_handed_in() -> None:
    healings = Healings(limit=2, window_s=60)
    for now_s in (1.0, 2.0):
        assert healings.give_up({"a"}, now_s) == []
        healings.healed("a", now_s)
    assert healings.give_up({"a"}, 3.0) == ["a"]
    assert Healings(limit=2, window_s=60).wait_s("a", 0.0) == 0
    healings.forgive()
    assert healings.give_up({"a"}, 4.0) == []
