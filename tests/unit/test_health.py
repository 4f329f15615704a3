"""When a service that does not answer counts as hung."""

from __future__ import annotations

import pytest

from orchestrator.health import Shortage, Silence, verdict

FULL = "it has no file descriptor left"


@pytest.mark.parametrize(
    ("since_s", "moved_s", "short_s", "expected"),
    [
        (99.5, 99.5, None, None),
        (97, 99.5, None, None),  # it works
        (97, 98, None, "it did nothing for 2 s, though asked"),
        (90, 99.5, None, "it works, but did not answer for 10 s"),
        (99.7, 99.9, 99.9, None),  # a descriptor has just come free
        (99.7, 99.9, 99.7, FULL),
        (98, 99.9, 99.9, FULL),  # they come free and are taken: too long
    ],
)
def test_verdict(
    since_s: float, moved_s: float, short_s: float | None, expected: str | None
) -> None:
    shortage = None if short_s is None else Shortage(short_s, [])
    assert verdict(Silence(since_s, moved_s), shortage, 100) == expected
