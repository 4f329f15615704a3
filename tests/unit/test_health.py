"""When a service that does not answer counts as hung."""

from __future__ import annotations

import pytest

from orchestrator.health import STARVED, Shortage, Silence, verdict


@pytest.mark.parametrize(
    ("since_s", "moved_s", "short_s", "expected"),
    [
        (99.5, 99.5, None, None),
        (97, 99.5, None, None),  # it works
        (97, 98, None, "it did nothing for 2 s, though asked"),
        (90, 99.5, None, "it works, but did not answer for 10 s"),
        (99.7, 99.9, 99.9, None),  # a descriptor has just come free
        (99.7, 99.9, 99.7, STARVED),
        (98, 99.9, 99.9, STARVED),  # they come free and are taken: too long
    ],
)
def test_verdict(
    since_s: float, moved_s: float, short_s: float | None, expected: str | None
) -> None:
    shortage = None if short_s is None else Shortage(short_s, [])
    assert verdict(Silence(since_s, moved_s), shortage, 100) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([{1, 2}, {3}], True),
        ([{1}, {3}], True),  # closed by whoever asked: the limit may lie below what is open
        ([{1, 4}, {3}], False),  # one was opened, so one had come free
        ([{1, 2}], False),  # a process has ended
    ],
)
def test_shortage_goes_on_until_something_is_opened(now: list[set[int]], expected: bool) -> None:
    before = Shortage(0, [frozenset({1, 2}), frozenset({3})])
    assert before.goes_on([frozenset(each) for each in now]) is expected
