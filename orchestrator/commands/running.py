"""What `up` and `down` do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import TypeVar

from orchestrator import frozen, interrupts, resident
from orchestrator.app import App
from orchestrator.commands.attending import Ending, Staying
from orchestrator.commands.target import Target
from orchestrator.commands.telling import say
from orchestrator.commands.watching import Finished, complain, watching
from orchestrator.diskspace import full_places
from orchestrator.engine.executor import Result
from orchestrator.errors import INTERRUPTED, BusyError, OrchestratorError, UsageError
from orchestrator.events import CancelRequested, Outcome
from orchestrator.front.pulse import ailment
from orchestrator.hints import hinted
from orchestrator.lock import is_held, refuse_if_busy
from orchestrator.presence import words
from orchestrator.sights.console import failure_report

T = TypeVar("T")
MAX_WORKERS = 32  # nodes that are worked on at once, unless the user says otherwise


def bring_up(
    target: Target,
    *,
    no_supervise: bool,
    live: bool,
    thaw: bool,
    as_json: bool,
    max_workers: int = MAX_WORKERS,
) -> None:
    """Exits with 1 if a node failed, with 130 if it was interrupted. Raises OrchestratorError."""
    interrupts.end()
    if live and no_supervise:
        raise UsageError("--live shows the supervisor's page: not with --no-supervise")
    if not target.open().is_sound():
        from orchestrator.validation import check_templates  # dear to load

        check_templates(target.open(), str(target.stack_file))
    app = target.enter(create=True, max_workers=max_workers)
    refuse_if_busy(app.lab)
    if thaw:
        frozen.release(app.lab)
    frozen.refuse(app.lab, "up")
    if what := ailment(app.lab):
        complain(f"{what}; it is ended" + ("" if no_supervise else ", a new one takes its place"))
        resident.stop(app.lab)  # before the run: it may hold the lab
    supervisor = Staying(app, target, wanted=not no_supervise, live=live, as_json=as_json)
    begun = time.monotonic()
    finished = Finished()
    for place in full_places(app.lab):
        complain(place)

    async def work() -> Result:
        try:
            with watching(app.layers, as_json=as_json) as sights:
                sights.append(finished)
                result = await app.up(sights, complain=complain, supervisor=supervisor)
        except BusyError:
            raise  # the host is in use by whoever was first
        except BaseException:
            await target.leave(app)
            raise
        await target.leave(app)
        return result

    result = run_to_end(app, work())
    if result.outcome is Outcome.FAILED:
        say(failure_report(finished.steps), err=True)
        for place in full_places(app.lab):
            say(f"the cause may be: {place}", err=True)
        text = (
            "what came up stays up; `orchestrator why` says what is in the way, "
            "`orchestrator up` again goes on from here"
        )
        say(hinted(text), err=True)
        sys.exit(1)
    if as_json:
        return
    seconds = time.monotonic() - begun
    count = len(result.outcomes)
    if result.outcome is Outcome.UNCHANGED:
        say(f"already up: {count} nodes are as wanted, nothing was changed")
        return
    say(f"up: {count} nodes in {seconds:.2f} s")
    for name, service in app.stack.services.items():
        for port in service.ports:
            prefix = f"ip netns exec {app.lab.host} " if app.lab.host else ""
            say(f"  {name}: {prefix}curl http://localhost:{port.host}/")
    for line in words(app.left_out):
        say(f"  {line}")


def take_down(target: Target, *, volumes: bool, as_json: bool) -> None:
    """Exits with 1 if a node failed, with 130 if it was interrupted. Raises OrchestratorError."""
    interrupts.end()
    if target.is_absent():
        app = target.open()
        there = app.lab.state_dir.exists()
        app.forget(volumes=volumes)
        say(f"nothing is up{_data(app, there, volumes=volumes)}", err=as_json)
        return
    app = target.enter()
    refuse_if_busy(app.lab)
    if is_held(app.lab):
        resident.stop(app.lab)  # it heals: that ends now
    begun = time.monotonic()
    finished = Finished()
    there = app.lab.state_dir.exists()

    async def work() -> Result:
        with watching(app.layers, as_json=as_json) as sights:
            sights.append(finished)
            ending = Ending(app)
            result = await app.down(sights, volumes=volumes, complain=complain, supervisor=ending)
        await target.leave(app)
        return result

    left = "the rest is still up; `orchestrator down` again goes on"
    result = run_to_end(app, work(), left=left)
    if result.outcome is Outcome.FAILED:
        say(failure_report(finished.steps), err=True)
        sys.exit(1)
    if not as_json:
        text = "nothing was up" if result.outcome is Outcome.UNCHANGED else "down"
        data = _data(app, there, volumes=volumes)
        say(f"{text} ({time.monotonic() - begun:.2f} s){data}")


def _data(app: App, was_there: bool, *, volumes: bool) -> str:
    """What became of the lab's data. Raises OrchestratorError if it should be gone and is not."""
    place = app.lab.state_dir
    if volumes and place.exists():
        raise OrchestratorError(f"cannot delete all of {place}")
    if not was_there:
        return "; there was no data to delete" if volumes else ""
    if volumes:
        return f"; deleted data, secrets, logs and journal in {place}"
    return f"; data stays in {place}"


def run_to_end(
    app: App, work: Coroutine[None, None, T], *, left: str = "what worked stays up"
) -> T:
    """The work's result; an interrupted run ends the process with 130, and says what is left.

    SIGINT and SIGTERM cancel it once; a second one ends the process at once, and so does the
    first before the work begins or after its end.
    """
    interrupts.end()

    async def stoppable() -> T:
        task = asyncio.current_task()
        seen: list[str] = []

        def stop(number: signal.Signals) -> None:
            if seen:
                os._exit(INTERRUPTED)
            seen.append(number.name)
            app.emit(CancelRequested(number.name))
            if task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        say(hinted(f"interrupted: {left}"), err=True)
        sys.exit(INTERRUPTED)
    finally:
        interrupts.end()  # the loop has left KeyboardInterrupt behind
