"""How long nodes took is told to the next run, and decides nothing but its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.events import Action, Event, Outcome, Record, StepFinished, StepStarted
from orchestrator.lasted import Lasted

ENSURE, REMOVE = Action.ENSURE, Action.REMOVE


def tell(lasted: Lasted, ms: int, event: Event) -> None:
    lasted(Record(0, "run", 0, ms * 1_000_000, event))


def test_what_a_run_has_made_is_known_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lasted.json"
    path.write_text('{"a": 7, "other": 8}')
    lasted = Lasted(path)
    tell(lasted, 10, StepStarted("a", ENSURE, 1))
    tell(lasted, 11, StepStarted("failed", ENSURE, 1))
    tell(lasted, 12, StepStarted("gone", REMOVE, 1))
    tell(lasted, 42, StepFinished("a", ENSURE, Outcome.CHANGED, 1, ""))
    tell(lasted, 43, StepFinished("failed", ENSURE, Outcome.FAILED, 1, ""))
    tell(lasted, 44, StepFinished("gone", REMOVE, Outcome.CHANGED, 1, ""))
    tell(lasted, 45, StepFinished("stood", ENSURE, Outcome.UNCHANGED, 1, ""))
    lasted.keep()
    names = ["a", "other", "failed", "gone", "stood"]
    assert Lasted(path).of(names) == {"a": 32, "other": 8}
    assert Lasted(path).of(["other"]) == {"other": 8}


@pytest.mark.parametrize(
    "text", [None, "", "[1]", "{", '{"a": -1, "b": true, "c": "x"}', "[" * 9999]
)
def test_a_damaged_file_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "lasted.json"
    if text is not None:
        path.write_text(text)
    assert Lasted(path).of(["a", "b", "c"]) == {}


def test_where_nothing_can_be_kept_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lasted = Lasted(tmp_path / "file" / "lasted.json")
    tell(lasted, 0, StepStarted("a", ENSURE, 1))
    tell(lasted, 1, StepFinished("a", ENSURE, Outcome.CHANGED, 1, ""))
    lasted.keep()
