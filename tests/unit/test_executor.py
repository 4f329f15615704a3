"""The executor against resources that only remember: order, retries, undo, cancellation."""

from __future__ import annotations

import asyncio

import pytest
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st
from things import Bar, Thing, World, node, run

from orchestrator.engine.executor import Executor, Result
from orchestrator.engine.plan import Stage
from orchestrator.errors import ForeignError, GateTimeoutError, ResourceError
from orchestrator.events import (
    Action,
    Cause,
    Event,
    Outcome,
    SlotTaken,
    StepFinished,
    StepGivenUp,
    StepJoined,
    StepProvisioned,
    StepQueued,
    StepRetried,
    StepStarted,
)
from orchestrator.resource import Observation, State

READY, STARTED, BESIDE = Stage.READY, Stage.STARTED, Stage.BESIDE


async def test_independent_nodes_overlap() -> None:
    """Each waits for the other to have begun: one after the other would never end."""
    world, barrier = World(), asyncio.Barrier(3)
    things = [Thing(name, world, before=barrier.wait) for name in "abc"]
    result = await run(world, [node(thing) for thing in things])
    assert result.outcome is Outcome.CHANGED


async def test_one_worker_suffices_when_a_gate_waits_for_a_dependent() -> None:
    world, opened = World(), asyncio.Event()
    opener = Thing("b", world)

    async def open_it() -> None:
        opened.set()

    opener.before = open_it
    nodes = [node(Thing("a", world), gate=Bar(opened)), node(opener, {"a": STARTED})]
    assert (await run(world, nodes, workers=1)).outcome is Outcome.CHANGED


async def test_what_starts_beside_its_need_is_ready_only_after_it() -> None:
    world, began, opened, events = World(), asyncio.Event(), asyncio.Event(), list[Event]()

    async def begin() -> None:
        began.set()

    # It would never end if quick waited for it to start.
    slow, quick = Thing("slow", world, before=began.wait), Thing("quick", world, before=begin)
    opened.set()
    nodes = [node(slow), node(quick, {"slow": BESIDE}, gate=Bar(opened))]
    result = await run(world, nodes, events=events)
    assert result.outcome is Outcome.CHANGED
    ends = [event.node for event in events if isinstance(event, StepFinished)]
    assert ends == ["slow", "quick"]
    (joined,) = (event for event in events if isinstance(event, StepJoined))
    assert (joined.node, joined.released_by) == ("quick", "slow")


@pytest.mark.parametrize("steps", [1, 30], ids=["failed before it started", "fails after it"])
async def test_what_starts_beside_a_lost_need_is_taken_back_and_skipped(steps: int) -> None:
    world = World()
    broken = Thing("broken", world, failures=9, steps=steps, error=ForeignError)
    nodes = [
        node(broken),
        node(Thing("first", world, steps=10)),
        node(Thing("quick", world), {"broken": BESIDE, "first": READY}),
        node(Thing("next", world), {"quick": READY}),
    ]
    result = await run(world, nodes)
    assert result.outcomes["quick"] is result.outcomes["next"] is Outcome.SKIPPED
    assert result.skipped == {"quick": "broken", "next": "quick"}
    assert world.there == {"first"}
    assert ("+quick" in world.log) == (steps > 10)


async def test_waiting_beside_a_need_is_not_on_the_nodes_deadline() -> None:
    world = World()
    slow = Thing("slow", world)
    slow.before = lambda: asyncio.sleep(0.3)
    nodes = [node(slow), node(Thing("quick", world), {"slow": BESIDE}, deadline_s=0.1)]
    assert (await run(world, nodes)).outcome is Outcome.CHANGED


async def test_workers_are_never_more_than_allowed() -> None:
    world = World()
    nodes = [node(Thing(f"n{number}", world, steps=5)) for number in range(20)]
    await run(world, nodes, workers=3)
    assert world.most == 3


async def test_longest_chain_starts_first_when_slots_are_few() -> None:
    world = World()
    nodes = [
        node(Thing("short", world)),
        node(Thing("long", world)),
        node(Thing("next", world), {"long": READY}),
    ]
    blocker = node(Thing("first", world, steps=3))
    await run(world, [blocker, *nodes], workers=1)
    starts = [entry for entry in world.log if entry.startswith("+")]
    assert starts.index("+long") < starts.index("+short")


async def test_what_a_step_releases_goes_before_what_less_hangs_on() -> None:
    """With slots for all: work that does not wait holds the loop, so its order counts."""
    world = World()
    chain = {"a": {}, "b": {"a": READY}, "c": {"b": READY}, "end": {"c": READY}}
    nodes = [node(Thing(name, world, steps=0)) for name in ("x", "y", "z")]
    nodes += [node(Thing(name, world, steps=0), needs) for name, needs in chain.items()]
    await run(world, nodes)
    starts = [entry[1:] for entry in world.log if entry.startswith("+")]
    assert starts == ["a", "b", "c", "x", "y", "z", "end"]


async def test_weights_that_are_given_decide() -> None:
    world = World()
    chain = {"a": {}, "b": {"a": READY}, "c": {"b": READY}, "door": {}, "slow": {"door": READY}}
    nodes = {name: node(Thing(name, world, steps=0), needs) for name, needs in chain.items()}
    weights = {"slow": 9, "door": 10, "a": 8, "b": 7, "c": 6}
    executor = Executor(nodes, emit=lambda _: None, max_workers=8, weights=weights)
    await executor.run(Action.ENSURE)
    starts = [entry[1:] for entry in world.log if entry.startswith("+")]
    assert starts == ["door", "slow", "a", "b", "c"]


async def test_removals_that_nothing_holds_back_begin_in_one_turn() -> None:
    """Links are taken away for all that ask in one turn."""
    names = [f"n{number}" for number in range(5)]
    world = World(set(names))
    begun = list[int]()

    class Counting(Thing):
        async def remove(self) -> Outcome:
            begun.append(turn)
            return await super().remove()

    turn = 0

    def tick() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(tick)

    tick()
    await run(world, [node(Counting(name, world)) for name in names], Action.REMOVE)
    assert begun == [begun[0]] * 5


async def test_failed_attempt_is_undone_before_the_next() -> None:
    world, events = World(), list[Event]()
    result = await run(world, [node(Thing("a", world, failures=2))], events=events)
    assert result.outcome is Outcome.CHANGED
    assert world.log == ["+a", "-a", "+a", "-a", "+a", "a!"]
    retried = [event for event in events if isinstance(event, StepRetried)]
    assert [event.attempt for event in retried] == [1, 2]
    assert world.slept_s == pytest.approx([event.delay_s for event in retried], abs=0.001)
    assert world.slept_s[1] > world.slept_s[0] * 1.2


async def test_lost_node_leaves_nothing_and_skips_its_dependents() -> None:
    world, events = World(), list[Event]()
    nodes = [
        node(Thing("a", world, failures=9)),
        node(Thing("b", world), {"a": READY}),
        node(Thing("c", world), {"b": READY}),
        node(Thing("free", world)),
    ]
    result = await run(world, nodes, events=events)
    assert world.there == {"free"}
    assert result.failed == ("a",)
    assert result.skipped == {"b": "a", "c": "b"}
    ends = {event.node: event for event in events if isinstance(event, StepFinished)}
    assert (ends["a"].outcome, ends["a"].attempt) == (Outcome.FAILED, 3)
    assert "its need a " in ends["b"].reason


async def test_last_attempt_tells_why_before_it_is_undone() -> None:
    world, told = World(), dict[StepGivenUp, bool]()
    shut = node(Thing("shut", world), gate=Bar(asyncio.Event()), deadline_s=0.01)
    nodes = {"a": node(Thing("a", world, failures=9)), "shut": shut}

    def emit(event: Event) -> None:
        if isinstance(event, StepGivenUp):
            told[event] = bool({event.node, f"half {event.node}"} & world.there)

    await Executor(nodes, emit=emit, max_workers=2, sleep=world.sleep).run(Action.ENSURE)
    assert told == {
        StepGivenUp("a", 3, Cause.ERROR): True,
        StepGivenUp("shut", 1, Cause.TIMEOUT): True,
    }
    assert world.there == set()


async def test_foreign_thing_is_not_tried_again() -> None:
    world = World()
    await run(world, [node(Thing("a", world, failures=9, error=ForeignError))])
    assert world.log.count("+a") == 1


async def test_deadline_tells_the_last_answer_and_the_log() -> None:
    world = World()
    slow = node(Thing("a", world), gate=Bar(asyncio.Event(), "tcp: refused"), deadline_s=0.01)
    result = await run(world, [slow])
    error = result.errors["a"]
    assert isinstance(error, GateTimeoutError)
    assert "last answer: tcp: refused" in str(error)
    assert error.log == ("a last line",)
    assert world.there == set()


async def test_what_stood_before_is_neither_touched_nor_undone() -> None:
    world, events = World({"a"}), list[Event]()
    hopeless = node(Thing("a", world), gate=Bar(asyncio.Event()), deadline_s=0.01)
    await run(world, [hopeless], events=events)
    assert world.log == []
    assert world.there == {"a"}
    assert not [event for event in events if isinstance(event, StepStarted)]


async def test_second_run_changes_nothing() -> None:
    world = World()
    nodes = [node(Thing("a", world)), node(Thing("b", world), {"a": READY})]
    await run(world, nodes)
    world.log.clear()
    assert (await run(world, nodes)).outcome is Outcome.UNCHANGED
    assert world.log == []


async def test_removal_goes_on_after_a_failure() -> None:
    world = World({"a", "b", "c"})

    class Stuck(Thing):
        async def remove(self) -> Outcome:
            raise ResourceError(self.name, "remove", "it holds on")

    nodes = [
        node(Thing("a", world)),
        node(Stuck("b", world), {"a": READY}),
        node(Thing("c", world), {"b": READY}),
    ]
    result = await run(world, nodes, Action.REMOVE)
    assert result.failed == ("b",)
    assert world.there == {"b"}
    assert world.log == ["-c", "-a"]


async def test_rebuild_makes_anew_what_is_as_wanted() -> None:
    world = World({"a", "b"})
    nodes = {name: node(Thing(name, world)) for name in "ab"}
    executor = Executor(nodes, emit=lambda _: None, max_workers=2)
    await executor.run(Action.ENSURE, rebuild={"a"})
    assert world.log == ["-a", "+a", "a!"]


async def test_bug_in_a_resource_ends_the_run_as_what_it_is() -> None:
    class Buggy(Thing):
        async def ensure(self) -> Outcome:
            raise KeyError("bug")

    world = World()
    with pytest.raises(ExceptionGroup) as raised:
        await run(world, [node(Buggy("a", world)), node(Thing("b", world, steps=100))])
    assert raised.group_contains(KeyError)


async def test_events_of_a_node_come_in_order_with_who_released_it() -> None:
    world, events = World(), list[Event]()
    opened = asyncio.Event()
    opened.set()
    nodes = [
        node(Thing("a", world)),
        node(Thing("b", world), {"a": READY}, gate=Bar(opened)),
        node(Thing("c", world), {"a": READY}),
    ]
    await run(world, nodes, events=events)

    def kinds(name: str) -> list[type[Event]]:
        return [type(event) for event in events if getattr(event, "node", "") == name]

    assert kinds("b") == [StepQueued, SlotTaken, StepStarted, StepProvisioned, StepFinished]
    assert kinds("c") == [StepQueued, SlotTaken, StepStarted, StepFinished]  # nothing to wait for
    queued = next(e for e in events if isinstance(e, StepQueued) and e.node == "b")
    assert queued.released_by == "a"


class Quick(Thing):
    """A thing that can do without the look that `ensure` begins with."""

    async def ensure_from_nothing(self) -> Outcome:
        self.world.log.append(f"quick {self.name}")
        return await super().ensure()


async def test_what_was_seen_to_be_absent_is_not_looked_at_again() -> None:
    world = World()
    assert (await run(world, [node(Quick("a", world))])).outcome is Outcome.CHANGED
    assert world.log == ["quick a", "+a", "a!"]


async def test_after_a_failure_and_of_a_part_nothing_is_taken_for_granted() -> None:
    world = World()
    await run(world, [node(Quick("a", world, failures=1))])
    assert world.log == ["quick a", "+a", "-a", "+a", "a!"]

    class Half(Quick):
        async def observe(self) -> Observation:
            return Observation(State.PARTIAL, "half of it is there")

    world = World()
    await run(world, [node(Half("b", world))])
    assert world.log == ["+b", "b!"]


@given(graphs(), st.integers(1, 4), st.data())
def test_random_failures_leave_exactly_what_could_come_about(
    needs: dict[str, dict[str, Stage]], workers: int, data: st.DataObject
) -> None:
    failures = {name: data.draw(st.sampled_from([0, 0, 1, 9])) for name in needs}

    async def main() -> tuple[World, Result]:
        world = World()
        nodes = [
            node(Thing(name, world, failures=failures[name]), stages)
            for name, stages in needs.items()
        ]
        return world, await run(world, nodes, workers=workers)

    world, result = asyncio.run(main())
    expected: set[str] = set()
    for name, stages in needs.items():  # the names are in topological order
        if failures[name] < 3 and all(need in expected for need in stages):
            expected.add(name)
    assert world.there == expected
    assert set(result.failed) | set(result.skipped) == set(needs) - expected
