"""`supervise`: the supervisor in the foreground, as `up` starts it in the background."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import click

from orchestrator import preparing, resident
from orchestrator.app import App
from orchestrator.beat import beat
from orchestrator.commands.options import target_options
from orchestrator.commands.target import Target
from orchestrator.errors import OrchestratorError
from orchestrator.front.house import open_house
from orchestrator.lock import PATIENCE_S, lock
from orchestrator.processes import child
from orchestrator.processes.prepared import RefusedError
from orchestrator.supervisor import Supervisor

HELD_LOOK_S = 1.0
COLLECT_EVERY = 700  # new objects, as Python has it: what lives for days keeps little garbage
ANSWER_S = 0.1  # for the last bytes of the answer to `down`


@click.command()
@click.option("--after", type=int, hidden=True, help="Heal nothing before this process ended.")
@click.option("--held", type=int, hidden=True, help="Descriptor of the lab's lock, inherited.")
@target_options
def supervise(target: Target, after: int | None, held: int | None) -> None:
    """Watch the lab and mend what breaks, until Ctrl-C. Adopts what runs; restarts nothing.

    `up` starts it in the background by itself; this is for a look at its work, or after it
    was ended.
    """
    if held is not None:
        os.set_inheritable(held, False)  # what this starts is to hold nothing
    app = target.enter()

    def tell(text: str) -> None:
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    async def work(is_held: Callable[[], bool]) -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        supervisor = Supervisor(app, tell)

        async def end() -> None:
            await target.leave(app)
            asyncio.get_running_loop().call_later(ANSWER_S, task.cancel)

        with contextlib.suppress(asyncio.CancelledError):
            async with (
                open_house(app, supervisor, tell, end=end, options=target.short_words()),
                ending_when_replaced(is_held, tell),
            ):
                if after is not None:
                    await child.wait_for_exit(after)
                await watch_over(app, supervisor, tell)

    with contextlib.ExitStack() as stack:
        is_held = asyncio.run(settle(app, stack, held))
        tell(f"supervising {app.lab.name}: {len(app.nodes)} nodes")
        asyncio.run(work(is_held))
        tell("ended; what runs goes on without me")


async def settle(app: App, stack: contextlib.ExitStack, held: int | None) -> Callable[[], bool]:
    """Becomes the lab's supervisor while the lab is held, by who started this and gave `held`,
    or by us: before or after any other command. Raises BusyError."""

    def become() -> Callable[[], bool]:
        app.lab.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return stack.enter_context(resident.hold(app.lab, app.fingerprint()))

    if held is None:
        async with lock(app.lab, "supervise", patience_s=PATIENCE_S):
            return become()
    is_held = become()
    os.close(held)
    return is_held


async def watch_over(app: App, supervisor: Supervisor, tell: Callable[[str], None]) -> None:
    """Mends what breaks, and prepares for the next lab meanwhile."""
    gc.collect()
    gc.freeze()  # what is there now stays: no collection need look at it again
    gc.set_threshold(COLLECT_EVERY)
    ahead = asyncio.ensure_future(prepare_once(app, tell))
    try:
        await supervisor.run()
    finally:
        ahead.cancel()
        await asyncio.wait([ahead])  # what it has started ends first


async def prepare_once(app: App, tell: Callable[[str], None]) -> None:
    """Makes for the next lab what this one has not found; nothing depends on it."""
    try:
        if preparing.lacking(app):
            for node, what in (await preparing.prepare(app)).items():
                tell(f"{node}: prepared for the next lab: {what}")
    except (OrchestratorError, RefusedError, OSError) as error:
        tell(f"nothing is prepared for the next lab: {error}")


@contextlib.asynccontextmanager
async def ending_when_replaced(
    is_held: Callable[[], bool], tell: Callable[[str], None]
) -> AsyncIterator[None]:
    """For the length of the block, however that ends: the task that is in it ends once the
    supervisor's lock was deleted, for the next one would not know of it."""
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.ensure_future(_end_when_replaced(is_held, task, tell))
    try:
        yield
    finally:
        watch.cancel()


async def _end_when_replaced(
    is_held: Callable[[], bool], task: asyncio.Task[Any], tell: Callable[[str], None]
) -> None:
    while True:
        await beat(HELD_LOOK_S)
        if not is_held():
            break
    tell("the run directory was taken away, and my lock with it")
    task.cancel()
