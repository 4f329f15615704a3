"""What somebody may have meant."""

from __future__ import annotations

import pytest

from orchestrator.engine.plan import Node
from orchestrator.errors import UsageError
from orchestrator.near import did_you_mean, full_and_short
from orchestrator.processes.check import Milestone
from orchestrator.replay import targets


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gateway", " (did you mean api-gateway?)"),
        ("veth:ordre", " (did you mean veth:order?)"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_near_names_are_hinted_at(word: str, hint: str) -> None:
    assert did_you_mean(word, full_and_short(["service:api-gateway", "veth:order"])) == hint


def test_same_name_is_hinted_at_once() -> None:
    assert did_you_mean("ordr", full_and_short(["veth:order", "netns:order"])).count(" order") == 1


def test_replay_hints_at_layers() -> None:
    node = Node(Milestone("service:front"), "gateway", {})
    with pytest.raises(UsageError, match=r"gatway \(did you mean gateway\?\)"):
        targets({"service:front": node}, "gatway", ())
