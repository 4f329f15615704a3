"""What `up`, `down` and `secrets rotate` do with the lab's supervisor."""

from __future__ import annotations

import os

from msgspec import Struct

from orchestrator import pagenote, resident
from orchestrator.app import App
from orchestrator.attendance import Attendance
from orchestrator.commands.target import Target
from orchestrator.commands.telling import say
from orchestrator.commands.watching import complain
from orchestrator.engine.executor import Result
from orchestrator.events import Outcome


class Staying(Attendance, Struct):
    """Of `up`: one is there afterwards that knows what is wanted now. It starts last, so that it
    costs no time; `live` ones first, since the page is theirs."""

    app: App
    target: Target
    wanted: bool
    live: bool
    as_json: bool
    is_left: bool = False  # one that was there before
    is_early: bool = False

    async def begin(self, held: int) -> None:
        app = self.app
        present = resident.find(app.lab)
        half_rotated = app.compiler.secrets.rotation() is not None
        outdated = present is not None and (half_rotated or present.digest != app.fingerprint())
        self.is_left = present is not None and self.wanted and not outdated
        if not self.is_left:
            resident.stop(app.lab)  # it would bring back what was before
            if self.live:
                words = ("--after", str(os.getpid()))
                present = await supervised(app, self.target, held, *words)
                self.is_early = present is not None
        if self.live and present is not None:
            say(f"page: {pagenote.wait(app.lab, present.pid)}", err=self.as_json)

    async def end(self, held: int, result: Result | None) -> None:
        if result is None or result.outcome is Outcome.FAILED:
            if self.is_early:
                resident.stop(self.app.lab)
        elif self.wanted and not (self.is_left or self.is_early):
            await supervised(self.app, self.target, held)


class Resting(Attendance, Struct):
    """Of `secrets rotate`: it is away meanwhile, and one comes back however that ends. It takes
    what it knows for what is wanted, and would restart services with that."""

    app: App
    target: Target
    was_there: bool = False

    async def begin(self, held: int) -> None:  # noqa: ARG002
        self.was_there = resident.stop(self.app.lab)

    async def end(self, held: int, result: Result | None) -> None:  # noqa: ARG002
        if self.was_there:
            await supervised(self.app, self.target, held)


class Ending(Attendance, Struct):
    """Of `down`."""

    app: App

    async def begin(self, held: int) -> None:  # noqa: ARG002
        resident.stop(self.app.lab)


async def supervised(app: App, target: Target, held: int, *more: str) -> resident.Resident | None:
    """Starts the supervisor; complains if it does not come up."""
    found = await resident.start(app.lab, [*target.words(), *more], held)
    if found is None:
        complain(f"the supervisor did not come up; see {app.lab.log('supervisor')}")
    return found
