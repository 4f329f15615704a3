"""When a service that does not answer counts as hung."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from orchestrator.engine.plan import Node
from orchestrator.health import STARVED, STOPPED, Health, Shortage, Silence, verdict
from orchestrator.processes.liveness import Asker
from orchestrator.processes.members import Look, Members
from orchestrator.resource import Resource


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


@dataclass
class Stopped:
    """A service's processes, one of which a signal has stopped."""

    pid: int = 7

    def look(self) -> Look:
        return Look(is_stopped=True, is_short=False)

    def identity(self) -> frozenset[tuple[int, int]]:
        return frozenset({(self.pid, 1)})


NODES = {"a": Node(cast("Resource", None), "", {})}


def test_judgement_does_not_pass_on_to_the_process_that_took_its_place() -> None:
    running = Stopped()
    health = Health(Asker({}), {"a": cast("Members", running)}, {})
    health.look_at_processes()
    health.look_at_processes()
    assert health.hung(NODES, ()) == {"a": STOPPED}
    running.pid = 8  # a replay, between two looks
    assert health.hung(NODES, ()) == {}
    health.look_at_processes()
    assert health.hung(NODES, ()) == {}
    running.pid = 9  # and within one
    health.look_at_processes()
    assert health.hung(NODES, ()) == {}
    health.look_at_processes()
    health.look_at_processes()
    assert health.hung(NODES, ()) == {"a": STOPPED}


def test_silence_of_the_one_before_is_none_of_who_took_its_place() -> None:
    running = Stopped()
    health = Health(Asker({}), {"a": cast("Members", running)}, {})
    health.silences["a"], health.reasons["a"] = Silence(0, 0), "it did nothing for 2 s"
    assert health.hung(NODES, ())
    running.pid = 8
    assert health.hung(NODES, ()) == health.silences == {}
