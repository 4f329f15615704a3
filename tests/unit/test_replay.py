"""The proof after a replay: what counts as disturbed."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from orchestrator.kernel.connections import Connection
from orchestrator.replay import Proof, prove

ONE, TWO = IPv4Address("10.0.0.10"), IPv4Address("10.0.0.20")
ALIVE = Connection("netns:one", ONE, 4000, TWO, 80, 1)
GONE = Connection("netns:one", ONE, 4001, TWO, 80, 2)


def proof(*, fragile: frozenset[Connection] = frozenset(), reset: frozenset[str]) -> Proof:
    same = {"service:one": ("pid", 7, "start", 70)}
    kept, now = {ALIVE, GONE}, {ALIVE}
    return prove(same, same, {"service:one"}, kept=kept, fragile=fragile, now=now, reset=reset)


def test_connection_that_broke_off_is_a_disturbance() -> None:
    found = proof(reset=frozenset({"netns:one"}))
    assert found.disturbed == ("connection netns:one 10.0.0.10:4001 → 10.0.0.20:80 is gone",)
    assert found.connections == 1


@pytest.mark.parametrize(
    ("fragile", "reset"),
    [
        (frozenset[Connection](), frozenset[str]()),  # closed by its program
        (frozenset[Connection](), frozenset({"netns:two"})),  # something else broke off
        (frozenset({GONE}), frozenset({"netns:one"})),  # over a link that was replaced
    ],
)
def test_connection_that_ended_otherwise_is_none(
    fragile: frozenset[Connection], reset: frozenset[str]
) -> None:
    assert proof(fragile=fragile, reset=reset).disturbed == ()


@pytest.mark.parametrize(
    "after",
    [{}, {"service:one": ("pid", 8, "start", 70)}, {"service:one": ("pid", 7, "start", 71)}],
)
def test_another_process_outside_of_the_radius_is_a_disturbance(
    after: dict[str, tuple[str | int, ...]],
) -> None:
    before = {"service:one": ("pid", 7, "start", 70)}
    nothing = frozenset[Connection]()
    for outside, count in (({"service:one"}, 1), (set[str](), 0)):
        found = prove(
            before, after, outside, kept=nothing, fragile=nothing, now=nothing, reset=frozenset()
        )
        assert len(found.disturbed) == count
