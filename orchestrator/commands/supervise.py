"""`supervise`: the supervisor in the foreground, as `up` starts it in the background."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import click

from orchestrator import resident
from orchestrator.commands.target import Target, target_options
from orchestrator.front.house import open_house
from orchestrator.supervisor import Supervisor

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

        with contextlib.suppress(asyncio.CancelledError):
            async with open_house(app, supervisor, tell, end=end, options=target.short_words()):
                await supervisor.run()

    with resident.hold(app.lab, app.fingerprint()):
        tell(f"supervising {app.lab.name}: {len(app.nodes)} nodes")
        asyncio.run(work())
        tell("ended; what runs goes on without me")
