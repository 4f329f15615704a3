"""How long nodes took is told to the next run, and decides nothing but its order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.events import (
    Action,
    Event,
    Outcome,
    Record,
    StepFinished,
    StepJoined,
    StepProvisioned,
    StepStarted,
)
from orchestrator.lab import Lab
from orchestrator.lasted import Lasted

ENSURE, REMOVE = Action.ENSURE, Action.REMOVE


def tell(lasted: Lasted, ms: int, event: Event) -> None:
    lasted(Record(0, "run", 0, ms * 1_000_000, event))


def test_what_a_run_has_made_is_known_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lasted.json"
    path.write_text('{"a": [7, 9], "other": [8, 8]}')
    lasted = Lasted(path)
    tell(lasted, 10, StepStarted("a", ENSURE, 1))
    tell(lasted, 11, StepStarted("failed", ENSURE, 1))
    tell(lasted, 12, StepStarted("gone", REMOVE, 1))
    tell(lasted, 20, StepProvisioned("a", 1))
    tell(lasted, 30, StepJoined("a", 1, "b"))
    tell(lasted, 42, StepFinished("a", ENSURE, Outcome.CHANGED, 1, ""))
    tell(lasted, 43, StepFinished("failed", ENSURE, Outcome.FAILED, 1, ""))
    tell(lasted, 44, StepFinished("gone", REMOVE, Outcome.CHANGED, 1, ""))
    tell(lasted, 45, StepProvisioned("stood", 1))
    tell(lasted, 45, StepFinished("stood", ENSURE, Outcome.UNCHANGED, 1, ""))
    lasted.keep()
    names = ["a", "other", "failed", "gone", "stood"]
    known = Lasted(path).weights(names, {})
    assert known == {"a": 1 + 22, "other": 1 + 8, "failed": 1, "gone": 1, "stood": 1}


def test_a_way_goes_on_from_the_stage_that_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lasted.json"
    path.write_text('{"a": [10, 500], "b": [20, 100], "c": [30, 600], "alone": [1, 1000]}')
    needs = {"b": {"a": "started", "door": "ready"}, "c": {"b": "beside"}}
    found = Lasted(path).weights(["a", "b", "c", "door", "alone"], needs)
    assert found == {"c": 601, "b": 702, "a": 713, "door": 703, "alone": 1001}


TOO_MANY_DIGITS = '{"a": [1, ' + "9" * 4300 + "]}"  # what is one more cannot be written


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[1]", "{", "[" * 9999, TOO_MANY_DIGITS),
        '{"a": [-1, 2], "b": [true, 1], "c": [1], "a": 7}',
    ],
)
def test_a_damaged_file_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "lasted.json"
    if text is not None:
        path.write_text(text)
    assert Lasted(path).weights(["a", "b", "c"], {}) == {}


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lasted.json")
    assert Lasted(tmp_path / "lasted.json").weights(["a"], {}) == {}


def test_the_next_lab_of_the_same_stack_knows_it(tmp_path: Path) -> None:
    first, second, other = (
        Lab(stack, host, cache_root=tmp_path / "cache")
        for stack, host in (("shop", ""), ("shop", "private"), ("words", ""))
    )
    lasted = Lasted(first.lasted)
    tell(lasted, 0, StepStarted("a", ENSURE, 1))
    tell(lasted, 7, StepProvisioned("a", 1))
    tell(lasted, 9, StepFinished("a", ENSURE, Outcome.CHANGED, 1, ""))
    lasted.keep()
    assert first.lasted.parent.stat().st_mode & 0o777 == 0o700
    assert Lasted(second.lasted).weights(["a"], {}) == {"a": 10}
    assert Lasted(other.lasted).weights(["a"], {}) == {}


def test_where_nothing_can_be_kept_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lasted = Lasted(tmp_path / "file" / "lasted.json")
    tell(lasted, 0, StepStarted("a", ENSURE, 1))
    tell(lasted, 1, StepProvisioned("a", 1))
    tell(lasted, 1, StepFinished("a", ENSURE, Outcome.CHANGED, 1, ""))
    lasted.keep()
