"""`supervise`: the supervisor in the foreground, as `up` starts it in the background."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import click

from orchestrator import resident
from orchestrator.app import App
from orchestrator.commands.target import Target, target_options
from orchestrator.front.control import Control, listen
from orchestrator.front.metrics import LoopLag, Metrics, PathCollector
from orchestrator.front.serve import serving
from orchestrator.path.watch import PathWatch
from orchestrator.supervisor import Supervisor
from orchestrator.view.kernelview import KernelView

ANSWER_S = 0.1  # for the last bytes of the answer to `down`


@click.command()
@target_options
def supervise(target: Target) -> None:
    """Watch the lab and mend what breaks, until Ctrl-C. Adopts what runs; restarts nothing.

    `up` starts it in the background by itself; this is for a look at its work, or after it
    was ended.
    """
    app = target.enter()
    app.lab.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def tell(text: str) -> None:
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        supervisor = Supervisor(app, tell)

        async def end() -> None:
            await target.leave(app)
            asyncio.get_running_loop().call_later(ANSWER_S, task.cancel)

        watch, metrics = path_watch(app), Metrics()
        control = Control(app, rest=supervisor.rest, end=end, watch=watch, metrics=metrics)
        with contextlib.suppress(asyncio.CancelledError):
            async with (
                serving(control.application(), [listen(app.lab)]),
                asyncio.TaskGroup() as tasks,
            ):
                tasks.create_task(LoopLag(metrics).run())
                view = KernelView(app)
                metrics.add(view.collector, before=view.refresh)
                if watch is not None:
                    metrics.add(PathCollector(watch))
                    tasks.create_task(watch.run())
                await supervisor.run()

    with resident.hold(app.lab, app.fingerprint()):
        tell(f"supervising {app.lab.name}: {len(app.nodes)} nodes")
        asyncio.run(work())
        tell("ended; what runs goes on without me")


def path_watch(app: App) -> PathWatch | None:
    """The request path of this stack; None if no service of it logs one."""
    probe = None
    if (name := app.stack.supervision.probe) is not None:
        step = app.stack.checks[name].steps[0]
        probe = (step.url, step.headers)
    for name, service in app.stack.services.items():
        if service.path_log is not None:
            log = app.lab.path_logs(name) / Path(service.path_log).name
            one_in = app.stack.supervision.trace_one_in
            mark = f"{app.lab.mark}/service:{name}"
            return PathWatch(name, log, mark, one_in=one_in, probe=probe)
    return None
