"""Runs one command of the orchestrator and dies by SIGKILL right after the n-th record, or by
a timer after so many seconds: either way without any chance to tidy up.

The journal's sight comes first, so the record is written and nothing after it is done: the
intents stand before each mutation, the outcomes after it, so every boundary is one record.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from orchestrator import rotation
from orchestrator.app import App
from orchestrator.commands.target import Target
from orchestrator.engine.bus import Sight
from orchestrator.events import Record
from orchestrator.lock import lock
from orchestrator.rebuild import blast_radius, rebuild


class Killer:
    """A sight that counts, and ends the process."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, record: Record) -> None:  # noqa: ARG002
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def main(words: list[str]) -> None:
    command, kill, host, state, run_dir, stack = words
    sights: list[Sight] = []
    if kill.endswith("s"):
        # Nobody handles the timer's signal: the kernel ends the process, as SIGKILL does.
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, float(kill[:-1])))
    else:
        sights.append(Killer(int(kill)))
    target = Target(Path(stack), host, Path(state), Path(run_dir))
    app = target.enter(create=command in ("up", "change"))
    asyncio.run(work(target, app, command, sights))


async def work(target: Target, app: App, command: str, sights: list[Sight]) -> None:
    def complain(text: str) -> None:
        sys.stderr.write(text)

    if command in ("up", "change"):
        await app.up(sights, complain=complain)
    elif command == "down":
        await app.down(sights, volumes=False, complain=complain)
        await target.leave(app)
    elif command == "rotate":
        await rotation.rotate(app, (), sights, complain=complain)
    elif command == "heal":
        await app.heal(await app.broken(app.nodes), {}, complain=complain, sights=sights)
    else:
        async with lock(app.lab, "replay"):
            found = await blast_radius(app, command, cascade=False, with_deps=True)
            await rebuild(app, found, sights, complain=complain)


if __name__ == "__main__":
    main(sys.argv[1:])
