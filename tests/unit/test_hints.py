"""A command that is told can be copied: it acts on the lab that the telling one acted on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import hints
from orchestrator.commands.target import Target
from orchestrator.hints import hinted, hinted_document

OPTIONS = "--host-netns fresh1 --state-dir /tmp/s"


@pytest.fixture(autouse=True)
def given() -> Iterator[None]:
    hints.remember(lambda: OPTIONS)
    yield
    hints._options.clear()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("orchestrator replay", f"orchestrator replay {OPTIONS}"),
        ("  mend: orchestrator replay", f"  mend: orchestrator replay {OPTIONS}"),
        (
            "orchestrator logs web; orchestrator replay web",
            f"orchestrator logs {OPTIONS} web; orchestrator replay {OPTIONS} web",
        ),
        ("x\n  mend: `orchestrator up`", f"x\n  mend: `orchestrator up {OPTIONS}`"),
        ("`orchestrator up --thaw`", f"`orchestrator up {OPTIONS} --thaw`"),
        ("`orchestrator analyze runs` lists", f"`orchestrator analyze runs {OPTIONS}` lists"),
        ("orchestrator:shop@x hook", "orchestrator:shop@x hook"),
        ("belongs to orchestrator:shop", "belongs to orchestrator:shop"),
        ("the orchestrator does it", "the orchestrator does it"),
    ],
)
def test_commands_of_ours_have_the_options_and_nothing_else_has(text: str, told: str) -> None:
    assert hinted(text) == told
    assert hinted_document({"a": [text, 1, None]}) == {"a": [told, 1, None]}


def test_default_lab_needs_no_options() -> None:
    hints.remember(lambda: "")
    assert hinted("mend: `orchestrator up`") == "mend: `orchestrator up`"


def test_options_are_the_target_s(tmp_path: Path) -> None:
    target = Target(tmp_path / "s.yaml", "other", tmp_path, Path("/run/orchestrator"))
    hints.remember(target.short_words)
    options = f"--host-netns other --state-dir {tmp_path} --stack {tmp_path / 's.yaml'}"
    assert hinted("orchestrator down") == f"orchestrator down {options}"
