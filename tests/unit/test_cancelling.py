"""A run that is cancelled: nothing more begins, nothing half-built stays."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from graphs import graphs
from hypothesis import given
from hypothesis import strategies as st
from things import Thing, World, node, run

from orchestrator.engine.executor import Executor
from orchestrator.engine.plan import Stage
from orchestrator.events import Action, Event, Outcome, StepFinished

READY = Stage.READY


async def test_cancelled_while_it_waits_for_a_slot_a_node_says_so_and_never_begins() -> None:
    world, events, began = World(), list[Event](), asyncio.Event()

    async def hold() -> None:
        began.set()
        await asyncio.Event().wait()

    first = node(Thing("first", world, before=hold))
    nodes = [first, node(Thing("next", world), {"first": READY}), node(Thing("waits", world))]
    task = asyncio.create_task(run(world, nodes, workers=1, events=events))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.log == ["+first", "-first"]
    ends = {each.node: each.outcome for each in events if isinstance(each, StepFinished)}
    assert ends == dict.fromkeys(["first", "waits"], Outcome.CANCELLED)


async def test_what_ends_as_the_run_is_cancelled_lets_nothing_begin() -> None:
    """A thread's work, say, that nobody can stop."""
    world, events, began = World(), list[Event](), asyncio.Event()

    async def deaf() -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    nodes = [node(Thing("first", world, before=deaf)), node(Thing("next", world), {"first": READY})]
    task = asyncio.create_task(run(world, nodes, events=events))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.log == ["+first", "first!"]
    ends = {each.node: each.outcome for each in events if isinstance(each, StepFinished)}
    assert ends == {"first": Outcome.CHANGED, "next": Outcome.CANCELLED}


@given(graphs(largest=6), st.integers(0, 60), st.integers(1, 3), st.data())
def test_cancelling_at_any_moment_leaves_no_half_built_thing(
    needs: dict[str, dict[str, Stage]], turns: int, workers: int, data: st.DataObject
) -> None:
    before = data.draw(st.sets(st.sampled_from(sorted(needs))))

    async def main() -> World:
        world = World(set(before))
        nodes = {name: node(Thing(name, world), stages) for name, stages in needs.items()}
        executor = Executor(nodes, emit=lambda _: None, max_workers=workers, sleep=world.sleep)
        task = asyncio.ensure_future(executor.run(Action.ENSURE))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        return world

    world = asyncio.run(main())
    assert not [thing for thing in world.there if thing.startswith("half")]
    assert before <= world.there
    finished = {entry[:-1] for entry in world.log if entry.endswith("!")}
    undone = {entry[1:] for entry in world.log if entry.startswith("-")}
    assert world.there == before | (finished - undone)
    assert not undone & before
