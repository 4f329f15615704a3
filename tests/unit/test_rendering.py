"""A template that would not end is ended, in whatever way it goes on."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from orchestrator import rendering
from orchestrator.rendering import EndlessError

MANY = "range(99999)"
ENDLESS = {
    "loops in loops": "{% for a in MANY %}{% for b in MANY %}{% endfor %}{% endfor %}",
    "loops that write": "{% for a in MANY %}{% for b in MANY %}{{ '' }}{% endfor %}{% endfor %}",
    "lists": "{% for a in MANY %}{% set x = MANY|list %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
}


@pytest.mark.parametrize("is_compiled", [False, True], ids=["text", "compiled"])
@pytest.mark.parametrize("name", ENDLESS)
def test_work_is_bounded(name: str, is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "LIMIT_S", 0.05)
    text = ENDLESS[name].replace("MANY", MANY)
    with pytest.raises(EndlessError, match="processor time"):
        rendering.render(text, {}, rendering.compiled(text) if is_compiled else None)


def test_length_is_bounded() -> None:
    with pytest.raises(EndlessError, match="characters"):
        rendering.render(
            "{% for a in range(99999) %}{{ text }}{% endfor %}", {"text": "x" * 999}, None
        )


def test_what_traces_us_goes_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "LIMIT_S", 0.05)

    def tracer(_: FrameType, __: str, ___: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        assert rendering.render("{% for a in range(3) %}{{ a }}{% endfor %}", {}, None) == "012"
        with pytest.raises(EndlessError):
            rendering.render(ENDLESS["loops in loops"].replace("MANY", MANY), {}, None)
        found = sys.gettrace()
    finally:
        sys.settrace(before)
    assert found is tracer
