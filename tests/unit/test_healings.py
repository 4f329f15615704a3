"""How often the supervisor heals one node, how long it waits, and when it gives up."""

from __future__ import annotations

import pytest

from orchestrator.supervisor import Healings


def healed(*times_s: float) -> Healings:
    found = Healings(limit=3, window_s=60.0)
    for at_s in times_s:
        found.healed("a", at_s)
    return found


@pytest.mark.parametrize(
    ("times", "wait_s"),
    [((), 0), ((100,), 0.5), ((99, 100), 1), ((98, 99, 100), 2), ((30, 100), 0.5)],
)
def test_wait_doubles_with_each_healing_within_the_window(
    times: tuple[float, ...], wait_s: float
) -> None:
    assert healed(*times).wait_s("a", 100) == wait_s
    assert healed(*times).wait_s("b", 100) == 0


def test_what_breaks_after_the_last_healing_is_given_up_and_told_once() -> None:
    found = healed(100, 101, 102)
    assert found.give_up({"a", "b"}, 103) == ["a"]
    assert found.give_up({"a"}, 103) == []
    assert found.given_up == {"a"}


def test_healings_long_ago_do_not_count() -> None:
    assert healed(1, 2, 103).give_up({"a"}, 104) == []


def test_given_up_node_that_somebody_mends_and_that_breaks_again_is_told_again() -> None:
    found = healed(100, 101, 102)
    found.give_up({"a"}, 103)
    found.forgive_mended({"a"})
    assert found.given_up == {"a"}
    found.forgive_mended(set())
    assert found.given_up == set()
    assert found.give_up({"a"}, 110) == ["a"]


def test_given_up_node_that_is_well_for_a_window_is_healed_again() -> None:
    found = healed(100, 101, 102)
    found.give_up({"a"}, 103)
    found.forgive_mended(set())
    assert found.give_up({"a"}, 170) == []
