"""Runs one command of the orchestrator and dies by SIGKILL right after the n-th record.

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
from orchestrator.commands.target import Target
from orchestrator.events import Record


class Killer:
    """A sight that counts, and ends the process without any chance to tidy up."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, record: Record) -> None:  # noqa: ARG002
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def main() -> None:
    command, at, host, state, run_dir, stack = sys.argv[1:7]
    target = Target(Path(stack), host, Path(state), Path(run_dir))
    app = target.enter(create=command == "up")
    killer = Killer(int(at))

    async def work() -> None:
        if command == "up":
            await app.up([killer], complain=sys.stderr.write)
        elif command == "down":
            await app.down([killer], volumes=False, complain=sys.stderr.write)
            await target.leave(app)
        elif command == "rotate":
            await rotation.rotate(app, (), [killer], complain=sys.stderr.write)
        else:
            found = await app.blast_radius(command, cascade=False, with_deps=True)
            await app.replay(found, [killer], complain=sys.stderr.write)

    asyncio.run(work())


if __name__ == "__main__":
    main()
